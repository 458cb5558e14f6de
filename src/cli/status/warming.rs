//! Warming, as `pgevict status` shows it.

use super::{plain, table};
use serde::Deserialize;
use std::fmt::Write as _;

/// Warmed keys that a change took before anybody had read them: so many, and four of five, make a warmer that is in vain.
const IN_VAIN: u64 = 20;

/// What is shown of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Warming {
    paused_since: Option<String>,
    caches: Vec<Cache>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cache {
    cache: String,
    waiting: u64,
    running: u64,
    stored: u64,
    asked: u64,
    empty: u64,
    retried: u64,
    refused: u64,
    failed: u64,
    dropped: u64,
    last_error: Option<String>,
    last_error_at: Option<String>,
    resting_until: Option<String>,
    read: u64,
    unread: u64,
}

pub(super) fn page(w: &Warming, p: &mut String) -> std::fmt::Result {
    let heads = [
        "WARMED", "WAITING", "RUNNING", "FILLED", "EMPTY", "RETRIED", "REFUSED", "FAILED", "DROPPED", "READ", "UNREAD",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(w.caches.iter().map(|c| {
        let numbers = [
            c.waiting,
            c.running,
            c.stored + c.asked,
            c.empty,
            c.retried,
            c.refused,
            c.failed,
            c.dropped,
            c.read,
            c.unread,
        ];
        let mut row = heads.map(|_| plain(&c.cache));
        for (cell, n) in row.iter_mut().skip(1).zip(numbers) {
            *cell = n.to_string();
        }
        row
    }));
    table(&rows, 1, p)?;
    if let Some(since) = &w.paused_since {
        writeln!(p, "warming is paused since {since}: `pgevict resume --warming`")?;
    }
    for c in &w.caches {
        let name = plain(&c.cache);
        if let Some(until) = &c.resting_until {
            writeln!(p, "{name} rests until {until}: its warming failed")?;
        }
        if let (Some(why), Some(at)) = (&c.last_error, &c.last_error_at) {
            writeln!(p, "{name} last failed {at}: {}", plain(why))?;
        }
        if c.unread >= IN_VAIN && c.unread >= 4 * c.read {
            let told = c.unread + c.read;
            writeln!(p, "{name}: {} of {told} warmed keys went unread: is it worth warming?", c.unread)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: serde_json::Value) -> String {
        let mut p = String::new();
        page(&serde_json::from_value(value).unwrap(), &mut p).unwrap();
        p
    }

    #[test]
    fn what_waits_what_was_filled_and_what_went_wrong_stand_together() {
        let text = shown(json!({
            "paused_since": "T0",
            "caches": [
                {"cache": "dashboard", "waiting": 3, "running": 1, "stored": 5, "asked": 1, "retried": 2, "read": 4, "unread": 2},
                {"cache": "a", "failed": 7, "last_error": "no such\ncolumn", "last_error_at": "T1", "resting_until": "T2"}
            ]
        }));
        let expected = "
WARMED     WAITING  RUNNING  FILLED  EMPTY  RETRIED  REFUSED  FAILED  DROPPED  READ  UNREAD
dashboard        3        1       6      0        2        0       0        0     4       2
a                0        0       0      0        0        0       7        0     0       0
warming is paused since T0: `pgevict resume --warming`
a rests until T2: its warming failed
a last failed T1: no such\\ncolumn
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_warmer_whose_keys_nobody_reads_is_pointed_at() {
        let vain = |read: u64, unread: u64| {
            shown(json!({"caches": [{"cache": "a", "read": read, "unread": unread}]})).contains("is it worth warming?")
        };
        assert!(vain(0, 20) && vain(5, 20));
        assert!(!vain(0, 19) && !vain(6, 20));
    }
}
