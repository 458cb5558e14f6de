//! What keeps the log readable: repeats fold into a count, floods of evictions into one summary a table and second.
//!
//! Time is an argument; [`Repeats::due`] and [`Flood::due`] give out what a window that has ended owes.

use super::event::{Outcome, Statement};
use super::notices::Notice;
use super::redact::escape;
use super::words::millis;
use crate::config::model::TableName;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of notices with the same key, one is printed in this long.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(10);
/// Keys of notices that are told apart at the same time; what comes beyond shares one key.
const MAX_REPEAT_KEYS: usize = 256;
/// Eviction lines a second, before summaries begin. At about 200 bytes a line this is 40 kB/s.
pub const LINES_PER_SECOND: u32 = 200;
/// Tables with a summary of their own in one second; the others share one.
const MAX_FLOOD_TABLES: usize = 256;

/// Folds repeats of the same notice.
#[derive(Debug, Default)]
pub struct Repeats {
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    /// How often the notice came again since then, and the last of them.
    more: Option<(u64, Notice)>,
}

impl Repeats {
    /// Takes a notice; gives back what is to be printed now.
    pub fn admit(&mut self, now: Instant, notice: Notice) -> Vec<Notice> {
        let Some(key) = notice.repeat_key.clone() else { return vec![notice] };
        let mut out = self.due(now);
        let key = if self.held.len() < MAX_REPEAT_KEYS || self.held.contains_key(&key) { key } else { String::new() };
        match self.held.get_mut(&key) {
            None => {
                self.held.insert(key, Held { since: now, more: None });
                out.push(notice);
            }
            Some(held) => {
                let so_far = held.more.take().map_or(0, |(n, _)| n);
                held.more = Some((so_far + 1, notice));
            }
        }
        out
    }

    /// What windows that are over by now have held back: the last of the repeats, with a count of the others.
    pub fn due(&mut self, now: Instant) -> Vec<Notice> {
        self.settle(|held| now.saturating_duration_since(held.since) >= REPEAT_WINDOW, now)
    }

    /// The same for all windows: the program ends.
    pub fn drain(&mut self, now: Instant) -> Vec<Notice> {
        self.settle(|_| true, now)
    }

    fn settle(&mut self, over: impl Fn(&Held) -> bool, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        self.held.retain(|_, held| {
            if !over(held) {
                return true;
            }
            let Some((n, mut last)) = held.more.take() else { return false };
            let seconds = now.saturating_duration_since(held.since).as_secs().max(1);
            if n > 1 {
                last.text = format!("{} ({} more like it in the last {seconds}s)", last.text, n - 1);
            }
            out.push(last);
            // A repeat that goes on is printed once a window, not at once again.
            held.since = now;
            true
        });
        out
    }
}

/// Lets [`LINES_PER_SECOND`] eviction lines through and sums up the others.
#[derive(Debug, Default)]
pub struct Flood {
    since: Option<Instant>,
    lines: u32,
    /// None stands for what is beyond the limit.
    tables: BTreeMap<Option<TableName>, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    statements: u64,
    deleted: u64,
    absent: u64,
    lag: Duration,
}

impl Flood {
    /// Whether the statement's line is to be printed; call [`Flood::due`] first.
    pub fn admit(&mut self, now: Instant, s: &Statement) -> bool {
        if self.since.is_none() {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines < LINES_PER_SECOND {
            self.lines += 1;
            return true;
        }
        let table = Some(s.table.clone());
        let known = self.tables.len() < MAX_FLOOD_TABLES || self.tables.contains_key(&table);
        let sum = self.tables.entry(table.filter(|_| known)).or_default();
        let (deleted, absent) = deleted_and_absent(s);
        sum.statements += 1;
        sum.deleted += deleted;
        sum.absent += absent;
        sum.lag = sum.lag.max(s.lag);
        false
    }

    /// The summaries of a second that is over.
    pub fn due(&mut self, now: Instant) -> Vec<Notice> {
        match self.since {
            Some(since) if now.saturating_duration_since(since) >= Duration::from_secs(1) => self.drain(),
            _ => Vec::new(),
        }
    }

    /// The summaries so far: the program ends.
    pub fn drain(&mut self) -> Vec<Notice> {
        self.since = None;
        let line = |(table, sum): (Option<TableName>, Sum)| {
            let table = table.map_or_else(|| "other tables".to_owned(), |t| t.to_string());
            Notice::info(
                "evict_summary",
                format!(
                    "evict {}: {} more statements within 1s, {} deleted, {} absent (max lag={})",
                    escape(table.as_bytes()),
                    sum.statements,
                    sum.deleted,
                    sum.absent,
                    millis(sum.lag)
                ),
            )
        };
        std::mem::take(&mut self.tables).into_iter().map(line).collect()
    }
}

/// Keys deleted (by first deletes), and keys and patterns that found nothing.
#[must_use]
pub fn deleted_and_absent(s: &Statement) -> (u64, u64) {
    s.keys.iter().fold((0, 0), |(deleted, absent), k| match k.outcome {
        Outcome::Deleted(n) if n > 0 => (deleted + n, absent),
        Outcome::Deleted(_) | Outcome::Absent => (deleted, absent + 1),
        _ => (deleted, absent),
    })
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::{k, update};
    use super::*;

    fn refused(detail: &str) -> Notice {
        Notice::warn("test", detail.to_owned()).repeating("redis")
    }

    fn texts(notices: Vec<Notice>) -> Vec<String> {
        notices.into_iter().map(|n| n.text).collect()
    }

    fn s(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn the_first_is_printed_and_repeats_are_counted() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        assert_eq!(texts(r.admit(t0, refused("one"))), ["one"]);
        for i in 0..38 {
            assert!(r.admit(t0 + s(0.2 * f64::from(i)), refused(&format!("again {i}"))).is_empty());
        }
        assert!(r.due(t0 + s(9.9)).is_empty());
        assert_eq!(texts(r.due(t0 + s(10.0))), ["again 37 (37 more like it in the last 10s)"]);
        assert!(r.due(t0 + s(19.9)).is_empty());
    }

    #[test]
    fn a_single_repeat_is_printed_without_a_count() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        r.admit(t0, refused("one"));
        r.admit(t0 + s(1.0), refused("two"));
        assert_eq!(texts(r.due(t0 + s(11.0))), ["two"]);
    }

    #[test]
    fn a_repeat_that_goes_on_is_printed_once_a_window() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        let printed: usize = (0..600).map(|i| r.admit(t0 + s(0.1 * f64::from(i)), refused("x")).len()).sum();
        // The first, and one at the end of each of the five windows that a minute ends.
        assert_eq!(printed, 6);
    }

    #[test]
    fn after_a_quiet_window_it_is_news_again() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        r.admit(t0, refused("one"));
        assert_eq!(texts(r.admit(t0 + s(10.5), refused("two"))), ["two"]);
    }

    #[test]
    fn different_keys_do_not_hide_each_other_and_their_number_is_bounded() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        let of = |key: &str| Notice::warn("test", key.to_owned()).repeating(key);
        let printed: usize = (0..1000).map(|i| r.admit(t0, of(&i.to_string())).len()).sum();
        assert_eq!(printed, MAX_REPEAT_KEYS + 1, "each known key once, and the shared one once");
        assert!(r.held.len() <= MAX_REPEAT_KEYS + 1);
        let plain = Notice::info("test", "no key".into());
        assert_eq!(r.admit(t0, plain.clone()).len() + r.admit(t0, plain).len(), 2);
    }

    #[test]
    fn the_end_prints_what_was_held() {
        let t0 = Instant::now();
        let mut r = Repeats::default();
        (0..4).for_each(|_| drop(r.admit(t0, refused("x"))));
        assert_eq!(texts(r.drain(t0 + s(2.0))), ["x (2 more like it in the last 2s)"]);
        assert!(r.drain(t0 + s(2.0)).is_empty());
    }

    #[test]
    fn above_200_lines_a_second_each_table_gets_one_summary() {
        let t0 = Instant::now();
        let mut flood = Flood::default();
        let mut calls = update();
        calls.keys = vec![k("a:1", Outcome::Deleted(1)), k("b:1:*", Outcome::Deleted(2)), k("c:1", Outcome::Absent)];
        let mut agents = calls.clone();
        agents.table.name = "agents".into();
        agents.lag = s(0.08);
        let printed = (0..205).filter(|_| flood.admit(t0, &calls)).count();
        assert_eq!(printed, 200);
        assert!(!flood.admit(t0 + s(0.5), &agents));
        assert!(flood.due(t0 + s(0.9)).is_empty());
        assert_eq!(
            texts(flood.due(t0 + s(1.0))),
            [
                "evict agents: 1 more statements within 1s, 3 deleted, 1 absent (max lag=80ms)",
                "evict calls: 5 more statements within 1s, 15 deleted, 5 absent (max lag=8ms)",
            ]
        );
        assert!(flood.admit(t0 + s(1.0), &calls), "the next second begins anew");
    }

    #[test]
    fn two_hundred_lines_a_second_pass_for_ever() {
        let t0 = Instant::now();
        let mut flood = Flood::default();
        for i in 0..2000 {
            let now = t0 + s(0.005 * f64::from(i));
            assert!(flood.due(now).is_empty());
            assert!(flood.admit(now, &update()), "{i}");
        }
    }
}
