//! The statements of `sql up` and `sql down`.

use super::function::{Capture, dollar, fill, in_schema, uncommented};
use super::{Facts, Settings, Uncompilable, compile};
use crate::config::model::Delivery;
use crate::rules::layout::Layout;
use crate::rules::probe;
use crate::rules::sql::literal;

/// One statement, or a few that belong together; each is safe to run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, for people.
    pub title: String,
    /// The SQL.
    pub sql: String,
}

impl Step {
    fn new(title: impl Into<String>, sql: String) -> Self {
        Self { title: title.into(), sql }
    }
}

/// Everything that `sql up` does, in order.
///
/// # Errors
/// A lookup's parent has no known primary key of one column.
pub fn up(layouts: &[Layout], settings: &Settings, facts: &Facts) -> Result<Vec<Step>, Uncompilable> {
    let probe = probe::layout(&settings.schema);
    let layouts = layouts.iter().chain([&probe]);
    let captures = layouts.map(|l| compile(l, settings, facts)).collect::<Result<Vec<_>, _>>()?;
    let mut steps = schema(settings);
    steps.extend(captures.iter().map(|c| table(c, settings)));
    steps.push(leftovers(&captures, settings));
    steps.push(Step::new(
        format!("rights of role {}", settings.role),
        in_schema(&uncommented(include_str!("../../../sql/grants.sql")), &settings.schema).replace(
            "daemon constant text := 'pgevict'",
            &format!("daemon constant text := {}", literal(&settings.role)),
        ),
    ));
    Ok(steps)
}

/// Everything that `sql down` does: all captures, whatever the configuration says, then the schema.
#[must_use]
pub fn down(settings: &Settings) -> Vec<Step> {
    let rest = in_schema(&uncommented(include_str!("../../../sql/down.sql")), &settings.schema)
        .replace("daemon constant text := 'pgevict'", &format!("daemon constant text := {}", literal(&settings.role)));
    vec![leftovers(&[], settings), Step::new(format!("drop schema {}", settings.schema), rest)]
}

/// The schema, and the journal where delivery needs it.
#[must_use]
pub fn schema(settings: &Settings) -> Vec<Step> {
    let file = |text: &str| in_schema(&uncommented(text), &settings.schema);
    let mut steps =
        vec![Step::new(format!("schema {}", settings.schema), file(include_str!("../../../sql/schema.sql")))];
    if settings.delivery == Delivery::Journal {
        steps.push(Step::new("journal", file(include_str!("../../../sql/journal.sql"))));
        steps.push(Step::new("bound of a journal that nobody reads", file(&relief(settings.journal_max_bytes))));
        steps.push(Step::new("copies of unreadable rows", file(include_str!("../../../sql/poison.sql"))));
        steps.push(Step::new("token of the fill contract", file(include_str!("../../../sql/fills.sql"))));
    }
    steps
}

/// Installs or mends the capture of one table.
#[must_use]
pub fn table(capture: &Capture, settings: &Settings) -> Step {
    let layout = &capture.layout;
    let texts = |items: Vec<String>| {
        format!("ARRAY[{}]::text[]", items.iter().map(|i| literal(i)).collect::<Vec<_>>().join(", "))
    };
    let of = |f: &dyn Fn(&super::Function) -> String| capture.functions.iter().map(f).collect::<Vec<_>>();
    let on = |f: &dyn Fn(&super::Trigger) -> String| texts(capture.triggers.iter().map(f).collect());
    let definitions: Vec<String> = capture.functions.iter().map(|f| dollar("definition", &f.definition)).collect();
    let ours = [super::Level::Statement, super::Level::Row]
        .map(|level| literal(&super::function_name(&layout.table, level)))
        .join(", ");
    let sql = in_schema(&uncommented(include_str!("../../../sql/table.sql")), &settings.schema);
    let sql = fill(
        &sql,
        &[
            ("'__target__'", literal(&layout.table.sql())),
            ("'__suffix__'", literal(&capture.suffix)),
            ("__layout__", layout.id().to_string()),
            ("__table__", literal(&layout.table.to_string())),
            ("__spec__", literal(&spaced(&layout.to_json()))),
            ("__columns__", texts(layout.columns().into_iter().map(str::to_owned).collect())),
            ("__functions__", texts(of(&|f| f.name.clone()))),
            ("__definitions__", format!("ARRAY[{}]::text[]", definitions.join(", "))),
            ("__hashes__", texts(of(&|f| f.hash.clone()))),
            ("__marks__", texts(of(&|f| f.mark.clone()))),
            ("__settings__", texts(of(&|f| f.settings.join("\n")))),
            ("__letters__", on(&|t| t.op.letter().to_string())),
            ("__levels__", on(&|t| t.level.letter().to_string())),
            ("__callees__", on(&|t| t.function.clone())),
            ("__enabled__", on(&|t| t.enabled.to_string())),
            ("__ours__", ours),
        ],
    );
    // The whole must not hold its own quotes.
    let sql = match sql
        .split_once("$pgevict_table$")
        .and_then(|(head, rest)| Some((head, rest.rsplit_once("$pgevict_table$")?)))
    {
        Some((head, (body, tail))) => format!("{head}{}{tail}", dollar("pgevict_table", body)),
        None => sql,
    };
    Step::new(format!("capture of table {}", layout.table), sql)
}

/// Removes the captures of all tables but these.
#[must_use]
pub fn leftovers(keep: &[Capture], settings: &Settings) -> Step {
    let names: Vec<String> = keep.iter().flat_map(|c| &c.functions).map(|f| literal(&f.name)).collect();
    let sql = in_schema(&uncommented(include_str!("../../../sql/leftovers.sql")), &settings.schema);
    let title =
        if keep.is_empty() { "remove all captures" } else { "remove captures of tables that are not configured" };
    Step::new(title, sql.replace("ARRAY[]::text[]", &format!("ARRAY[{}]::text[]", names.join(", "))))
}

/// JSON with a space behind every colon: SQLAlchemy takes `:name` in a migration for a parameter.
fn spaced(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 64);
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            ':' if !inside => out.push(' '),
            _ => {}
        }
    }
    out
}

/// The source of the function `retire`, as `pg_proc.prosrc` must show it.
#[must_use]
pub fn retire_source(schema: &str) -> String {
    let sql = in_schema(include_str!("../../../sql/journal.sql"), schema);
    sql.split("$body$").nth(1).unwrap_or_default().to_owned()
}

/// The same of the function `relieve`.
#[must_use]
pub fn relief_source(schema: &str, most: u64) -> String {
    in_schema(&relief(most), schema).split("$body$").nth(1).unwrap_or_default().to_owned()
}

fn relief(most: u64) -> String {
    let text = include_str!("../../../sql/relief.sql");
    text.replace("bigint := 1000000000;", &format!("bigint := {};", most.min(i64::MAX.unsigned_abs())))
}

/// The same of the function `bury`.
#[must_use]
pub fn bury_source(schema: &str) -> String {
    let sql = in_schema(include_str!("../../../sql/poison.sql"), schema);
    sql.split("$body$").nth(1).unwrap_or_default().to_owned()
}

/// The same of the function `token`, behind its volatility (`s`: one that is VOLATILE would claim to see what the value lacks).
#[must_use]
pub fn token_source(schema: &str) -> String {
    let sql = in_schema(include_str!("../../../sql/fills.sql"), schema);
    format!("s {}", sql.split("$body$").nth(1).unwrap_or_default())
}

/// The whole migration as a file.
#[must_use]
pub fn script(steps: &[Step], what: &str) -> String {
    let mut out = format!("-- Made by pgevict {}: {what}.\n", env!("CARGO_PKG_VERSION"));
    for step in steps {
        // A name with a line break must not end the comment.
        let title: String = step.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(&format!("\n-- {title}\n{}\n", step.sql.trim_end()));
    }
    out
}
