//! The log line of a statement:
//! `evict calls.update user_id=7: user_dashboard:7 deleted, user_stats:7:* 6 deleted (lag=8ms took=3ms)`.

use super::event::{Extent, KeyOutcome, Outcome, Statement};
use super::redact::{escape, shown};
use crate::config::model::LogKeys;
use crate::rules::template::Kind;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Keys and patterns a line names; the others are counted as `+N`.
pub const MAX_KEYS: usize = 20;

/// The line of a statement.
#[must_use]
pub fn statement(s: &Statement, keys: LogKeys) -> String {
    let mut line = format!("evict {}.{}", escape(s.table.to_string().as_bytes()), s.op.as_str());
    for (hole, value) in &s.values {
        let value = match value {
            None => Some("NULL".to_owned()),
            Some(v) => shown(v, keys),
        };
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(line, " {}={value}", escape(hole.as_bytes()));
        }
    }
    line.push_str(&extent(s));
    line.push_str(": ");
    let mut parts = match keys {
        LogKeys::None => per_cache(&s.keys),
        LogKeys::Full | LogKeys::Hashed => s.keys.iter().take(MAX_KEYS).map(|k| key(k, keys)).collect(),
    };
    let unnamed = match keys {
        LogKeys::None => s.more_keys,
        LogKeys::Full | LogKeys::Hashed => s.keys.len().saturating_sub(MAX_KEYS) as u64 + s.more_keys,
    };
    if unnamed > 0 {
        parts.push(format!("+{unnamed}"));
    }
    for (cache, times) in &s.skipped_null {
        parts.push(format!("{} skipped{} (NULL)", escape(cache.as_bytes()), often(*times)));
    }
    for (cache, times) in &s.unresolved {
        parts.push(format!("{} unresolved{} (parent row is gone)", escape(cache.as_bytes()), often(*times)));
    }
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    line.push_str(&parts.join(", "));
    if s.again {
        // It is late by design; its distance from the commit is no lag.
        let _ = write!(line, " (took={})", millis(s.took));
    } else {
        let _ = write!(line, " (lag={} took={})", millis(s.lag), millis(s.took));
    }
    line
}

/// Whole milliseconds: `8ms`.
#[must_use]
pub fn millis(d: Duration) -> String {
    format!("{}ms", d.as_millis())
}

fn extent(s: &Statement) -> String {
    let why = || s.note.as_deref().map(|n| escape(n.as_bytes())).unwrap_or_else(|| "no reason recorded".to_owned());
    match s.extent {
        Extent::Rows => String::new(),
        // TRUNCATE says it already.
        Extent::Whole if s.op == crate::config::model::Op::Truncate => String::new(),
        Extent::Whole => " (whole table)".to_owned(),
        Extent::Degraded => format!(" (whole table, the trigger could not name the rows: {})", why()),
        Extent::Poison => format!(" (whole table, the journal row cannot be read: {})", why()),
    }
}

fn key(k: &KeyOutcome, keys: LogKeys) -> String {
    let name = shown(&k.key, keys).unwrap_or_default();
    match (k.kind, k.outcome) {
        (Kind::Key, Outcome::Deleted(n)) => format!("{name} {}", if n > 0 { "deleted" } else { "absent" }),
        (Kind::Pattern, Outcome::Deleted(n)) if n > 0 => format!("{name} {n} deleted"),
        (_, Outcome::Deleted(_) | Outcome::Absent) => format!("{name} absent"),
        (Kind::Pattern, Outcome::Repeat(n)) if n > 0 => format!("{name} {n} repeat"),
        (_, Outcome::Repeat(_)) => format!("{name} repeat"),
        (_, Outcome::Protected) => format!("{name} protected"),
        (_, Outcome::Refused(n)) => format!("{name} refused (matches at least {n})"),
        (_, Outcome::Observed) => format!("{name} would go"),
        (_, Outcome::Debounced) => format!("{name} debounced"),
    }
}

/// `[log] keys = "none"`: the caches with counts. Deleted counts keys, the others count keys and patterns.
fn per_cache(keys: &[KeyOutcome]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, u8), (u64, &str)> = BTreeMap::new();
    for k in keys {
        let (rank, n, word) = match k.outcome {
            Outcome::Deleted(n) if n > 0 => (0, n, "deleted"),
            Outcome::Deleted(_) | Outcome::Absent => (1, 1, "absent"),
            Outcome::Repeat(_) => (2, 1, "repeat"),
            Outcome::Protected => (3, 1, "protected"),
            Outcome::Refused(_) => (4, 1, "refused"),
            Outcome::Observed => (5, 1, "would go"),
            Outcome::Debounced => (6, 1, "debounced"),
        };
        counts.entry((&k.cache, rank)).or_insert((0, word)).0 += n;
    }
    counts.into_iter().map(|((cache, _), (n, word))| format!("{} {n} {word}", escape(cache.as_bytes()))).collect()
}

fn often(times: u64) -> String {
    if times > 1 { format!(" {times}×") } else { String::new() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::model::{Op, TableName};

    /// `calls`, update, user 7, nothing evicted yet.
    pub(crate) fn update() -> Statement {
        Statement {
            table: TableName { schema: "public".into(), name: "calls".into() },
            op: Op::Update,
            extent: Extent::Rows,
            note: None,
            values: vec![("user_id".into(), Some(b"7".to_vec()))],
            keys: Vec::new(),
            more_keys: 0,
            skipped_null: Vec::new(),
            unresolved: Vec::new(),
            again: false,
            lag: Duration::from_millis(8),
            took: Duration::from_millis(3),
        }
    }

    /// A key or, where it holds a `*`, a pattern of the cache that its first part names.
    pub(crate) fn k(key: &str, outcome: Outcome) -> KeyOutcome {
        let kind = if key.contains('*') { Kind::Pattern } else { Kind::Key };
        let cache = key.split(':').next().unwrap_or_default().to_owned();
        KeyOutcome { cache: cache.into(), kind, key: key.as_bytes().to_vec(), outcome }
    }

    fn with(change: impl FnOnce(&mut Statement)) -> Statement {
        let mut s = update();
        change(&mut s);
        s
    }

    #[track_caller]
    fn check(s: &Statement, expected: &str) {
        assert_eq!(statement(s, LogKeys::Full), expected);
    }

    #[track_caller]
    fn check_keys(keys: Vec<KeyOutcome>, expected: &str) {
        let s = with(|s| s.keys = keys);
        check(&s, &format!("evict calls.update user_id=7: {expected} (lag=8ms took=3ms)"));
    }

    #[test]
    fn the_line_is_the_one_the_contract_shows() {
        check_keys(
            vec![k("user_dashboard:7", Outcome::Deleted(1)), k("user_stats:7:*", Outcome::Deleted(6))],
            "user_dashboard:7 deleted, user_stats:7:* 6 deleted",
        );
    }

    #[test]
    fn every_outcome_has_its_word() {
        check_keys(vec![k("a:7", Outcome::Absent)], "a:7 absent");
        check_keys(vec![k("a:7", Outcome::Deleted(0))], "a:7 absent");
        check_keys(vec![k("a:7:*", Outcome::Absent)], "a:7:* absent");
        check_keys(vec![k("a:7:*", Outcome::Deleted(0))], "a:7:* absent");
        check_keys(vec![k("a:7:*", Outcome::Deleted(1))], "a:7:* 1 deleted");
        check_keys(vec![k("session:7", Outcome::Protected)], "session:7 protected");
        check_keys(vec![k("a:*", Outcome::Refused(100_001))], "a:* refused (matches at least 100001)");
        check_keys(vec![k("a:7", Outcome::Observed)], "a:7 would go");
        check_keys(vec![k("a:7:*", Outcome::Observed)], "a:7:* would go");
        check_keys(vec![k("a:7", Outcome::Debounced)], "a:7 debounced");
        check_keys(vec![k("a:7", Outcome::Repeat(1)), k("b:7", Outcome::Deleted(1))], "a:7 repeat, b:7 deleted");
    }

    #[test]
    fn second_deletes_and_ends_of_windows_have_no_lag() {
        let again = |keys| {
            with(|s| {
                s.keys = keys;
                s.again = true;
            })
        };
        let s = again(vec![k("a:7", Outcome::Repeat(0)), k("b:7:*", Outcome::Repeat(2))]);
        check(&s, "evict calls.update user_id=7: a:7 repeat, b:7:* 2 repeat (took=3ms)");
        let s = again(vec![k("a:7", Outcome::Deleted(1))]);
        check(&s, "evict calls.update user_id=7: a:7 deleted (took=3ms)");
    }

    #[test]
    fn past_twenty_keys_the_rest_is_a_number() {
        let many = |n: usize| (0..n).map(|i| k(&format!("a:{i}"), Outcome::Deleted(1))).collect::<Vec<_>>();
        let named = (0..20).map(|i| format!("a:{i} deleted")).collect::<Vec<_>>().join(", ");
        check_keys(many(20), &named);
        check_keys(many(21), &format!("{named}, +1"));
        let s = with(|s| {
            s.keys = many(25);
            s.more_keys = 100;
        });
        check(&s, &format!("evict calls.update user_id=7: {named}, +105 (lag=8ms took=3ms)"));
    }

    #[test]
    fn what_was_not_evicted_says_why() {
        check(&with(|_| {}), "evict calls.update user_id=7: nothing (lag=8ms took=3ms)");
        check(
            &with(|s| {
                s.values = vec![("user_id".into(), None)];
                s.skipped_null = vec![("dash".into(), 1), ("stats".into(), 3)];
            }),
            "evict calls.update user_id=NULL: dash skipped (NULL), stats skipped 3× (NULL) (lag=8ms took=3ms)",
        );
        check(
            &with(|s| s.unresolved = vec![("dash".into(), 2)]),
            "evict calls.update user_id=7: dash unresolved 2× (parent row is gone) (lag=8ms took=3ms)",
        );
    }

    #[test]
    fn tables_are_named_as_the_configuration_names_them() {
        let named = |schema: &str, name: &str, op, expected: &str| {
            let s = with(|s| {
                s.table = TableName { schema: schema.into(), name: name.into() };
                s.op = op;
                s.values.clear();
            });
            check(&s, &format!("evict {expected}: nothing (lag=8ms took=3ms)"));
        };
        named("shop", "Order Lines", Op::Delete, "shop.Order Lines.delete");
        named("public", "a.b", Op::Insert, "\"a.b\".insert");
        named("public", "evil\nname", Op::Insert, "evil\\nname.insert");
        named("public", "calls", Op::Truncate, "calls.truncate");
    }

    #[test]
    fn whole_tables_say_why() {
        let whole = |extent, op, note: Option<&str>, expected: &str| {
            let s = with(|s| {
                (s.extent, s.op, s.note) = (extent, op, note.map(str::to_owned));
                s.values.clear();
                s.keys = vec![k("a:*", Outcome::Deleted(4))];
            });
            check(&s, &format!("evict {expected}: a:* 4 deleted (lag=8ms took=3ms)"));
        };
        whole(Extent::Whole, Op::Truncate, None, "calls.truncate");
        whole(Extent::Whole, Op::Update, None, "calls.update (whole table)");
        whole(
            Extent::Degraded,
            Op::Update,
            Some("column \"user_id\" does not exist"),
            "calls.update (whole table, the trigger could not name the rows: column \"user_id\" does not exist)",
        );
        whole(
            Extent::Poison,
            Op::Insert,
            Some("layout 5 is\nnot known"),
            "calls.insert (whole table, the journal row cannot be read: layout 5 is\\nnot known)",
        );
        whole(
            Extent::Degraded,
            Op::Delete,
            None,
            "calls.delete (whole table, the trigger could not name the rows: no reason recorded)",
        );
    }

    #[test]
    fn hostile_values_and_keys_stay_on_their_line() {
        check(
            &with(|s| {
                s.values = vec![("user_id".into(), Some(b"7\nevict x".to_vec())), ("raw".into(), Some(vec![0xff]))];
                s.keys = vec![k("a:7\nevict x", Outcome::Deleted(1))];
            }),
            "evict calls.update user_id=7\\nevict x raw=\\xff: a:7\\nevict x deleted (lag=8ms took=3ms)",
        );
    }

    #[test]
    fn hashed_and_none_show_no_key_and_no_value() {
        let s = with(|s| {
            s.values = vec![("user_id".into(), Some(b"secret7".to_vec()))];
            s.keys = vec![
                k("dash:secret7", Outcome::Deleted(1)),
                k("dash:secret8", Outcome::Deleted(1)),
                k("stats:secret7:*", Outcome::Absent),
                k("stats:secret8:*", Outcome::Deleted(6)),
            ];
        });
        assert_eq!(
            statement(&s, LogKeys::None),
            "evict calls.update: dash 2 deleted, stats 6 deleted, stats 1 absent (lag=8ms took=3ms)"
        );
        let hashed = statement(&s, LogKeys::Hashed);
        assert!(hashed.starts_with("evict calls.update user_id=#"), "{hashed}");
        assert!(!hashed.contains("secret"), "{hashed}");
        assert_eq!(hashed.matches(" deleted").count(), 3, "{hashed}");
    }
}
