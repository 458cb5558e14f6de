//! `[postgres]` and `[redis]`: where changes come from and keys go from.

use super::codes;
use super::environment::Environment;
use super::model::{Bell, Delivery, OnGap, PgUrl, Postgres, Redis, RedisUrl, Secret};
use super::pg_url::{self, UrlProblem};
use super::pgpass;
use super::problem::{Place, Problem};
use super::reader::{At, Found, Reader, Section, hide};
use super::redis_url;
use std::time::Duration;
use toml::de::DeTable;

/// The text of a password setting and whether a variable gave it.
fn password<'a>(reader: &mut Reader<'a>, section: &mut Section<'a>, path: &str) -> [Option<Secret>; 2] {
    let in_file = section.in_file("password");
    if let Some(Found::Toml(value)) = &in_file {
        hide(value, &mut reader.secrets);
        // To the end of the line: a quote and a `#` in a password make a comment of its end.
        let end = value.span().end;
        let rest = reader.source.get(end..).and_then(|s| s.lines().next()).unwrap_or_default();
        reader.secrets.push(end..end + rest.len());
    }
    let variable = section.in_variable(reader, "password");
    [variable, in_file].map(|found| found.and_then(|f| reader.name(f, path)).map(|t| Secret::new(t.value)))
}

fn credential(reader: &mut Reader<'_>, name: &str) -> Option<Secret> {
    match reader.environment.credential(name) {
        Ok(secret) => secret,
        Err((path, why)) => {
            let message = format!("cannot read the credential {}: {why}", path.display());
            reader.push(Problem::error(codes::CREDENTIAL, Place::None, message));
            None
        }
    }
}

fn report(reader: &mut Reader<'_>, place: &Place, path: &str, problems: Vec<UrlProblem>) {
    for problem in problems {
        let out = reader.error(problem.code, place, format!("`{path}`: {}", problem.message));
        out.help.extend(problem.help);
    }
}

/// Hides the user information of a URL, by the text's own bounds: quotes may stand in a password. A URL may hold a
/// password anywhere once it is oddly spelled: then nothing of it is shown.
fn hide_secrets(reader: &mut Reader<'_>, url: &At<String>) {
    let Place::Span(span) = &url.place else { return };
    let raw = reader.source.get(span.clone()).unwrap_or_default();
    let lower = url.value.to_ascii_lowercase();
    let plain = raw.contains(url.value.as_str()) && !raw.contains('\n') && lower.contains("://");
    if !plain && (url.value.contains('@') || lower.contains("pass") || lower.contains(':')) {
        reader.secrets.push(span.clone());
        return;
    }
    // To the end of the line: a quote and a `#` in a password make a comment of its end.
    let line = reader.source.get(span.start..).and_then(|s| s.lines().next()).unwrap_or_default();
    if let (Some(scheme), Some(at)) = (raw.find("://"), line.rfind('@')) {
        reader.secrets.push(span.start + scheme + 3..span.start + at);
    }
}

/// Reads `[postgres]`.
pub(super) fn postgres<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>, broken: bool) -> Option<Postgres> {
    let mut s = Section::global("postgres", table);
    let url = s.get(reader, "url").map(|f| reader.text(f, "postgres.url"));
    let [from_variable, from_file] = password(reader, &mut s, "postgres.password");
    let url = match url {
        Some(url) => url.and_then(|text| pg(reader, &text, "postgres", from_variable, from_file)),
        None => {
            if !broken {
                let message = "`postgres.url` is missing: where do changes come from?";
                reader.push(
                    Problem::error(codes::MISSING, Place::None, message)
                        .help("add to [postgres]: url = \"postgresql://pgevict@localhost:5432/app\""),
                );
            }
            None
        }
    };
    let choices = [("journal", Delivery::Journal), ("notify", Delivery::Notify)];
    let delivery = s.get(reader, "delivery").and_then(|f| reader.choice(f, "postgres.delivery", &choices));
    let schema = identifier(reader, &mut s, "schema");
    let channel = identifier(reader, &mut s, "channel");
    let bell = [("auto", Bell::Auto), ("never", Bell::Never)];
    let bell = s.get(reader, "bell").and_then(|f| reader.choice(f, "postgres.bell", &bell));
    let on_gap = [("evict", OnGap::Evict), ("alert", OnGap::Alert)];
    let on_gap = s.get(reader, "on_gap").and_then(|f| reader.choice(f, "postgres.on_gap", &on_gap));
    let retention = s.get(reader, "retention").and_then(|f| reader.duration(f, "postgres.retention", "10s"..="365d"));
    let retention_max =
        s.get(reader, "retention_max").and_then(|f| reader.duration(f, "postgres.retention_max", "10s"..="365d"));
    let journal_max_bytes = s.get(reader, "journal_max_bytes").and_then(|f| {
        let place = f.place();
        let size = reader.size(f, "postgres.journal_max_bytes")?;
        if size < 1_000_000 {
            reader.error(codes::OUT_OF_RANGE, &place, "`postgres.journal_max_bytes` is at least 1MB");
        }
        Some(size)
    });
    s.finish(reader);
    let hour = Duration::from_secs(3600);
    let kept = retention.as_ref().map_or(hour, |r| r.value);
    // A retention beyond the default maximum raises it: only a written contradiction is an error.
    let most = retention_max.as_ref().map_or((hour * 24).max(kept), |r| r.value);
    if let Some(max) = retention_max.as_ref().filter(|m| m.value < kept) {
        let mut problem = Problem::error(
            codes::RETENTION,
            max.place.clone(),
            "`postgres.retention_max` is less than `postgres.retention`",
        );
        if let Some(retention) = &retention {
            problem = problem.context(&retention.place, "kept at least this long");
        }
        reader.push(problem);
    }
    Some(Postgres {
        url: url?,
        delivery: delivery.map(|d| d.value).unwrap_or_default(),
        schema,
        channel,
        bell: bell.map(|b| b.value).unwrap_or_default(),
        on_gap: on_gap.map(|g| g.value).unwrap_or_default(),
        retention: kept,
        retention_max: most,
        journal_max_bytes: journal_max_bytes.unwrap_or(1_000_000_000),
    })
}

/// A PostgreSQL identifier; default `pgevict`. 63 bytes are what the server keeps of a name.
fn identifier<'a>(reader: &mut Reader<'a>, s: &mut Section<'a>, name: &'static str) -> String {
    let path = s.path(name);
    let text = s.get(reader, name).and_then(|f| reader.name(f, &path));
    if let Some(text) = text.as_ref().filter(|t| t.value.len() > 63) {
        reader.error(codes::OUT_OF_RANGE, &text.place, format!("`{path}` is longer than 63 bytes"));
    }
    if let Some(text) = text.as_ref().filter(|t| t.value.starts_with("pg_") && name == "schema") {
        reader.error(
            codes::OUT_OF_RANGE,
            &text.place,
            format!("`{path}`: PostgreSQL keeps names with `pg_` for itself"),
        );
    }
    text.map_or_else(|| "pgevict".to_owned(), |t| t.value)
}

/// `url` and `password` of another section: a second role, or another server.
pub(super) fn other_postgres<'a>(reader: &mut Reader<'a>, s: &mut Section<'a>, section: &'static str) -> Option<PgUrl> {
    let url = s.get(reader, "url").map(|f| reader.text(f, &s.path("url")));
    let [from_variable, from_file] = password(reader, s, &s.path("password"));
    pg(reader, &url??, section, from_variable, from_file)
}

/// Reads the connection text of `section`, with the password that it, a setting or a credential gives.
fn pg(
    reader: &mut Reader<'_>,
    text: &At<String>,
    section: &str,
    variable: Option<Secret>,
    file: Option<Secret>,
) -> Option<PgUrl> {
    let parsed = pg_url::parse(&text.value, reader.environment.user());
    hide_secrets(reader, text);
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(problems) => {
            report(reader, &text.place, &format!("{section}.url"), problems);
            return None;
        }
    };
    let url = &mut parsed.url;
    url.password = first_password(&text.place, url.password.take(), variable, file);
    if url.password.is_none() {
        url.password = credential(reader, &format!("{section}.password"));
    }
    ask_passfile(reader, url, parsed.passfile.as_deref());
    Some(parsed.url)
}

fn ask_passfile(reader: &mut Reader<'_>, url: &mut PgUrl, passfile: Option<&std::path::Path>) {
    if url.password.is_some() {
        return;
    }
    match pgpass::find(url, passfile, reader.environment) {
        pgpass::Found::Nothing => {}
        pgpass::Found::Password(password) => url.password = Some(password),
        pgpass::Found::Ignored(path, why) => {
            let message = format!("{} is ignored: {why}", path.display());
            let help = format!("chmod 0600 {}", path.display());
            reader.push(Problem::warning(codes::PGPASS, Place::None, message).help(help));
        }
    }
}

/// `replica_url` of a section. A standby has the primary's roles: `primary`'s password goes for the same user.
pub(super) fn replica<'a>(reader: &mut Reader<'a>, s: &mut Section<'a>, primary: Option<&PgUrl>) -> Option<PgUrl> {
    let path = s.path("replica_url");
    let text = s.get(reader, "replica_url").map(|f| reader.text(f, &path))??;
    let parsed = pg_url::parse(&text.value, reader.environment.user());
    hide_secrets(reader, &text);
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(problems) => {
            report(reader, &text.place, &path, problems);
            return None;
        }
    };
    if parsed.url.password.is_none() {
        parsed.url.password = primary.filter(|p| p.user == parsed.url.user).and_then(|p| p.password.clone());
    }
    ask_passfile(reader, &mut parsed.url, parsed.passfile.as_deref());
    Some(parsed.url)
}

/// Another connection text than `postgres.url`, with the password it holds or `~/.pgpass` has: those of the configuration
/// belong to the daemon's role.
pub(super) fn connection(text: &str, environment: &Environment) -> Result<PgUrl, String> {
    let mut parsed = pg_url::parse(text, environment.user()).map_err(|problems| {
        let one = |p: UrlProblem| p.help.into_iter().fold(p.message, |text, help| format!("{text} ({help})"));
        problems.into_iter().map(one).collect::<Vec<_>>().join("; ")
    })?;
    if parsed.url.password.is_none() {
        parsed.url.password = match pgpass::find(&parsed.url, parsed.passfile.as_deref(), environment) {
            pgpass::Found::Nothing => None,
            pgpass::Found::Password(password) => Some(password),
            pgpass::Found::Ignored(path, why) => return Err(format!("{} is ignored: {why}", path.display())),
        };
    }
    Ok(parsed.url)
}

/// What variables say goes before what the file says; within each, the URL before the setting.
fn first_password(
    url_place: &Place,
    in_url: Option<Secret>,
    variable: Option<Secret>,
    file: Option<Secret>,
) -> Option<Secret> {
    match url_place {
        Place::Variable(_) => in_url.or(variable).or(file),
        _ => variable.or(in_url).or(file),
    }
}

/// Reads `[redis]`.
pub(super) fn redis<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>, broken: bool) -> Option<Redis> {
    let mut s = Section::global("redis", table);
    let url = s.get(reader, "url").map(|f| reader.text(f, "redis.url"));
    let [from_variable, from_file] = password(reader, &mut s, "redis.password");
    let state = s.get(reader, "state").and_then(|f| reader.name(f, "redis.state"));
    if let Some(state) = state.as_ref().filter(|s| s.value.len() > 200) {
        reader.error(codes::OUT_OF_RANGE, &state.place, "`redis.state` is longer than 200 bytes");
    }
    s.finish(reader);
    let url = match url {
        Some(url) => url.and_then(|text| redis_address(reader, &text, from_variable, from_file)),
        None => {
            if !broken {
                let message = "`redis.url` is missing: where do keys go from?";
                reader.push(
                    Problem::error(codes::MISSING, Place::None, message)
                        .help("add to [redis]: url = \"redis://localhost:6379/0\""),
                );
            }
            None
        }
    };
    Some(Redis { url: url?, state: state.map_or_else(|| "{pgevict}".to_owned(), |s| s.value) })
}

fn redis_address(
    reader: &mut Reader<'_>,
    text: &At<String>,
    variable: Option<Secret>,
    file: Option<Secret>,
) -> Option<RedisUrl> {
    let parsed = redis_url::parse(&text.value);
    hide_secrets(reader, text);
    match parsed {
        Ok(mut url) => {
            url.password = first_password(&text.place, url.password.take(), variable, file);
            if url.password.is_none() {
                url.password = credential(reader, "redis.password");
            }
            Some(url)
        }
        Err(problems) => {
            report(reader, &text.place, "redis.url", problems);
            None
        }
    }
}
