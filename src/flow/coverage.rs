//! Whether rows change that no trigger captures: statistics against journal rows.
//!
//! Statistics only raise suspicion. They count rows of transactions that were rolled back, they come up to a minute late, and a
//! session with `session_replication_role = replica` changes rows that nobody was meant to capture. So nothing is flushed by this.

use crate::config::model::{Op, TableName};
use crate::rules::layout::Layout;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// A movement counts only where the journal has been silent about the table for so long: statistics come behind the rows that they
/// count, by 10 s from an idle session and by up to a minute from a busy one, and an audit finds them up to 25 s later.
const QUIET: Duration = Duration::from_secs(60);

/// Rows ever inserted, updated and deleted, for each relation of a table.
pub type Moved = BTreeMap<u32, [i64; 3]>;

#[derive(Debug)]
struct Watched {
    moved: Moved,
    /// When a journal row of it was last read, or when watching began.
    seen: Instant,
    /// A row was read since watching began, so that what was said before is over.
    heard: bool,
    /// How many rows were told of since.
    told: Option<u64>,
}

/// What is held against a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Watching has begun, and nothing has come since: what an earlier session said stands.
    Unknown,
    /// Its captures work.
    None,
    /// So many rows moved in silence.
    Rows(u64),
}

/// What is known about every table.
#[derive(Debug, Default)]
pub struct Coverage {
    tables: HashMap<TableName, Watched>,
}

impl Coverage {
    /// A journal row of this table was read.
    pub fn saw(&mut self, table: &TableName, now: Instant) {
        if let Some(watched) = self.tables.get_mut(table) {
            (watched.seen, watched.heard, watched.told) = (now, true, None);
        }
    }

    /// Captures were lost and counted: what moves now is explained by them.
    pub fn saw_all(&mut self, now: Instant) {
        self.tables.values_mut().for_each(|w| (w.seen, w.heard, w.told) = (now, true, None));
    }

    /// Compares with the last look. Returns how many rows moved that a capture should have told of; once, until a journal row of the table
    /// comes again.
    pub fn audit(&mut self, layout: &Layout, moved: Moved, now: Instant) -> Option<u64> {
        let Some(watched) = self.tables.get_mut(&layout.table) else {
            self.tables.insert(layout.table.clone(), Watched { moved, seen: now, heard: false, told: None });
            return None;
        };
        // A relation that is new comes with its past, and statistics that were reset begin anew: neither is a movement.
        let difference = |i: usize| -> u64 {
            let one = |(oid, n): (&u32, &[i64; 3])| {
                watched.moved.get(oid).map_or(0, |before| u64::try_from(n[i] - before[i]).unwrap_or(0))
            };
            moved.iter().map(one).sum()
        };
        let [inserted, updated, deleted] = [0, 1, 2].map(difference);
        let captured = [Op::Insert, Op::Update, Op::Delete].map(|op| every_row(layout, op));
        let rows = if moved.len() > 1 && !captured[1] {
            // An UPDATE that moves a row to another partition counts as a delete and an insert, and may well not concern us.
            if captured[0] && captured[2] { inserted.abs_diff(deleted) } else { 0 }
        } else {
            [inserted, updated, deleted].into_iter().zip(captured).filter(|(_, c)| *c).map(|(n, _)| n).sum()
        };
        watched.moved = moved;
        if rows == 0 || watched.told.is_some() || now.saturating_duration_since(watched.seen) < QUIET {
            return None;
        }
        watched.told = Some(rows);
        Some(rows)
    }

    /// What stands against a table now.
    #[must_use]
    pub fn suspicion(&self, table: &TableName) -> Suspicion {
        match self.tables.get(table) {
            Some(Watched { told: Some(rows), .. }) => Suspicion::Rows(*rows),
            Some(Watched { heard: true, .. }) => Suspicion::None,
            _ => Suspicion::Unknown,
        }
    }
}

/// Whether every row that this operation touches makes a journal row, whatever is in it.
fn every_row(layout: &Layout, op: Op) -> bool {
    layout.classes.iter().any(|c| c.ops.has(op) && c.when.is_empty() && (op != Op::Update || c.columns.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture;
    use crate::rules::layout::layouts;

    fn layout(columns: bool) -> Layout {
        let mut table = fixture::table("t", &["c"]);
        table.columns = columns.then(|| vec!["x".to_owned()]);
        let mut config = fixture::config();
        (config.caches, config.tables) = (vec![fixture::cache("c", "c:{id}")], vec![table]);
        layouts(&config).remove(0)
    }

    /// Looks every 25 s at what the statistics say then; returns what each look tells.
    fn run(columns: bool, looks: &[&[[i64; 3]]], rows_at: &[u64]) -> Vec<Option<u64>> {
        let (layout, begin) = (layout(columns), Instant::now());
        let mut coverage = Coverage::default();
        let mut out = Vec::new();
        for (i, look) in looks.iter().enumerate() {
            let now = begin + Duration::from_secs(25) * u32::try_from(i).unwrap();
            for at in rows_at.iter().filter(|at| (i as u64 * 25..i as u64 * 25 + 25).contains(*at)) {
                coverage.saw(&layout.table, begin + Duration::from_secs(*at));
            }
            out.push(coverage.audit(&layout, (1..).zip(look.iter().copied()).collect(), now));
        }
        out
    }

    const STILL: &[[i64; 3]] = &[[5, 5, 5]];

    #[test]
    fn rows_that_move_in_silence_are_told_of_once() {
        let looks = [STILL, STILL, STILL, &[[8, 5, 5]], &[[9, 5, 5]]];
        assert_eq!(run(false, &looks, &[]), [None, None, None, Some(3), None]);
    }

    #[test]
    fn a_suspicion_stands_until_a_journal_row_comes() {
        let (layout, begin) = (layout(false), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut coverage = Coverage::default();
        let mut look = |inserted, seconds, row: Option<u64>| {
            if let Some(row) = row {
                coverage.saw(&layout.table, at(row));
            }
            coverage.audit(&layout, BTreeMap::from([(1, [inserted, 0, 0])]), at(seconds));
            coverage.suspicion(&layout.table)
        };
        assert_eq!(look(0, 0, None), Suspicion::Unknown);
        assert_eq!(look(3, 70, None), Suspicion::Rows(3));
        assert_eq!(look(4, 100, None), Suspicion::Rows(3));
        assert_eq!(look(5, 130, Some(120)), Suspicion::None);
    }

    #[test]
    fn a_journal_row_explains_what_moves_within_a_minute_of_it() {
        let looks = [STILL, STILL, STILL, &[[8, 5, 5]], STILL, STILL, &[[9, 6, 5]]];
        assert_eq!(run(false, &looks, &[60])[3], None);
        assert_eq!(run(false, &looks, &[60])[6], Some(5), "and no longer");
    }

    #[test]
    fn what_a_filter_may_ignore_is_no_movement() {
        let looks = [STILL, STILL, STILL, &[[5, 900, 5]], &[[5, 900, 6]]];
        assert_eq!(run(true, &looks, &[]), [None, None, None, None, Some(1)]);
        assert_eq!(run(false, &looks, &[])[3], Some(895));
    }

    #[test]
    fn rows_that_move_between_partitions_and_partitions_that_join_are_no_movement() {
        let looks: [&[[i64; 3]]; 5] = [
            &[[5, 5, 5], [0, 0, 0]],
            &[[5, 5, 5], [0, 0, 0]],
            &[[5, 5, 5], [0, 0, 0]],
            &[[5, 5, 6], [1, 0, 0]],
            &[[5, 5, 6], [1, 0, 0], [70, 0, 0]],
        ];
        assert_eq!(run(true, &looks, &[]), [None; 5]);
    }

    #[test]
    fn statistics_that_were_reset_are_no_movement() {
        assert_eq!(
            run(false, &[STILL, STILL, STILL, &[[0, 0, 0]], &[[1, 0, 0]]], &[]),
            [None, None, None, None, Some(1)]
        );
    }
}
