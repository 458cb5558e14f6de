//! The same tuples for a statement that changed one row: what most statements of an application do.
//!
//! No row numbers, no CTE, no `DISTINCT`: old and new image are simply joined, and the tuples are one array expression.
//! It costs about a third of the general query, which everything else is left to: more rows, none, large values.
//!
//! Its first run has nothing pinned, since pinning costs more than the query does. So every name says whose it is (what is called runs as the
//! function's owner, and the caller chooses the `search_path`), and it answers only where all values have types whose text no setting changes.

use super::{Compiler, PLPGSQL};
use crate::config::model::Op;
use crate::rules::layout::{Class, Source};
use crate::rules::sql::{ident, literal};
use std::collections::BTreeSet;

/// Types whose text is the same under all settings: boolean, "char", name, the integers, text, oid, json, macaddr, inet, bpchar, varchar, numeric, uuid,
/// jsonb. (src/include/catalog/pg_type.dat of PostgreSQL; built-in types keep their oids.)
const PLAIN: &str = "16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802";

impl Compiler<'_> {
    /// Yields one column `tuples text[]`, two-dimensional: a row where the statement changed exactly one, NULL where that
    /// one concerns no class; no row otherwise. `plain`: two rows where it changed more than one, `{}` where a value's text depends on settings.
    pub(super) fn one_row(&self, op: Op, plain: bool) -> String {
        let images: &[(&str, bool)] = match op {
            Op::Insert => &[("n", false)],
            Op::Delete => &[("o", true)],
            _ => &[("o", true), ("n", false)],
        };
        let lookups: String = images.iter().map(|(alias, _)| self.parents(alias)).collect();

        // Classes that the same rows concern share one condition: often all of them.
        let mut groups: Vec<(Option<String>, Vec<_>)> = Vec::new();
        for (i, class) in &self.classes {
            let condition = concerns(class, images);
            match groups.iter_mut().find(|(c, _)| *c == condition) {
                Some((_, classes)) => classes.push((*i, class)),
                None => groups.push((condition, vec![(*i, class)])),
            }
        }
        let (last, _) = images[images.len() - 1];
        let mut parts = Vec::new();
        for (condition, classes) in &groups {
            let tuples =
                |alias: &str| -> Vec<String> { classes.iter().map(|(i, c)| self.tuple(*i, c, alias)).collect() };
            // Equal values to follow mean the same parent, so that its columns need no comparison.
            let own: BTreeSet<&str> = classes.iter().flat_map(|(_, c)| &c.values).map(Source::own_column).collect();
            let array = if images.len() == 2 && !own.is_empty() {
                let both = [tuples("o"), tuples("n")].concat().join(", ");
                let one = tuples(last).join(", ");
                format!("CASE WHEN {} THEN ARRAY[{both}] ELSE ARRAY[{one}] END", differ(&own))
            } else {
                format!("ARRAY[{}]", tuples(last).join(", "))
            };
            parts.push(match condition {
                Some(condition) => format!("CASE WHEN {condition} THEN {array} END"),
                None => array,
            });
        }
        // Asked once a statement and column; a column that changes its type changes the answer with the next statement.
        let texts: BTreeSet<&str> = self
            .classes
            .iter()
            .flat_map(|(_, c)| c.values.iter().map(Source::own_column).chain(c.when.iter().map(|w| w.column.as_str())))
            .collect();
        // Concatenation takes NULL for nothing.
        let parts = parts.join("\n    OPERATOR(pg_catalog.||) ");
        let compared = images.len() == 2;
        let mark = (plain && compared).then_some("true AS pgevict_there");
        let images_of =
            |(alias, old): &(&str, bool)| format!("({}) AS {alias}", self.image(compared, *old, mark.filter(|_| !old)));
        let from: Vec<String> = images.iter().map(images_of).collect();
        if !plain {
            // Whatever was updated has an old image, so that one is counted; the condition is uncorrelated: the plan asks it once, before
            // anything is joined.
            return format!(
                "SELECT {parts} AS tuples\n  FROM {}{lookups}\n  WHERE NOT EXISTS (SELECT FROM {} OFFSET 1)",
                from.join(" CROSS JOIN "),
                transition_table(images[0].1)
            );
        }
        // A row that is moved to a partition whose trigger refuses it has an old image and no new one.
        let checks: Vec<String> = compared
            .then(|| "n.pgevict_there".to_owned())
            .into_iter()
            .chain(texts.iter().map(|c| {
                format!(
                    "pg_catalog.pg_typeof({last}.{}) OPERATOR(pg_catalog.=) ANY ('{{{PLAIN}}}'::pg_catalog.oid[])",
                    ident(c)
                )
            }))
            .collect();
        let answer = if checks.is_empty() {
            parts
        } else {
            format!("CASE WHEN {} THEN\n    {parts}\n    ELSE '{{}}'::pg_catalog.text[] END", checks.join(" AND "))
        };
        let on = if compared { " ON true" } else { "" };
        let from = from.join(" LEFT JOIN ");
        format!("SELECT {answer} AS tuples\n  FROM {from}{on} LIMIT 2")
    }

    /// An image's columns as they are, for expressions to cast. Named bare: of a column that is gone, `alias.column` could
    /// mean a cast or a function of the whole row.
    fn image(&self, compared: bool, old: bool, mark: Option<&str>) -> String {
        let relation = transition_table(old);
        let mut names: BTreeSet<&str> = self.sources.iter().map(|s| s.own_column()).collect();
        for (_, class) in &self.classes {
            names.extend(class.when.iter().map(|w| w.column.as_str()));
            if compared {
                names.extend(class.columns.iter().flatten().map(String::as_str));
            }
        }
        let known = self.facts.virtual_columns.get(&self.layout.table);
        let column = |name: &str| match known.and_then(|known| known.get(name)) {
            Some(expression) => format!("({expression}) AS {}", ident(name)),
            None if PLPGSQL.contains(&name) => format!("{relation}.{}", ident(name)),
            None => ident(name),
        };
        let columns: Vec<String> = mark.map(str::to_owned).into_iter().chain(names.into_iter().map(column)).collect();
        format!("SELECT {} FROM {relation}", columns.join(", "))
    }

    /// The parents of one image. LIMIT keeps their rows out of any join order but "for this row, by index".
    fn parents(&self, alias: &str) -> String {
        let join = |(w, walk): (usize, &super::Walk)| {
            let takes = walk.takes.iter().enumerate().map(|(t, take)| format!(", p.{} AS t{t}", ident(take)));
            format!(
                "\n  LEFT JOIN LATERAL (SELECT true AS found{} FROM {} AS p\n    WHERE p.{} = {alias}.{} LIMIT 1) AS {alias}l{w} ON true",
                takes.collect::<String>(),
                walk.to.sql(),
                ident(&walk.by),
                ident(&walk.follow)
            )
        };
        self.walks.iter().enumerate().map(join).collect()
    }

    /// The tuple of one image.
    fn tuple(&self, class: usize, what: &Class, alias: &str) -> String {
        let array = |name: String, mut values: Vec<String>| {
            values.resize(self.layout.width(), "NULL".to_owned());
            let elements: String = values.iter().map(|v| format!(", {v}")).collect();
            format!("ARRAY['{name}'::pg_catalog.text{elements}]")
        };
        let value = |source: &Source| match source {
            Source::Column(c) => format!("{alias}.{}::pg_catalog.text", ident(c)),
            Source::Lookup { take, .. } => {
                let (w, walk) = self.walk(source);
                let t = walk.takes.iter().position(|x| x == take).unwrap_or_default();
                format!("{alias}l{w}.t{t}::pg_catalog.text")
            }
        };
        let found = array(class.to_string(), what.values.iter().map(value).collect());
        let followed: BTreeSet<usize> =
            what.values.iter().filter(|v| matches!(v, Source::Lookup { .. })).map(|v| self.walk(v).0).collect();
        if followed.is_empty() {
            return found;
        }
        let gone: Vec<String> = followed
            .iter()
            .map(|w| format!("({alias}.{} IS NOT NULL AND {alias}l{w}.found IS NULL)", ident(&self.walks[*w].follow)))
            .collect();
        format!(
            "CASE WHEN {} THEN {} ELSE {found} END",
            gone.join(" OR "),
            array(format!("-{}", class + 1), Vec::new())
        )
    }
}

fn transition_table(old: bool) -> &'static str {
    if old { "pgevict_old" } else { "pgevict_new" }
}

/// When a changed row concerns a class; None: always.
fn concerns(class: &Class, images: &[(&str, bool)]) -> Option<String> {
    let mut and = Vec::new();
    if let (Some(columns), 2) = (&class.columns, images.len()) {
        let columns: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
        // A filter that names no column at all lets nothing pass.
        and.push(if columns.is_empty() { "false".into() } else { differ(&columns) });
    }
    let when: Vec<String> = images
        .iter()
        .map(|(alias, _)| {
            let one = |w: &crate::config::model::When| {
                let values: Vec<String> = w.values.iter().map(|v| literal(v)).collect();
                // Collation "C": under a nondeterministic one `a` and `A` would be one value.
                format!("{alias}.{}::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[])", ident(&w.column), values.join(", "))
            };
            format!("({})", class.when.iter().map(one).collect::<Vec<_>>().join(" AND "))
        })
        .collect();
    if !class.when.is_empty() {
        and.push(format!("({})", when.join(" OR ")));
    }
    (!and.is_empty()).then(|| and.join(" AND "))
}

/// Whether the old and the new image differ in some of these columns. The operator compares what is stored, so it needs
/// no equality operator of the type (`json` has none) and no collation, and one comparison serves all columns.
fn differ(columns: &BTreeSet<&str>) -> String {
    let row = |alias: &str| {
        let columns: Vec<String> = columns.iter().map(|c| format!("{alias}.{}", ident(c))).collect();
        format!("ROW({})::pg_catalog.record", columns.join(", "))
    };
    format!("{} OPERATOR(pg_catalog.*<>) {}", row("o"), row("n"))
}
