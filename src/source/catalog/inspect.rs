//! Whether each edge is live: its capture is installed as the configuration wants it.

use super::{Captured, Found, FoundRelation, Installed, facts_of, read};
use crate::config::model::{Config, Op, TableName};
use crate::rules::capture::{self, Capture, Facts, Level, Settings, Trigger, compile};
use crate::rules::layout::{Class, Layout, layouts};
use crate::rules::probe;
use crate::rules::sql::ident;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error};

/// What the database says about one watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// The table.
    pub table: TableName,
    /// It is there, and a table that can carry triggers.
    pub exists: bool,
    /// Columns that its edges need and that it lacks.
    pub missing_columns: Vec<String>,
    /// The layout that the installed function writes.
    pub installed_layout: Option<i64>,
    /// The layout that the configuration wants.
    pub wanted_layout: i64,
    /// Each edge of the wanted layout.
    pub edges: Vec<EdgeState>,
    /// The table and every relation below it, for the audit.
    pub relations: Vec<Relation>,
    /// A Timescale hypertable: what is below it are chunks, which come as rows do, with the triggers in place.
    pub hypertable: bool,
    /// The configuration wants a function of level row, too.
    pub(super) by_row: bool,
    /// What to do, for people; empty where everything is live.
    pub remedies: Vec<String>,
    /// What differs, in detail, for `sql diff`: `(object, what)`.
    pub(super) differences: Vec<(String, String)>,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeState {
    /// The cache.
    pub cache: String,
    /// The child table whose lookup passes through this one.
    pub via: Option<TableName>,
    /// Why it is not live; None: it is.
    pub why_not: Option<String>,
}

/// A relation of a watched table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// Its oid: another one is another table under the name.
    pub oid: u32,
    /// Quoted for SQL.
    pub name: String,
    /// Where its rows are; another one means that they were rewritten. None: a partitioned table has no rows.
    pub filenode: Option<u32>,
    /// The transactions that made it a partition or child; others mean that it was away. None: it is neither.
    pub joined: Option<String>,
    /// Its sound triggers: which → the row of the catalog that makes it. Another row means that it was away.
    pub triggers: BTreeMap<String, String>,
    /// Rows ever inserted, updated and deleted, by the server's statistics: rolled-back ones too, and some seconds late.
    pub moved: [i64; 3],
}

impl TableState {
    /// Every edge is live.
    #[must_use]
    pub fn live(&self) -> bool {
        self.edges.iter().all(|e| e.why_not.is_none())
    }
}

/// Inspects every watched table: one statement when everything is as it should be, two when a capture is older than
/// the configuration. The session's `search_path` must be `pg_catalog`.
///
/// # Errors
/// The database's.
pub async fn inspect(client: &Client, config: &Config) -> Result<Vec<TableState>, Error> {
    Ok(states(client, config, &layouts(config)).await?.1)
}

/// Inspects the probe's table; as [`inspect`].
///
/// # Errors
/// The database's.
pub async fn probe(client: &Client, config: &Config) -> Result<TableState, Error> {
    let layout = probe::layout(&config.postgres.schema);
    let mut states = states(client, config, std::slice::from_ref(&layout)).await?.1;
    Ok(states.pop().unwrap_or_else(|| blank(&layout, &Found::default())))
}

pub(super) async fn states(
    client: &Client,
    config: &Config,
    layouts: &[Layout],
) -> Result<(Installed, Vec<TableState>), Error> {
    let settings = Settings::of(config);
    let tables: Vec<TableName> = capture::tables(layouts).into_iter().collect();
    let (installed, found) = read(client, &config.postgres.schema, &tables).await?;
    let facts = facts_of(&tables, &found);
    let captures: Vec<_> = layouts.iter().map(|l| compile(l, &settings, &facts)).collect();
    let older = older_layouts(client, &settings, &installed, &captures).await?;
    let nothing = Found::default();
    let states = layouts.iter().zip(&captures).map(|(layout, compiled)| {
        let found = tables.iter().position(|t| *t == layout.table).and_then(|i| found.get(i)).unwrap_or(&nothing);
        let context = Context { settings: &settings, facts: &facts, installed: &installed, older: &older };
        match compiled {
            Ok(capture) => context.state(capture, found),
            Err(problem) => context.uncompilable(layout, found, &problem.to_string()),
        }
    });
    let states = states.collect();
    Ok((installed, states))
}

/// The layouts that installed functions write where they are not the wanted ones.
async fn older_layouts(
    client: &Client,
    settings: &Settings,
    installed: &Installed,
    captures: &[Result<Capture, capture::Uncompilable>],
) -> Result<BTreeMap<i64, Layout>, Error> {
    let mut wanted: Vec<i64> = captures.iter().flatten().map(|c| c.layout.id()).collect();
    // The probe's own is no older one of theirs: without this every audit would be a statement more.
    wanted.push(probe::layout(&settings.schema).id());
    let ids: Vec<i64> =
        installed.captures.iter().flatten().filter_map(Captured::layout).filter(|id| !wanted.contains(id)).collect();
    if ids.is_empty() || !installed.relations.iter().flatten().any(|r| r == "layout") {
        return Ok(BTreeMap::new());
    }
    let sql = format!("SELECT id, spec FROM {}.layout WHERE id = ANY ($1)", ident(&settings.schema));
    let rows = client.query(&sql, &[&ids]).await?;
    Ok(rows.iter().filter_map(|r| Some((r.get(0), Layout::from_json(r.get(1)).ok()?))).collect())
}

struct Context<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
    installed: &'a Installed,
    older: &'a BTreeMap<i64, Layout>,
}

impl Context<'_> {
    fn state(&self, capture: &Capture, found: &Found) -> TableState {
        let layout = &capture.layout;
        let mut state = blank(layout, found);
        state.by_row = capture.functions.len() > 1;
        if !state.exists {
            let what = if found.root.is_some() { "is not a table" } else { "does not exist" };
            state.differences.push((layout.table.sql(), what.into()));
            state
                .remedies
                .push(format!("table {} {what}: create it, or correct its name in the configuration", layout.table));
            close(&mut state, layout, what);
            return state;
        }
        let (intact, broken_functions) = self.functions(capture);
        let (broken_triggers, sound) = triggers(capture, found, &self.settings.schema);
        for relation in &mut state.relations {
            relation.triggers = sound.get(&relation.oid).cloned().unwrap_or_default();
        }
        // Some older layout may be installed, intact: its edges that are wanted still are live.
        let serving = intact.as_ref();
        state.installed_layout = serving.map(Layout::id).or_else(|| {
            let name = &capture.functions[0].name;
            self.installed.captures.iter().flatten().find(|c| c.name == *name).and_then(Captured::layout)
        });
        for class in &layout.classes {
            let lacks: Vec<&str> =
                needs(class).into_iter().filter(|c| state.missing_columns.iter().any(|m| m == c)).collect();
            let trigger =
                broken_triggers.iter().find(|b| class.ops.has(b.op)).map(|b| format!("{} {}", b.object, b.what));
            for edge in &class.edges {
                let captured =
                    serving.is_some_and(|l| l.classes.iter().any(|c| same(c, class) && c.edges.contains(edge)));
                let why_not = if !lacks.is_empty() {
                    Some(format!("{} has no column {}", layout.table, lacks.join(", ")))
                } else if !captured {
                    Some(match (serving, broken_functions.first()) {
                        (Some(_), _) => "its capture is older than the configuration".to_owned(),
                        (None, Some((object, what))) => format!("{object} {what}"),
                        (None, None) => "its capture is not installed".to_owned(),
                    })
                } else {
                    trigger.clone()
                };
                state.edges.push(EdgeState { cache: edge.cache.clone(), via: edge.via.clone(), why_not });
            }
        }
        for column in &state.missing_columns {
            state.differences.push((layout.table.sql(), format!("has no column {}", ident(column))));
        }
        state.differences.extend(broken_functions);
        state.differences.extend(broken_triggers.into_iter().map(|b| (b.object, b.what)));
        if !state.missing_columns.is_empty() {
            state.remedies.push(format!(
                "table {} has no column {}: correct the configuration, then run `pgevict sql apply`",
                layout.table,
                state.missing_columns.join(", ")
            ));
        } else if !state.differences.is_empty() {
            state.remedies.push(format!("the capture of table {} differs: run `pgevict sql apply`", layout.table));
        }
        state
    }

    fn uncompilable(&self, layout: &Layout, found: &Found, problem: &str) -> TableState {
        let mut state = blank(layout, found);
        close(&mut state, layout, problem);
        state.differences.push((layout.table.sql(), problem.to_owned()));
        state.remedies.push(problem.to_owned());
        state
    }

    /// The layout that an unharmed function writes, and what differs from what is wanted.
    fn functions(&self, capture: &Capture) -> (Option<Layout>, Vec<(String, String)>) {
        let mut differences = Vec::new();
        let mut serving = Some(capture.layout.clone());
        for function in &capture.functions {
            let object = format!("function {}.{}", ident(&self.settings.schema), ident(&function.name));
            let Some(there) = self.installed.captures.iter().flatten().find(|c| c.name == function.name) else {
                differences.push((object, "is missing".into()));
                serving = None;
                continue;
            };
            if there.hash == function.hash && there.mark == function.mark && there.pins(function.settings) {
                continue;
            }
            if let Some(old) = self.older_intact(there, function.name.starts_with("capture_row_")) {
                differences.push((
                    object,
                    format!("writes layout {}, the configuration wants {}", old.id(), capture.layout.id()),
                ));
                serving = serving.map(|_| old);
            } else {
                let same = there.hash == function.hash && there.mark == function.mark;
                differences.push((object, if same { "has other settings" } else { "has another body" }.into()));
                serving = None;
            }
        }
        (serving, differences)
    }

    fn older_intact(&self, there: &Captured, row: bool) -> Option<Layout> {
        let layout = self.older.get(&there.layout()?)?;
        let compiled = compile(layout, self.settings, self.facts).ok()?;
        let level = if row { Level::Row } else { Level::Statement };
        let name = capture::function_name(&layout.table, level);
        compiled
            .functions
            .iter()
            .any(|f| f.name == name && f.hash == there.hash && there.pins(f.settings))
            .then(|| layout.clone())
    }
}

fn blank(layout: &Layout, found: &Found) -> TableState {
    let exists = found.root.is_some() && matches!(found.kind.as_deref(), Some("r" | "p"));
    let columns = found.columns.as_deref().unwrap_or_default();
    let missing = layout.columns().into_iter().filter(|c| exists && !columns.iter().any(|x| x == c));
    let relation = |r: &FoundRelation| Relation {
        oid: r.oid,
        name: r.name.clone(),
        filenode: r.filenode,
        joined: r.joined.clone(),
        triggers: BTreeMap::new(),
        moved: r.moved,
    };
    TableState {
        table: layout.table.clone(),
        exists,
        missing_columns: missing.map(str::to_owned).collect(),
        installed_layout: None,
        wanted_layout: layout.id(),
        edges: Vec::new(),
        relations: found.relations.iter().flatten().map(relation).collect(),
        hypertable: found.hypertable == Some(true),
        by_row: layout.always,
        remedies: Vec::new(),
        differences: Vec::new(),
    }
}

fn close(state: &mut TableState, layout: &Layout, why: &str) {
    let edges = layout.classes.iter().flat_map(|c| &c.edges);
    state.edges = edges
        .map(|e| EdgeState { cache: e.cache.clone(), via: e.via.clone(), why_not: Some(why.to_owned()) })
        .collect();
}

fn same(a: &Class, b: &Class) -> bool {
    a.ops == b.ops && a.columns == b.columns && a.when == b.when && a.values == b.values
}

fn needs(class: &Class) -> Vec<&str> {
    let counted = class.columns.iter().flatten().map(String::as_str);
    counted
        .chain(class.when.iter().map(|w| w.column.as_str()))
        .chain(class.values.iter().map(|v| v.own_column()))
        .collect()
}

struct BrokenTrigger {
    op: Op,
    object: String,
    what: String,
}

/// Sound triggers, as [`Relation::triggers`], of each relation.
type Sound = BTreeMap<u32, BTreeMap<String, String>>;

fn triggers(capture: &Capture, found: &Found, schema: &str) -> (Vec<BrokenTrigger>, Sound) {
    let (mut out, mut sound) = (Vec::new(), Sound::new());
    let hypertable = found.hypertable == Some(true);
    for relation in found.relations.iter().flatten() {
        let root = Some(relation.oid) == found.root;
        for trigger in &capture.triggers {
            let row = trigger.level == Level::Row;
            // A chunk carries clones of the row triggers, under their names; a tiered one is a foreign table, which is only read.
            if row && relation.kind == "p" || hypertable && !root && (!row || relation.kind != "r") {
                continue;
            }
            let name = capture.trigger_name(trigger, root || hypertable);
            let there = relation.triggers.iter().flatten().find(|t| t.name == name);
            let what = match there {
                None => "is missing".to_owned(),
                Some(t) if t.schema != schema || t.function != trigger.function => {
                    format!("calls {}.{}", ident(&t.schema), ident(&t.function))
                }
                Some(t) if (t.bits, t.old.as_deref(), t.new.as_deref()) != shape(trigger) => {
                    "fires for something else".to_owned()
                }
                Some(t) if t.enabled == "D" => "is disabled".to_owned(),
                Some(t) if t.enabled != trigger.enabled.to_string() => {
                    format!("is enabled as {}, not as {}", t.enabled, trigger.enabled)
                }
                Some(t) => {
                    let which = format!("{}{}", trigger.op.letter(), trigger.level.letter());
                    sound.entry(relation.oid).or_default().insert(which, t.made.clone());
                    continue;
                }
            };
            out.push(BrokenTrigger { op: trigger.op, object: format!("trigger {name} on {}", relation.name), what });
        }
    }
    (out, sound)
}

/// `pg_trigger.tgtype` (1 row, 4 insert, 8 delete, 16 update, 32 truncate) and the names of the transition tables.
fn shape(trigger: &Trigger) -> (i16, Option<&'static str>, Option<&'static str>) {
    let (bits, old, new) = match trigger.op {
        Op::Insert => (4, None, Some("pgevict_new")),
        Op::Delete => (8, Some("pgevict_old"), None),
        Op::Update => (16, Some("pgevict_old"), Some("pgevict_new")),
        Op::Truncate => (32, None, None),
    };
    if trigger.level == Level::Row { (bits + 1, None, None) } else { (bits, old, new) }
}
