//! The query that finds a statement's distinct tuples.
//!
//! Shape: a CTE `r` with one row a changed row (old and new image side by side), then one `UNION` branch a class and
//! image. The CTE is materialised where more than one branch reads it, so images are read, paired and cast once.
//! (Measured against `CROSS JOIN LATERAL (VALUES …)`: same cost for one row, half of it for 300 000: a VALUES list
//! initialises its expressions anew for every input row.)

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
pub(super) fn one_row(layout: &Layout, facts: &Facts, op: Op) -> Result<Option<String>, Uncompilable> {
    let all: Vec<usize> = (0..layout.classes.len()).collect();
    Ok(compiler(layout, facts, op, &all, Images::Tables)?.map(|c| c.one_row(op)))
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
        let from = format!("(SELECT {} FROM {}) AS i", self.columns(false, old), self.relation(false, old));
        self.single(&from)
    }

    /// UPDATE where every updated row counts: two times one image.
    fn unpaired(&self) -> String {
        let from = format!(
            "(SELECT {} FROM {}\n    UNION ALL SELECT {} FROM {}) AS i",
            self.columns(false, true),
            self.relation(false, true),
            self.columns(false, false),
            self.relation(false, false)
        );
        self.single(&from)
    }

    fn single(&self, from: &str) -> String {
        let mut out: Vec<String> = self.hits(|class| when(&class.when, "i"));
        out.extend(self.values("i", "v"));
        out.extend(self.gone("i", "v"));
        if out.is_empty() {
            out.push("true".into());
        }
        let mut sql = format!("WITH r AS (\n  SELECT {}\n  FROM {from}", out.join(",\n    "));
        sql.push_str(&self.lookups("i", "v"));
        sql.push_str("\n)\n");
        sql.push_str(&self.branches(&["v"]));
        sql
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
        let hit = |class: &Class| {
            let changed: Vec<String> =
                class.columns.iter().flatten().map(|c| format!("o.{0} IS DISTINCT FROM n.{0}", ident(c))).collect();
            let mut and = Vec::new();
            if class.columns.is_some() {
                // A filter that names no column at all lets nothing pass.
                and.push(if changed.is_empty() {
                    "false".into()
                } else {
                    format!("({})", changed.join("\n      OR "))
                });
            }
            if let (Some(old), Some(new)) = (when(&class.when, "o"), when(&class.when, "n")) {
                and.push(format!("(({old}) OR ({new}))"));
            }
            (!and.is_empty()).then(|| format!("o.pgevict_c IS DISTINCT FROM n.pgevict_c OR {}", and.join(" AND ")))
        };
        let mut out = vec!["o.pgevict_n IS NOT NULL AS o".to_owned(), "n.pgevict_n IS NOT NULL AS n".to_owned()];
        out.extend(self.hits(hit));
        for (image, side) in [("o", "o"), ("n", "n")] {
            out.extend(self.values(image, side));
            out.extend(self.gone(image, side));
        }
        let image = |old: bool, alias: &str| {
            let columns = self.columns(true, old);
            format!(
                "(SELECT row_number() OVER () AS pgevict_n, count(*) OVER () AS pgevict_c{}{columns}\n    FROM {}) AS {alias}",
                if columns.is_empty() { "" } else { ", " },
                self.relation(true, old)
            )
        };
        let mut sql = format!(
            "WITH r AS (\n  SELECT {}\n  FROM {}\n  FULL JOIN {} ON n.pgevict_n = o.pgevict_n",
            out.join(",\n    "),
            image(true, "o"),
            image(false, "n")
        );
        if !self.walks.is_empty() {
            sql.push_str(&self.lookups("o", "o"));
            sql.push_str(&self.lookups("n", "n"));
            // Parents are looked up only for rows that count.
            let hits: Option<Vec<String>> =
                self.classes.iter().map(|(_, c)| hit(c).map(|h| format!("({h})"))).collect();
            if let Some(hits) = hits {
                sql.push_str(&format!("\n  WHERE {}", hits.join("\n    OR ")));
            }
        }
        sql.push_str("\n)\n");
        sql.push_str(&self.branches(&["o", "n"]));
        sql
    }

    /// What an image is read from, under the name by which its columns may be qualified.
    fn relation(&self, compared: bool, old: bool) -> String {
        let name = if old { "pgevict_old" } else { "pgevict_new" };
        match self.images {
            Images::Tables => name.to_owned(),
            Images::Row => format!("(SELECT (${}).*) AS {name}", if old { 1 } else { 2 }),
            Images::Fields => {
                let record = if old { "OLD" } else { "NEW" };
                let follows = self.walks.iter().map(|w| w.follow.as_str());
                let names: BTreeSet<&str> = self.names(compared).into_iter().chain(follows).collect();
                let fields: Vec<String> = names.iter().map(|c| format!("{record}.{0} AS {0}", ident(c))).collect();
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

    /// The same, cast once; for lookups also as they are.
    fn columns(&self, compared: bool, old: bool) -> String {
        let names = self.names(compared);
        let known = self.facts.virtual_columns.get(&self.layout.table);
        let raw = |name: &str| match known.and_then(|v| v.get(name)) {
            Some(expression) => format!("({expression})"),
            // PL/pgSQL would take its own variable where the column is gone.
            None if PLPGSQL.contains(&name) => {
                format!("{}.{}", if old { "pgevict_old" } else { "pgevict_new" }, ident(name))
            }
            None => ident(name),
        };
        let texts = names.into_iter().map(|name| format!("{} AS {}", text(&raw(name)), ident(name)));
        let follows = self.walks.iter().enumerate().map(|(w, walk)| format!("{} AS pgevict_f{w}", raw(&walk.follow)));
        let columns = texts.chain(follows);
        columns.collect::<Vec<_>>().join(", ")
    }

    /// `… AS h0` for each class that has a condition.
    fn hits(&self, condition: impl Fn(&Class) -> Option<String>) -> Vec<String> {
        self.classes.iter().filter_map(|(i, c)| condition(c).map(|h| format!("({h}) AS h{i}"))).collect()
    }

    fn conditional(&self, class: &Class) -> bool {
        !class.when.is_empty() || class.columns.is_some()
    }

    /// `… AS v0` for each source, read from `image`.
    fn values(&self, image: &str, side: &str) -> Vec<String> {
        let value = |(k, source): (usize, &&Source)| match source {
            Source::Column(c) => format!("{image}.{} AS {side}{k}", ident(c)),
            Source::Lookup { take, .. } => {
                let (w, walk) = self.walk(source);
                let t = walk.takes.iter().position(|x| x == take).unwrap_or_default();
                format!("{side}l{w}.t{t} AS {side}{k}")
            }
        };
        self.sources.iter().enumerate().map(value).collect()
    }

    /// `… AS vg0` for each walk: the row points at a parent that is not there.
    fn gone(&self, image: &str, side: &str) -> Vec<String> {
        let gone = |w| format!("({image}.pgevict_f{w} IS NOT NULL AND {side}l{w}.found IS NULL) AS {side}g{w}");
        (0..self.walks.len()).map(gone).collect()
    }

    /// LIMIT keeps the parent's rows out of any join order but "for each row, by index".
    fn lookups(&self, image: &str, side: &str) -> String {
        let join = |(w, walk): (usize, &Walk)| {
            let takes: String = walk
                .takes
                .iter()
                .enumerate()
                .map(|(t, take)| format!(", {} AS t{t}", text(&format!("p.{}", ident(take)))))
                .collect();
            format!(
                "\n  LEFT JOIN LATERAL (SELECT true AS found{takes} FROM {} AS p\n    WHERE p.{} = {image}.pgevict_f{w} LIMIT 1) AS {side}l{w} ON true",
                walk.to.sql(),
                ident(&walk.by)
            )
        };
        self.walks.iter().enumerate().map(join).collect()
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

    /// One branch a class and image; two where a parent may be gone.
    fn branches(&self, sides: &[&str]) -> String {
        let paired = sides.len() == 2;
        let mut out = Vec::new();
        for (i, class) in &self.classes {
            let mut walks: Vec<usize> =
                class.values.iter().filter(|v| matches!(v, Source::Lookup { .. })).map(|v| self.walk(v).0).collect();
            walks.sort_unstable();
            walks.dedup();
            for side in sides {
                let mut and: Vec<String> = Vec::new();
                if paired {
                    and.push(format!("r.{side}"));
                }
                if (paired && self.conditional(class)) || !class.when.is_empty() {
                    and.push(format!("r.h{i}"));
                }
                let gone: Vec<String> = walks.iter().map(|w| format!("r.{side}g{w}")).collect();
                let mut found = and.clone();
                if !gone.is_empty() {
                    found.push(format!("NOT ({})", gone.join(" OR ")));
                    and.push(format!("({})", gone.join(" OR ")));
                }
                let value = |v: &Source| {
                    let k = self.sources.iter().position(|s| *s == v).unwrap_or_default();
                    format!("r.{side}{k}")
                };
                out.push(self.branch(&i.to_string(), class.values.iter().map(value).collect(), &found));
                if !gone.is_empty() {
                    out.push(self.branch(&format!("-{}", i + 1), Vec::new(), &and));
                }
            }
        }
        // UNION between two branches makes them distinct; a branch alone must say so itself.
        match out.as_slice() {
            [one] => one.replacen("SELECT", "SELECT DISTINCT", 1),
            many => many.join("\nUNION "),
        }
    }

    fn branch(&self, class: &str, mut values: Vec<String>, and: &[String]) -> String {
        values.resize(self.layout.width(), "NULL".to_owned());
        let elements: String = values.iter().map(|v| format!(", {v}")).collect();
        let condition = if and.is_empty() { String::new() } else { format!(" WHERE {}", and.join(" AND ")) };
        format!("SELECT ARRAY['{class}'::text{elements}] AS tuple FROM r{condition}")
    }
}

/// The conditions of `when` on one image.
fn when(conditions: &[When], image: &str) -> Option<String> {
    let one = |w: &When| {
        let values: Vec<String> = w.values.iter().map(|v| literal(v)).collect();
        format!("{image}.{} = ANY (ARRAY[{}]::text[])", ident(&w.column), values.join(", "))
    };
    (!conditions.is_empty()).then(|| conditions.iter().map(one).collect::<Vec<_>>().join(" AND "))
}
