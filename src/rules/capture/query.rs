//! The query that finds a statement's distinct tuples.
//!
//! Shape: a CTE `r` with one row a changed row (old and new image side by side, as they are stored), a CTE `k0` a class with its
//! distinct values as text, then one branch a class and image. `r` is materialised where more than one class reads it, so
//! images are read and paired once. Nothing that costs is done before rows are few: 300 000 updated rows of 10 000 users took
//! 2.8 s where they were cast first and made distinct last by `UNION`.

mod one_row;

use super::{Facts, Uncompilable};
use crate::config::model::{Op, TableName, When};
use crate::rules::layout::{Class, Layout, Source};
use crate::rules::sql::{ident, literal};
use std::collections::BTreeSet;

/// What PL/pgSQL declares in every trigger function.
const PLPGSQL: [&str; 16] = [
    "found",
    "new",
    "old",
    "sqlerrm",
    "sqlstate",
    "tg_argv",
    "tg_event",
    "tg_level",
    "tg_name",
    "tg_nargs",
    "tg_op",
    "tg_relid",
    "tg_relname",
    "tg_table_name",
    "tg_table_schema",
    "tg_when",
];

/// Whether a statement has more old images than new ones. Only where it moved rows between partitions can it: for any other table the
/// capture puts `false` in its place, which spares a large statement another look at both.
pub(super) const UNEVEN: &str = "(SELECT uneven FROM pgevict_counts)";

/// Where the images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    /// The transition tables of a statement-level trigger.
    Tables,
    /// `$1` is OLD and `$2` is NEW of a row-level trigger: for EXECUTE.
    Row,
    /// Fields of OLD and NEW: for the static queries of its function. PL/pgSQL looks a field up by its name whenever the row
    /// type has changed; of `(NEW).*` a cached plan would go on reading the place where a dropped column was, as NULL.
    Fields,
}

/// A lookup's way to its parent. Values that walk the same way share one join.
#[derive(PartialEq, Eq)]
struct Walk {
    follow: String,
    to: TableName,
    by: String,
    takes: Vec<String>,
}

struct Compiler<'a> {
    layout: &'a Layout,
    facts: &'a Facts,
    images: Images,
    /// The classes that fire, with their index in the layout.
    classes: Vec<(usize, &'a Class)>,
    /// Their distinct sources; `v3` in the SQL is the fourth.
    sources: Vec<&'a Source>,
    walks: Vec<Walk>,
}

/// The query that yields one column `tuple text[]`, distinct, of those of `classes` (indices) that fire for `op`;
/// None where none does.
pub(super) fn tuples(
    layout: &Layout,
    facts: &Facts,
    op: Op,
    classes: &[usize],
    images: Images,
) -> Result<Option<String>, Uncompilable> {
    let c = compiler(layout, facts, op, classes, images)?;
    Ok(c.map(|c| match op {
        Op::Insert => c.one_image(false),
        Op::Delete => c.one_image(true),
        _ if c.classes.iter().all(|(_, c)| c.columns.is_none() && c.when.is_empty()) => c.unpaired(),
        _ => c.paired(),
    }))
}

/// The query for a statement of `op` that changed one row, see [`one_row`](mod@one_row); None where no class fires for it.
/// `plain`: no answer either where a value's text depends on the session's settings.
pub(super) fn one_row(layout: &Layout, facts: &Facts, op: Op, plain: bool) -> Result<Option<String>, Uncompilable> {
    let all: Vec<usize> = (0..layout.classes.len()).collect();
    Ok(compiler(layout, facts, op, &all, Images::Tables)?.map(|c| c.one_row(op, plain)))
}

fn compiler<'a>(
    layout: &'a Layout,
    facts: &'a Facts,
    op: Op,
    classes: &[usize],
    images: Images,
) -> Result<Option<Compiler<'a>>, Uncompilable> {
    let classes: Vec<_> = classes.iter().map(|i| (*i, &layout.classes[*i])).filter(|(_, c)| c.ops.has(op)).collect();
    if classes.is_empty() || op == Op::Truncate {
        return Ok(None);
    }
    let mut sources: Vec<&Source> = Vec::new();
    let mut walks: Vec<Walk> = Vec::new();
    for source in classes.iter().flat_map(|(_, c)| &c.values) {
        if !sources.contains(&source) {
            sources.push(source);
        }
        if let Source::Lookup { follow, to, take, by } = source {
            let by = match by {
                Some(by) => by.clone(),
                None => key_of(layout, facts, to)?,
            };
            match walks.iter_mut().find(|w| w.follow == *follow && w.to == *to && w.by == by) {
                Some(w) if w.takes.contains(take) => {}
                Some(w) => w.takes.push(take.clone()),
                None => {
                    walks.push(Walk { follow: follow.clone(), to: to.clone(), by, takes: vec![take.clone()] });
                }
            }
        }
    }
    Ok(Some(Compiler { layout, facts, images, classes, sources, walks }))
}

fn key_of(layout: &Layout, facts: &Facts, parent: &TableName) -> Result<String, Uncompilable> {
    match facts.primary_keys.get(parent).map(Vec::as_slice) {
        Some([column]) => Ok(column.clone()),
        key => Err(Uncompilable {
            table: layout.table.clone(),
            parent: parent.clone(),
            primary_key: key.unwrap_or_default().to_vec(),
        }),
    }
}

/// Collation "C": under a nondeterministic collation `a` and `A` would be one tuple, and a change of case none.
fn text(expression: &str) -> String {
    format!("{expression}::text COLLATE \"C\"")
}

impl Compiler<'_> {
    /// INSERT and DELETE: one image, no pairing.
    fn one_image(&self, old: bool) -> String {
        self.single(&self.scan(false, old))
    }

    /// UPDATE where every updated row counts: two times one image.
    fn unpaired(&self) -> String {
        self.single(&format!("{}\n  UNION ALL {}", self.scan(false, true), self.scan(false, false)))
    }

    fn single(&self, images: &str) -> String {
        let parts = self.classes.iter().map(|(i, class)| {
            let condition = self.when(class, &self.names(false), "r.c").map(|w| format!(" WHERE {w}"));
            self.distinct(*i, class, &[("i", "c")], &self.names(false), "true AS i", &condition.unwrap_or_default())
        });
        let parts: Vec<String> = parts.collect();
        format!("WITH r AS (\n  {images}\n), {}\n{}", parts.join(", "), self.branches(&["i"]))
    }

    /// UPDATE with a filter. PostgreSQL appends the old and the new image of an updated row to the two transition
    /// tables in one step (`AfterTriggerSaveEvent`; a row that moves between partitions: `ExecCrossPartitionUpdate`,
    /// old, then new, before the next row), and a scan returns them in that order. So equal positions are the same
    /// row: no primary key is needed, and key columns may change. Only a BEFORE trigger that suppresses the insert of
    /// a moved row leaves an old image alone; then the counts differ and every row counts as changed.
    ///
    /// FULL JOIN, also because it cannot be planned as a nested loop: the plan is cached for the session, and the
    /// first statement's one row says nothing about the next one's million.
    fn paired(&self) -> String {
        let names = self.names(true);
        let tables = self.images == Images::Tables;
        let hit = |class: &Class| {
            let mut and = Vec::new();
            if let Some(columns) = &class.columns {
                let columns: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
                let row = |alias: &str| {
                    let columns: Vec<String> =
                        columns.iter().map(|c| place(&names, &format!("{alias}.c"), c)).collect();
                    format!("ROW({})::record", columns.join(", "))
                };
                // A filter that names no column at all lets nothing pass. The operator compares what is stored, so it needs
                // no equality of the type (`json` has none) and no collation.
                and.push(if columns.is_empty() { "false".into() } else { format!("{} *<> {}", row("o"), row("n")) });
            }
            if let (Some(old), Some(new)) = (self.when(class, &names, "o.c"), self.when(class, &names, "n.c")) {
                and.push(format!("(({old}) OR ({new}))"));
            }
            let uneven = if tables { format!("{UNEVEN} OR ") } else { String::new() };
            (!and.is_empty()).then(|| format!("{uneven}{}", and.join(" AND ")))
        };
        let hits: Vec<Option<String>> = self.classes.iter().map(|(_, class)| hit(class)).collect();
        // Where the same rows concern all classes, what is asked for is asked once.
        let same = hits.iter().all(|h| *h == hits[0]);
        let mut out = vec!["o.p IS NOT NULL AS o".to_owned(), "n.p IS NOT NULL AS n".to_owned()];
        for side in ["o", "n"] {
            out.extend((0..names.len()).map(|k| format!("{side}.c{k} AS {side}{k}")));
        }
        if !same {
            let flags =
                self.classes.iter().zip(&hits).filter_map(|((i, _), h)| Some(format!("({}) AS h{i}", h.as_ref()?)));
            out.extend(flags);
        }
        let numbered = |old: bool| {
            let number = if tables { "row_number() OVER () AS p" } else { "true AS p" };
            let columns = self.columns(true, old);
            let separator = if columns.is_empty() { "" } else { ", " };
            format!("(SELECT {number}{separator}{columns}\n    FROM {})", self.relation(true, old))
        };
        let (old, new) = (numbered(true), numbered(false));
        let from = match tables {
            true => format!("{old} AS o\n  FULL JOIN {new} AS n ON n.p = o.p"),
            false => format!("{old} AS o\n  CROSS JOIN {new} AS n"),
        };
        let any: Option<BTreeSet<String>> = hits.iter().map(|h| h.as_ref().map(|h| format!("({h})"))).collect();
        let any = any.map(|any| format!("\n  WHERE {}", any.into_iter().collect::<Vec<_>>().join("\n    OR ")));
        let mut sql = String::from("WITH ");
        if tables {
            sql.push_str(
                "pgevict_counts AS MATERIALIZED (\n  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven\n), ",
            );
        }
        sql.push_str(&format!("r AS (\n  SELECT {}\n  FROM {from}{}\n)", out.join(",\n    "), any.unwrap_or_default()));
        for ((i, class), hit) in self.classes.iter().zip(&hits) {
            let condition = if same || hit.is_none() { String::new() } else { format!(" WHERE r.h{i}") };
            sql.push_str(", ");
            sql.push_str(&self.distinct(*i, class, &[("o", "o"), ("n", "n")], &names, "r.o, r.n", &condition));
        }
        sql.push('\n');
        sql.push_str(&self.branches(&["o", "n"]));
        sql
    }

    /// One image, its columns numbered as in [`Compiler::names`].
    fn scan(&self, compared: bool, old: bool) -> String {
        format!("SELECT {} FROM {}", self.columns(compared, old), self.relation(compared, old))
    }

    /// What an image is read from, under the name by which its columns may be qualified.
    fn relation(&self, compared: bool, old: bool) -> String {
        let name = if old { "pgevict_old" } else { "pgevict_new" };
        match self.images {
            Images::Tables => name.to_owned(),
            Images::Row => format!("(SELECT (${}).*) AS {name}", if old { 1 } else { 2 }),
            Images::Fields => {
                let record = if old { "OLD" } else { "NEW" };
                let fields: Vec<String> =
                    self.names(compared).iter().map(|c| format!("{record}.{0} AS {0}", ident(c))).collect();
                format!("(SELECT {}) AS {name}", fields.join(", "))
            }
        }
    }

    /// The columns of the table that the query reads.
    fn names(&self, compared: bool) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = self.sources.iter().map(|s| s.own_column()).collect();
        for (_, class) in &self.classes {
            names.extend(class.when.iter().map(|w| w.column.as_str()));
            if compared {
                names.extend(class.columns.iter().flatten().map(String::as_str));
            }
        }
        names
    }

    /// The same as they are stored, numbered: what is cast is cast later, where fewer rows are left.
    fn columns(&self, compared: bool, old: bool) -> String {
        let known = self.facts.virtual_columns.get(&self.layout.table);
        let raw = |name: &str| match known.and_then(|v| v.get(name)) {
            Some(expression) => format!("({expression})"),
            // PL/pgSQL would take its own variable where the column is gone.
            None if PLPGSQL.contains(&name) => {
                format!("{}.{}", if old { "pgevict_old" } else { "pgevict_new" }, ident(name))
            }
            None => ident(name),
        };
        let columns = self.names(compared).into_iter().enumerate().map(|(k, name)| format!("{} AS c{k}", raw(name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The conditions of a class on one image, whose columns are `prefix` and their number.
    fn when(&self, class: &Class, names: &BTreeSet<&str>, prefix: &str) -> Option<String> {
        let one = |w: &When| {
            let values: Vec<String> = w.values.iter().map(|v| literal(v)).collect();
            format!("{} = ANY (ARRAY[{}]::text[])", text(&place(names, prefix, &w.column)), values.join(", "))
        };
        (!class.when.is_empty()).then(|| class.when.iter().map(one).collect::<Vec<_>>().join(" AND "))
    }

    /// `k0 AS (…)`: the distinct values of a class, as text, and of what its lookups follow, as it is, of all `sides`, each
    /// with the prefix of its columns in `r`. Distinct before anything else is done with them: a statement changes more rows than
    /// keys. (`DISTINCT`, not `UNION`: for the latter the planner expects as many rows as there were, and sorts.)
    fn distinct(
        &self,
        index: usize,
        class: &Class,
        sides: &[(&str, &str)],
        names: &BTreeSet<&str>,
        flags: &str,
        condition: &str,
    ) -> String {
        let mut out = vec![flags.to_owned()];
        for (side, prefix) in sides {
            let prefix = format!("r.{prefix}");
            for (k, source) in self.sources.iter().enumerate() {
                if matches!(source, Source::Column(_)) && class.values.contains(source) {
                    out.push(format!("{} AS {side}v{k}", text(&place(names, &prefix, source.own_column()))));
                }
            }
            for w in self.walks_of(class) {
                out.push(format!("{} AS {side}f{w}", place(names, &prefix, &self.walks[w].follow)));
            }
        }
        format!("k{index} AS (\n  SELECT DISTINCT {}\n  FROM r{condition}\n)", out.join(", "))
    }

    fn walks_of(&self, class: &Class) -> BTreeSet<usize> {
        class.values.iter().filter(|v| matches!(v, Source::Lookup { .. })).map(|v| self.walk(v).0).collect()
    }

    /// LIMIT keeps the parent's rows out of any join order but "for each row, by index".
    fn lookups(&self, walks: &BTreeSet<usize>, side: &str) -> String {
        let join = |w: &usize| {
            let walk = &self.walks[*w];
            let takes = walk.takes.iter().enumerate();
            let takes: String =
                takes.map(|(t, take)| format!(", {} AS t{t}", text(&format!("p.{}", ident(take))))).collect();
            format!(
                "\n  LEFT JOIN LATERAL (SELECT true AS found{takes} FROM {} AS p\n    WHERE p.{} = k.{side}f{w} LIMIT 1) AS l{w} ON true",
                walk.to.sql(),
                ident(&walk.by)
            )
        };
        walks.iter().map(join).collect()
    }

    fn walk(&self, source: &Source) -> (usize, &Walk) {
        let same = |w: &Walk| match source {
            Source::Lookup { follow, to, by, take } => {
                w.follow == *follow && w.to == *to && w.takes.contains(take) && by.as_ref().is_none_or(|by| w.by == *by)
            }
            Source::Column(_) => false,
        };
        let i = self.walks.iter().position(same).unwrap_or_default();
        (i, &self.walks[i])
    }

    /// One branch a class and image.
    fn branches(&self, sides: &[&str]) -> String {
        let mut out = Vec::new();
        for (i, class) in &self.classes {
            let walks = self.walks_of(class);
            for side in sides {
                let value = |source: &Source| match source {
                    Source::Column(_) => {
                        format!("k.{side}v{}", self.sources.iter().position(|s| *s == source).unwrap_or_default())
                    }
                    Source::Lookup { take, .. } => {
                        let (w, walk) = self.walk(source);
                        format!("l{w}.t{}", walk.takes.iter().position(|x| x == take).unwrap_or_default())
                    }
                };
                let mut tuple = self.array(&i.to_string(), class.values.iter().map(value).collect());
                let gone: Vec<String> =
                    walks.iter().map(|w| format!("(k.{side}f{w} IS NOT NULL AND l{w}.found IS NULL)")).collect();
                if !gone.is_empty() {
                    let unresolved = self.array(&format!("-{}", i + 1), Vec::new());
                    tuple = format!("CASE WHEN {} THEN {unresolved} ELSE {tuple} END", gone.join(" OR "));
                }
                let there = if sides.len() == 2 { format!(" WHERE k.{side}") } else { String::new() };
                out.push(format!("SELECT {tuple} AS tuple FROM k{i} AS k{}{there}", self.lookups(&walks, side)));
            }
        }
        match out.as_slice() {
            // Distinct values make distinct tuples; different values to follow may lead to one parent.
            [one] if self.walks.is_empty() => one.clone(),
            many => format!("SELECT DISTINCT t.tuple FROM (\n{}\n) AS t", many.join("\nUNION ALL ")),
        }
    }

    fn array(&self, class: &str, mut values: Vec<String>) -> String {
        values.resize(self.layout.width(), "NULL".to_owned());
        let elements: String = values.iter().map(|v| format!(", {v}")).collect();
        format!("ARRAY['{class}'::text{elements}]")
    }
}

/// A column of an image, by its number.
fn place(names: &BTreeSet<&str>, prefix: &str, column: &str) -> String {
    format!("{prefix}{}", names.iter().position(|n| *n == column).unwrap_or_default())
}
