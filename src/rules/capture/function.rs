//! The functions and triggers of one watched table.

use super::query::{Images, UNEVEN, one_row, tuples};
use super::{Facts, Settings, Uncompilable};
use crate::config::model::{Bell, Delivery, OnError, Op, TableName};
use crate::rules::layout::{Layout, Source, VERSION};
use crate::rules::sql::{ident, literal};
use sha2::Digest as _;

/// First key of the bell's advisory lock; the second is the journal's oid. The ASCII of `pafu`; any number would do.
pub const BELL_LOCK: i32 = 1_885_431_413;

/// What a capture function without a short way pins in its head, as `pg_proc.proconfig` shows it.
const SETTINGS: [&str; 11] = [
    "search_path=pg_catalog, pg_temp",
    "lock_timeout=250ms",
    "TimeZone=UTC",
    "DateStyle=ISO, YMD",
    "IntervalStyle=postgres",
    "bytea_output=hex",
    "extra_float_digits=1",
    "lc_monetary=C",
    "quote_all_identifiers=off",
    "jit=off",
    "row_security=off",
];

/// What a trigger fires for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Once a statement, with transition tables.
    Statement,
    /// Once a row: what logical replication's apply fires.
    Row,
}

impl Level {
    /// `s` or `r`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Statement => 's',
            Self::Row => 'r',
        }
    }
}

/// A trigger that must be on the watched table and on every relation below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// What it fires after.
    pub op: Op,
    /// A partitioned table has no trigger of level row: its partitions have.
    pub level: Level,
    /// Name of the function, in the schema of pgevict.
    pub function: String,
    /// `pg_trigger.tgenabled`: `O`, `A` or `R`.
    pub enabled: char,
}

/// A capture function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name, in the schema of pgevict.
    pub name: String,
    /// What makes it.
    pub definition: String,
    /// SHA-256 over its source (`pg_proc.prosrc`) in UTF-8, hex.
    pub hash: String,
    /// The comment that it must carry.
    pub mark: String,
    /// What it pins in its head, as `pg_proc.proconfig` shows it. Nothing: it pins only where the short way does not do (`sql/capture.sql`).
    pub settings: &'static [&'static str],
}

/// The whole capture of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The layout that it writes.
    pub layout: Layout,
    /// Eight hex digits that stand for the table in names.
    pub suffix: String,
    /// The functions: level statement, and level row where row triggers are needed.
    pub functions: Vec<Function>,
    /// The triggers.
    pub triggers: Vec<Trigger>,
}

impl Capture {
    /// The name of a trigger on the watched table itself, or on a relation below it. Two watched tables may share a
    /// relation (a parent and its partition), so below the table names carry its suffix.
    #[must_use]
    pub fn trigger_name(&self, trigger: &Trigger, on_root: bool) -> String {
        let row = if trigger.level == Level::Row { "row_" } else { "" };
        let letter = trigger.op.letter();
        if on_root { format!("zz_pgevict_{row}{letter}") } else { format!("zz_pgevict_{row}{letter}_{}", self.suffix) }
    }
}

/// The name of a table's capture function: readable, unique, at most 63 bytes.
#[must_use]
pub fn function_name(table: &TableName, level: Level) -> String {
    let mut readable: String =
        table.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    readable.truncate(40);
    let row = if level == Level::Row { "row_" } else { "" };
    format!("capture_{row}{readable}_{}", suffix(table))
}

fn suffix(table: &TableName) -> String {
    sha256(&table.sql())[..8].to_owned()
}

pub(super) fn sha256(text: &str) -> String {
    sha2::Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Compiles the capture of one table.
///
/// # Errors
/// A lookup's parent has no known primary key of one column.
pub fn compile(layout: &Layout, settings: &Settings, facts: &Facts) -> Result<Capture, Uncompilable> {
    // A hypertable gets row triggers, which Timescale clones to its chunks. The function of level statement serves its TRUNCATE.
    let by_row = settings.by_row.contains(&layout.table) || facts.hypertables.contains(&layout.table);
    let fires: Vec<Op> = Op::ALL.into_iter().filter(|op| layout.classes.iter().any(|c| c.ops.has(*op))).collect();
    let mut functions = vec![function(layout, settings, facts, Level::Statement)?];
    let enabled = if layout.always { 'A' } else { 'O' };
    let trigger =
        |op: Op, level, enabled| Trigger { op, level, function: function_name(&layout.table, level), enabled };
    let statements = fires.iter().filter(|op| !by_row || **op == Op::Truncate);
    let mut triggers: Vec<Trigger> = statements.map(|op| trigger(*op, Level::Statement, enabled)).collect();
    if layout.always || by_row {
        functions.push(function(layout, settings, facts, Level::Row)?);
        let rows = fires.iter().filter(|op| **op != Op::Truncate);
        triggers.extend(rows.map(|op| trigger(*op, Level::Row, if by_row { enabled } else { 'R' })));
    }
    Ok(Capture { layout: layout.clone(), suffix: suffix(&layout.table), functions, triggers })
}

fn function(layout: &Layout, settings: &Settings, facts: &Facts, level: Level) -> Result<Function, Uncompilable> {
    let template = match (settings.delivery, level) {
        (Delivery::Journal, Level::Statement) => include_str!("../../../sql/capture.sql"),
        (Delivery::Journal, Level::Row) => include_str!("../../../sql/capture_row.sql"),
        (Delivery::Notify, _) => include_str!("../../../sql/capture_notify.sql"),
    };
    let images = if level == Level::Row { Images::Row } else { Images::Tables };
    let all: Vec<usize> = (0..layout.classes.len()).collect();
    let dml = [Op::Insert, Op::Update, Op::Delete];
    let mut everything = String::from("CASE TG_OP");
    let mut by_class = String::from("CASE TG_OP");
    let mut fast = Vec::new();
    // The expression of a virtual column names columns that nobody here knows: only all of them will do.
    let dynamic = facts.virtual_columns.get(&layout.table).is_some_and(|v| !v.is_empty());
    // A parent is read under `row_security = off` and a `lock_timeout`, which have to be pinned; nor is it known what the expression of a virtual column names.
    let lookups = layout.classes.iter().flat_map(|c| &c.values).any(|v| matches!(v, Source::Lookup { .. }));
    let hot = settings.delivery == Delivery::Journal && level == Level::Statement && !dynamic && !lookups;
    for op in dml {
        let query = tuples(layout, facts, op, &all, images)?;
        let fixed = match level {
            Level::Statement => query.clone(),
            Level::Row if dynamic => None,
            Level::Row => tuples(layout, facts, op, &all, Images::Fields)?,
        };
        fast.push((op, fixed.unwrap_or_else(|| "SELECT NULL::text[] AS tuple WHERE false".to_owned())));
        let Some(query) = query else { continue };
        let word = op.as_str().to_uppercase();
        everything.push_str(&format!(" WHEN '{word}' THEN {}", dollar("query", &query)));
        by_class.push_str(&format!(" WHEN '{word}' THEN ARRAY["));
        for i in &all {
            let one = tuples(layout, facts, op, &[*i], images)?;
            by_class.push_str(if *i == 0 { "" } else { ", " });
            by_class.push_str(&one.map_or_else(|| "NULL".to_owned(), |q| dollar("query", &q)));
        }
        by_class.push_str("]::text[]");
    }
    let only_truncate = everything == "CASE TG_OP";
    let close = |text: String| if only_truncate { "NULL".to_owned() } else { text + " END" };

    let name = function_name(&layout.table, level);
    let row = level == Level::Row;
    let mut sql = uncommented(template);
    if settings.bell == Bell::Never {
        sql = without(&sql, "-- bell", "-- end bell");
    }
    sql = if hot { without(&sql, "-- settings", "-- end settings") } else { without(&sql, "-- hot", "-- end hot") };
    sql = if row {
        without(&sql, "-- statement level", "-- end statement level")
    } else {
        without(&sql, "-- row level", "-- end row level")
    };
    if !row && settings.delivery == Delivery::Notify {
        // Without the counter nothing is past its bound.
        sql = sql.replace(
            "IF before = 1000 THEN\n        kind := 'w';\n        classes := __all_classes__;\n      ELSIF",
            "IF",
        );
    }
    let indices: Vec<String> = all.iter().map(ToString::to_string).collect();
    let schema = ident(&settings.schema);
    // Fixed names first: what is filled in later may hold anything.
    sql = in_schema(&sql, &settings.schema);
    for (token, value) in [
        ("__function__", ident(&name)),
        ("__layout__", layout.id().to_string()),
        ("__lock_class__", BELL_LOCK.to_string()),
        ("__closed__", (layout.on_error == OnError::Closed).to_string()),
        ("__dynamic__", dynamic.to_string()),
        ("__arguments__", if row { "OLD, NEW".to_owned() } else { "letter".to_owned() }),
        ("__all_classes__", format!("ARRAY[{}]::integer[]", indices.join(", "))),
        ("__counter__", literal(&format!("pgevict.rows_{}", suffix(&layout.table)))),
        ("__seen__", literal(&format!("pgevict.seen_{}", suffix(&layout.table)))),
        ("__lost__", format!("{}::pg_catalog.regclass", literal(&format!("{schema}.lost")))),
        ("__journal__", format!("{}::pg_catalog.regclass", literal(&format!("{schema}.journal")))),
        ("__numbers__", format!("{}::pg_catalog.regclass", literal(&format!("{schema}.journal_seq_seq")))),
        ("__uneven__", literal(UNEVEN)),
        ("__channel__", literal(&settings.channel)),
        ("__table__", literal(&layout.table.to_string())),
    ] {
        sql = sql.replace(token, &value);
    }
    let mut values: Vec<(&str, String)> =
        vec![("__everything__", close(everything)), ("__by_class__", close(by_class))];
    for (op, query) in fast {
        let one = |plain| -> Result<String, Uncompilable> {
            let query = if row { None } else { one_row(layout, facts, op, plain)? };
            Ok(query.unwrap_or_else(|| "SELECT NULL::pg_catalog.text[] AS tuples".to_owned()))
        };
        let tokens = match op {
            Op::Insert => ["TABLE __insert__", "TABLE __insert_one__", "TABLE __insert_hot__"],
            Op::Update => ["TABLE __update__", "TABLE __update_one__", "TABLE __update_hot__"],
            _ => ["TABLE __delete__", "TABLE __delete_one__", "TABLE __delete_hot__"],
        };
        values.extend(tokens.into_iter().zip([query, one(false)?, one(true)?]));
    }
    let sql = fill(&sql, &values);

    let (head, rest) = sql.split_once("$pgevict$").unwrap_or((&sql, ""));
    let source = rest.rsplit_once("$pgevict$").map_or(rest, |(source, _)| source).to_owned();
    let hash = sha256(&source);
    let mark =
        format!("pgevict capture {VERSION} layout={} table={} source={}", layout.id(), layout.table, &hash[..16]);
    Ok(Function {
        name,
        definition: format!("{head}{}", dollar("pgevict", &source)),
        hash,
        mark,
        settings: if hot { &[] } else { &SETTINGS },
    })
}

/// Replaces tokens in one pass, so that no value is searched for the next token.
pub(super) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    loop {
        let next = values.iter().filter_map(|(token, value)| rest.find(token).map(|at| (at, *token, value))).min();
        let Some((at, token, value)) = next else { break };
        out.push_str(&rest[..at]);
        out.push_str(value);
        rest = &rest[at + token.len()..];
    }
    out.push_str(rest);
    out
}

/// The template for another schema: the files are written for `pgevict`.
pub(super) fn in_schema(sql: &str, schema: &str) -> String {
    if schema == "pgevict" {
        return sql.to_owned();
    }
    let values = [
        ("SCHEMA pgevict", format!("SCHEMA {}", ident(schema))),
        ("ns constant text := 'pgevict'", format!("ns constant text := {}", literal(schema))),
        ("quote_ident('pgevict')", format!("quote_ident({})", literal(schema))),
        (" pgevict.", format!(" {}.", ident(schema))),
        ("(pgevict.", format!("({}.", ident(schema))),
    ];
    fill(sql, &values)
}

/// Dollar quotes with a tag that does not occur in the text.
pub(super) fn dollar(tag: &str, text: &str) -> String {
    let mut tag = tag.to_owned();
    while text.contains(&format!("${tag}$")) {
        tag.push('_');
    }
    format!("${tag}${text}${tag}$")
}

/// Without the comment at the head of the file: it is for the reader of the template.
pub(super) fn uncommented(template: &str) -> String {
    let body = template.lines().skip_while(|l| l.starts_with("--") || l.trim().is_empty());
    body.collect::<Vec<_>>().join("\n")
}

/// Without the lines from each `from` to the next `to`, both included; without the markers themselves otherwise.
fn without(sql: &str, from: &str, to: &str) -> String {
    let mut out = Vec::new();
    let mut skipping = false;
    for line in sql.lines() {
        match line.trim() {
            l if l == from => skipping = true,
            l if l == to => skipping = false,
            _ if !skipping => out.push(line),
            _ => {}
        }
    }
    out.join("\n")
}
