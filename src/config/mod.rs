//! Floor 0: the configuration, from text to checked values.
//!
//! [`load`] finds and reads the file, [`parse`] does the rest: it walks the document, takes overrides from an
//! [`Environment`], and returns either a checked [`Config`] with warnings or a [`Report`] of all problems at once.

mod caches;
mod cases;
pub mod codes;
pub mod environment;
mod globals;
mod meaning;
pub mod model;
pub mod pg_url;
mod pgpass;
pub mod problem;
mod reader;
mod redact;
pub mod redis_url;
pub mod scalar;
mod servers;
mod tables;
mod values;
mod warm;

pub use environment::Environment;
pub use problem::{Place, Problem, Report, Severity};

use model::Config;
use reader::{Found, Reader, Section};
use redact::Redacted;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Where pgevict looks when it is not told, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["config.toml", "/etc/pgevict/config.toml"];

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Warnings; never errors. Findings about the servers can be drawn into the same text ([`Report::with`]).
    pub warnings: Report,
    /// The file.
    pub path: PathBuf,
}

/// Finds, reads and checks the configuration. `named` goes before `PGEVICT_CONFIG`, that before [`DEFAULT_PATHS`].
///
/// # Errors
/// All problems at once.
pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Loaded, Report> {
    let path = locate(named, environment)?;
    let bytes = std::fs::read(&path).map_err(|e| {
        let message = format!("cannot read the configuration file {}: {e}", path.display());
        Report::bare(vec![Problem::error(codes::NO_FILE, Place::None, message)])
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count();
        let message = format!("{} is not UTF-8 (line {line})", path.display());
        Report::bare(vec![Problem::error(codes::NOT_UTF8, Place::None, message)])
    })?;
    let (config, warnings) = parse(&text, &path.display().to_string(), environment)?;
    Ok(Loaded { config, warnings, path })
}

fn locate(named: Option<&Path>, environment: &Environment) -> Result<PathBuf, Report> {
    if let Some(path) = named.map(Path::to_owned).or_else(|| environment.get("PGEVICT_CONFIG").map(PathBuf::from)) {
        return Ok(path);
    }
    DEFAULT_PATHS.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
        let message = format!(
            "there is no configuration file: neither {}",
            DEFAULT_PATHS.map(|p| format!("`{p}`")).join(" nor ")
        );
        let problem = Problem::error(codes::NO_FILE, Place::None, message);
        Report::bare(vec![problem.help("name it with `-c FILE` or in PGEVICT_CONFIG")])
    })
}

/// Checks a configuration's text. `file` is the name that problems show.
///
/// # Errors
/// All problems at once, warnings among them.
pub fn parse(text: &str, file: &str, environment: &Environment) -> Result<(Config, Report), Report> {
    // A byte order mark is no TOML, but editors write it; offsets stay right because blanks take its place.
    let unmarked = text.strip_prefix('\u{feff}').map(|rest| format!("   {rest}"));
    let text = unmarked.as_deref().unwrap_or(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text, environment);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        reader.push(
            Problem::error(codes::SYNTAX, Place::Span(clamp(text, span)), "this is not TOML").label(error.message()),
        );
    }
    let broken = !errors.is_empty();
    let config = document_to_config(&mut reader, document.get_ref(), broken);
    let problems = std::mem::take(&mut reader.problems);
    let secrets = std::mem::take(&mut reader.secrets);
    let report = Report::new(problems, file, Redacted::new(text, secrets, broken));
    match config {
        Some(config) if !report.has_errors() => Ok((config, report)),
        _ => Err(report),
    }
}

/// Understands a PostgreSQL connection text from the command line. Its password stands in it or in `~/.pgpass`.
///
/// # Errors
/// What is wrong with it, in one line, without the password.
pub fn connection(text: &str, environment: &Environment) -> Result<model::PgUrl, String> {
    servers::connection(text, environment)
}

/// Every setting as `(section, setting)`, from the code that reads them; sections with names are called
/// `cache.NAME`, `table.NAME`, `table.NAME.evict`, `table.NAME.lookup.HOLE` and `test`.
#[must_use]
pub fn settings() -> Vec<(String, &'static str)> {
    const ONE_OF_EACH: &str =
        "[cache.NAME]\nwarm.http = {}\nwarm.startup = {}\n[table.NAME]\nevict = [{}]\nlookup.HOLE = {}\n[[test]]";
    let environment = Environment::empty();
    let (document, _) = DeTable::parse_recoverable(ONE_OF_EACH);
    let mut reader = Reader::new(ONE_OF_EACH, &environment);
    document_to_config(&mut reader, document.get_ref(), false);
    reader.asked.into_iter().collect()
}

/// A span within the text, at character boundaries.
fn clamp(text: &str, span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let down = |mut i: usize| {
        i = i.min(text.len());
        while !text.is_char_boundary(i) {
            i -= 1;
        }
        i
    };
    let start = down(span.start);
    start..down(span.end).max(start)
}

fn document_to_config<'a>(reader: &mut Reader<'a>, document: &'a DeTable<'a>, broken: bool) -> Option<Config> {
    let mut top = Section::global("", Some(document));
    let mut section = |reader: &mut Reader<'a>, name: &'static str| {
        let found = top.in_file(name)?;
        reader.table(&found, name, "a section in brackets")
    };
    let postgres = section(reader, "postgres");
    let redis = section(reader, "redis");
    let namespace = section(reader, "namespace");
    let limits = section(reader, "limits");
    let warm = section(reader, "warm");
    let admin = section(reader, "admin");
    let log = section(reader, "log");
    let cache = section(reader, "cache");
    let table = section(reader, "table");
    let test = match top.in_file("test") {
        Some(Found::Toml(value)) => Some(value),
        _ => None,
    };
    let mode = top.get(reader, "mode").and_then(|f| reader.choice(f, "mode", &globals::MODES));
    let postgres = servers::postgres(reader, postgres, broken);
    let redis = servers::redis(reader, redis, broken);
    let namespace = globals::namespace(reader, namespace);
    let (limits, never_delete) = globals::limits(reader, limits);
    let warm = warm::warm(reader, warm, postgres.as_ref().map(|p| &p.url));
    let admin = globals::admin(reader, admin);
    let log = globals::log(reader, log);
    let mut caches = caches::caches(reader, cache);
    let tables = tables::tables(reader, table, broken);
    let tests = cases::cases(reader, test, &tables, broken);
    top.finish(reader);
    reader.unknown_variables();
    if !broken {
        meaning::check(
            reader,
            &meaning::Read {
                postgres: postgres.as_ref(),
                namespace: &namespace,
                never_delete: &never_delete,
                caches: &caches,
                tables: &tables,
            },
        );
        warm::check(reader, postgres.as_ref().map(|p| p.delivery), &namespace, &caches);
    }
    warm::guard(&mut caches);
    Some(Config {
        mode: mode.map(|m| m.value).unwrap_or_default(),
        postgres: postgres?,
        redis: redis?,
        namespace,
        limits,
        warm,
        caches: caches.into_iter().filter_map(|c| c.cache).collect(),
        tables: tables.into_iter().map(|t| t.table).collect(),
        admin,
        log,
        tests,
    })
}
