//! Is this server still what the position speaks of? PostgreSQL may have lost commits that the position counted, and
//! may hand out their transaction ids again (HAZARDS 3.5, B2, B6, B20).
//!
//! Simple on purpose: whatever is not plainly the same history is flushed once. A server of an earlier history than
//! the position's is not used at all, and another database is refused.

use super::record::Record;
use crate::observe::event::FlushReason;
use crate::planted;
use crate::rules::snapshot::Snapshot;
use std::cmp::Ordering;

/// The history that was followed last: a server behind it is an old primary that still answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// `system identifier/database oid`.
    pub db: String,
    /// Timeline, eight hex digits.
    pub timeline: String,
}

impl Lineage {
    /// Whether a server with this identity is behind: the same database on a lower timeline (HAZARDS P5). A position
    /// taken there would let a split brain delete by the wrong half's changes.
    #[must_use]
    pub fn is_ahead_of(&self, db: &str, timeline: &str) -> bool {
        self.db == db && order(timeline, &self.timeline) == Ordering::Less
    }

    /// Why a server on `timeline` is passed over, for people.
    #[must_use]
    pub fn behind(&self, timeline: &str) -> String {
        format!(
            "it is on timeline {timeline}, and pgevict has followed timeline {}: an old primary that still answers",
            self.timeline
        )
    }
}

/// What an operator does about a server that is behind.
pub const BEHIND_REMEDY: &str = "stop it, or point postgres.url at the present primary; if an earlier backup was restored on purpose, delete the \
     position in Redis (redis.state:position), and all caches are flushed";

/// What the server says about itself, read within one session.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// `system identifier/database oid`.
    pub db: &'a str,
    /// Timeline, eight hex digits.
    pub timeline: &'a str,
    /// As [`Record::sentinel`]; None in notify delivery, which keeps no position that a fork could make wrong.
    pub sentinel: Option<&'a str>,
    /// A snapshot taken now.
    pub now: &'a Snapshot,
    /// Whether the beacon that the record names is there, with the position as its snapshot.
    pub beacon: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same history: replay from the position.
    GoOn,
    /// Commits may be lost, or their ids reused: flush, then a new position.
    Flush(FlushReason),
    /// An old primary; says why. Another host may do, so this is retried, never taken.
    PassOver(String),
    /// Another database; says why. Nothing that is retried could make this right.
    Refuse(String),
}

/// The decision table. The first line that holds decides:
///
/// | found | verdict |
/// |---|---|
/// | other system identifier or database | refuse |
/// | lower timeline | pass over |
/// | higher timeline (promotion, restore to a point in time) | flush |
/// | no position in the record | flush |
/// | the sentinel, its table, the counter or the journal's file is another one | flush |
/// | the position is ahead of the server | flush |
/// | the record's beacon is missing or another one | flush |
/// | none of these | go on |
#[must_use]
pub fn judge(record: &Record, found: &Found<'_>) -> Verdict {
    let lineage = Lineage { db: record.db.clone(), timeline: record.timeline.clone() };
    if record.db != found.db {
        return Verdict::Refuse(format!("belongs to database {}, this is {}", record.db, found.db));
    }
    if lineage.is_ahead_of(found.db, found.timeline) {
        return Verdict::PassOver(format!("{} ({BEHIND_REMEDY})", lineage.behind(found.timeline)));
    }
    let Some(sentinel) = found.sentinel else { return Verdict::GoOn };
    let fork = |what: String| Verdict::Flush(FlushReason::Fork(what));
    if record.timeline != found.timeline {
        return fork(format!(
            "timeline {} became {}: a standby was promoted, or a backup was restored to a point in time",
            record.timeline, found.timeline
        ));
    }
    let Some(pos) = &record.pos else { return Verdict::Flush(FlushReason::NoPosition) };
    if record.sentinel != sentinel && !planted::is("no-sentinel") {
        return fork(broken(&record.sentinel, sentinel).into());
    }
    if pos.xmax() > found.now.xmax() {
        return fork(format!("the position ({pos}) is ahead of the server ({})", found.now));
    }
    if record.beacon != 0 && !found.beacon {
        return fork(format!("beacon {} is missing: commits were lost", record.beacon));
    }
    Verdict::GoOn
}

/// Which part of `nonce/oid/oid of lost/file of the journal` is another one. The oids tell a restored dump from the
/// original, whose nonce it carries (B20).
fn broken(old: &str, new: &str) -> &'static str {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('/').collect(), new.split('/').collect());
    let same = |i: usize| old.get(i) == new.get(i);
    if !same(1) || !same(2) {
        "pgevict's schema is another one: it was dropped, or restored from a dump"
    } else if !same(0) {
        "the unlogged sentinel is gone: the server crashed, was stopped at once or was restored from a copy"
    } else {
        "the journal was dropped, emptied or rewritten"
    }
}

/// Timelines are hexadecimal and padded; another form counts as equal, so that it never locks anybody out.
fn order(a: &str, b: &str) -> Ordering {
    match (u32::from_str_radix(a, 16), u32::from_str_radix(b, 16)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTINEL: &str = "nonce/100/200/300";

    fn record() -> Record {
        let mut record = Record::new("7/16384".into(), "00000002".into(), SENTINEL.into());
        record.pos = Some("900:1000:950".parse().unwrap());
        record.beacon = 17;
        record
    }

    /// Judges a server that differs from the record's in what `change` says.
    #[track_caller]
    fn check(what: &str, expected: &str, change: impl FnOnce(&mut Record, &mut Found<'_>)) {
        let now = "1000:1000:".parse().unwrap();
        let mut record = record();
        let mut found =
            Found { db: "7/16384", timeline: "00000002", sentinel: Some(SENTINEL), now: &now, beacon: true };
        change(&mut record, &mut found);
        let verdict = match judge(&record, &found) {
            Verdict::GoOn => "go on".to_owned(),
            Verdict::Flush(FlushReason::Fork(why)) => format!("flush: {why}"),
            Verdict::Flush(why) => format!("flush: {why:?}"),
            Verdict::PassOver(why) => format!("pass over: {why}"),
            Verdict::Refuse(why) => format!("refuse: {why}"),
        };
        assert!(verdict.starts_with(expected), "{what}: {verdict}");
    }

    #[test]
    fn the_decision_table_holds_line_by_line() {
        check("the same", "go on", |_, _| {});
        check("another cluster", "refuse: belongs to database 7/16384, this is 8/16384", |_, f| f.db = "8/16384");
        check("another database of the cluster", "refuse", |_, f| f.db = "7/5");
        check("an old primary", "pass over: it is on timeline 00000001", |_, f| f.timeline = "00000001");
        check("a promotion", "flush: timeline 00000002 became 00000003", |_, f| f.timeline = "00000003");
        check("timelines are hexadecimal", "flush: timeline", |r, f| {
            (r.timeline, f.timeline) = ("00000009".into(), "0000000A");
        });
        check("a crash", "flush: the unlogged sentinel is gone", |_, f| f.sentinel = Some("other/100/200/300"));
        check("a dump", "flush: pgevict's schema is another one", |_, f| f.sentinel = Some("nonce/101/201/301"));
        check("a counter of its own", "flush: pgevict's schema", |_, f| f.sentinel = Some("nonce/100/201/300"));
        check("an emptied journal", "flush: the journal was dropped", |_, f| f.sentinel = Some("nonce/100/200/301"));
        check("a record without a position", "flush: NoPosition", |r, _| r.pos = None);
    }

    #[test]
    fn a_position_ahead_of_the_server_and_a_missing_beacon_are_forks() {
        check("ids that start again", "flush: the position (900:1001:) is ahead of the server (1000:1000:)", |r, _| {
            r.pos = Some("900:1001:".parse().unwrap());
        });
        check("a lost beacon", "flush: beacon 17 is missing", |_, f| f.beacon = false);
        check("no beacon yet", "go on", |r, f| (r.beacon, f.beacon) = (0, false));
    }

    #[test]
    fn the_worse_finding_decides() {
        check("another database, lower timeline", "refuse", |_, f| (f.db, f.timeline) = ("8/1", "00000001"));
        check("an old primary that crashed too", "pass over", |_, f| {
            (f.timeline, f.sentinel) = ("00000001", Some("other/100/200/300"));
        });
        check("promoted while nothing was proven", "flush: timeline", |r, f| {
            (r.pos, f.timeline) = (None, "00000003");
        });
    }

    #[test]
    fn notify_delivery_has_no_position_to_doubt_but_is_refused_all_the_same() {
        check("a crash", "go on", |r, f| (r.pos, f.sentinel) = (None, None));
        check("a promotion", "go on", |_, f| (f.timeline, f.sentinel) = ("00000003", None));
        check("an old primary", "pass over", |_, f| (f.timeline, f.sentinel) = ("00000001", None));
        check("another database", "refuse", |_, f| (f.db, f.sentinel) = ("8/1", None));
    }
}
