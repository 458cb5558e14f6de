//! The stream behind `pgevict tail`: every line, also those that the log sums up.

use super::clock::{Now, rfc3339};
use super::event::{Extent, Outcome, Statement};
use super::limit::deleted_and_absent;
use super::notices::Notice;
use super::redact::{escape, shown};
use super::status::ms;
use super::words::MAX_KEYS;
use crate::config::model::LogKeys;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::broadcast;

/// Lines that wait for a reader; a slower one loses the oldest and is told how many.
const MAX_LINES: usize = 4_096;
/// Bytes of all lines that wait. Past it a line names no more keys than the log does.
const MAX_HELD: usize = 16 << 20;

/// One line of the stream; cheap to clone.
#[derive(Debug, Clone)]
pub struct TailLine(Arc<Held>);

#[derive(Debug)]
struct Held {
    json: String,
    /// Bytes of all lines alive, this one included.
    alive: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.json.len(), Ordering::Relaxed);
    }
}

impl TailLine {
    /// One JSON object without line breaks; `docs/json.md` describes it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.0.json
    }
}

/// What a reader that lost lines is told in their place.
#[must_use]
pub fn lost(lines: u64) -> String {
    json!({ "event": "lost", "line": format!("({lines} lines lost: this reader was too slow)"), "lines": lines })
        .to_string()
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Tail {
    sender: broadcast::Sender<TailLine>,
    alive: Arc<AtomicUsize>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(MAX_LINES), alive: Arc::default() }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<TailLine> {
        self.sender.subscribe()
    }

    pub(super) fn readers(&self) -> usize {
        self.sender.receiver_count()
    }

    pub(super) fn statement(&self, now: Now, s: &Statement, line: &str, keys: LogKeys) {
        if self.sender.receiver_count() > 0 {
            let named = if self.alive.load(Ordering::Relaxed) < MAX_HELD { usize::MAX } else { MAX_KEYS };
            self.send(&statement_json(now, s, line, keys, named));
        }
    }

    pub(super) fn notice(&self, now: Now, n: &Notice) {
        if self.sender.receiver_count() > 0 {
            self.send(&json!({ "event": n.event, "at": rfc3339(now.wall), "line": n.text }));
        }
    }

    fn send(&self, value: &Value) {
        let json = value.to_string();
        self.alive.fetch_add(json.len(), Ordering::Relaxed);
        // Without readers the line is dropped, which is what it is for.
        let _ = self.sender.send(TailLine(Arc::new(Held { json, alive: Arc::clone(&self.alive) })));
    }
}

fn statement_json(now: Now, s: &Statement, line: &str, keys: LogKeys, named: usize) -> Value {
    let (deleted, absent) = deleted_and_absent(s);
    let value = |(hole, value): &(Arc<str>, Option<Vec<u8>>)| {
        let shown = value.as_ref().and_then(|v| shown(v, keys));
        json!({ "hole": &**hole, "value": shown })
    };
    let values: Vec<Value> = if keys == LogKeys::None { Vec::new() } else { s.values.iter().map(value).collect() };
    let key = |k: &super::event::KeyOutcome| {
        let (outcome, count) = outcome(k.outcome);
        json!({ "cache": &*k.cache, "kind": k.kind.as_str(), "key": shown(&k.key, keys), "outcome": outcome, "count": count })
    };
    let skipped = |reason: &'static str| move |(cache, times): &(String, u64)| json!({ "cache": cache, "reason": reason, "times": times });
    let skipped: Vec<Value> =
        s.skipped_null.iter().map(skipped("null")).chain(s.unresolved.iter().map(skipped("unresolved"))).collect();
    json!({
        "event": "evict",
        "at": rfc3339(now.wall),
        "line": line,
        "table": s.table.to_string(),
        "op": s.op.as_str(),
        "extent": extent(s.extent),
        "note": s.note.as_deref().map(|n| escape(n.as_bytes())),
        "values": values,
        "keys": s.keys.iter().take(named).map(key).collect::<Vec<_>>(),
        "more_keys": s.keys.len().saturating_sub(named) as u64 + s.more_keys,
        "skipped": skipped,
        "deleted": deleted,
        "absent": absent,
        "lag_ms": (!s.again).then(|| ms(s.lag)),
        "took_ms": ms(s.took),
    })
}

/// An outcome for programs, with its number of keys.
#[must_use]
pub fn outcome(o: Outcome) -> (&'static str, u64) {
    match o {
        Outcome::Deleted(n) if n > 0 => ("deleted", n),
        Outcome::Deleted(_) | Outcome::Absent => ("absent", 0),
        Outcome::Repeat(n) => ("repeat", n),
        Outcome::Protected => ("protected", 0),
        Outcome::Refused(n) => ("refused", n),
        Outcome::Observed => ("observed", 0),
        Outcome::Debounced => ("debounced", 0),
    }
}

fn extent(e: Extent) -> &'static str {
    match e {
        Extent::Rows => "rows",
        Extent::Whole => "whole",
        Extent::Degraded => "degraded",
        Extent::Poison => "poison",
    }
}

/// The text of a line of the stream, for people.
#[must_use]
pub fn text_of(json_line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json_line).ok()?;
    let line = value.get("line")?.as_str()?.to_owned();
    Some(match value.get("at").and_then(Value::as_str) {
        Some(at) => format!("{at} {line}"),
        None => line,
    })
}

#[cfg(test)]
mod tests {
    use super::super::words::{
        self,
        tests::{k, update},
    };
    use super::*;

    fn evicting(n: usize) -> Statement {
        let mut s = update();
        s.keys = (0..n).map(|i| k(&format!("a:{i}"), Outcome::Deleted(1))).collect();
        s
    }

    fn send(tail: &Tail, s: &Statement, keys: LogKeys) {
        tail.statement(Now::read(), s, &words::statement(s, keys), keys);
    }

    #[test]
    fn a_line_names_all_keys_where_the_log_names_twenty() {
        let tail = Tail::new();
        let mut reader = tail.subscribe();
        let mut s = evicting(30);
        s.keys.push(k("b:*", Outcome::Absent));
        s.skipped_null = vec![("c".into(), 1)];
        send(&tail, &s, LogKeys::Full);
        let v: Value = serde_json::from_str(reader.try_recv().unwrap().json()).unwrap();
        assert_eq!(v["keys"].as_array().unwrap().len(), 31);
        assert_eq!(v["keys"][0], json!({"cache":"a","kind":"key","key":"a:0","outcome":"deleted","count":1}));
        assert_eq!(v["keys"][30], json!({"cache":"b","kind":"pattern","key":"b:*","outcome":"absent","count":0}));
        assert_eq!(v["skipped"], json!([{"cache":"c","reason":"null","times":1}]));
        assert_eq!(v["values"], json!([{"hole":"user_id","value":"7"}]));
        assert_eq!((&v["deleted"], &v["absent"], &v["more_keys"]), (&json!(30), &json!(1), &json!(0)));
        assert_eq!(v["lag_ms"], json!(8.0));
        assert!(v["line"].as_str().unwrap().contains("+11"));
    }

    #[test]
    fn hidden_keys_are_hidden_here_too() {
        let tail = Tail::new();
        let mut reader = tail.subscribe();
        let mut s = update();
        s.values = vec![("user_id".into(), Some(b"secret".to_vec()))];
        s.keys = vec![k("a:secret", Outcome::Deleted(1))];
        for keys in [LogKeys::Hashed, LogKeys::None] {
            send(&tail, &s, keys);
            let line = reader.try_recv().unwrap();
            assert!(!line.json().contains("secret"), "{}", line.json());
        }
    }

    #[test]
    fn a_slow_reader_is_told_how_many_lines_it_lost() {
        let tail = Tail::new();
        let mut reader = tail.subscribe();
        for _ in 0..MAX_LINES + 5 {
            send(&tail, &update(), LogKeys::Full);
        }
        match reader.try_recv() {
            Err(broadcast::error::TryRecvError::Lagged(n)) => assert_eq!(n, 5),
            other => panic!("{other:?}"),
        }
        assert!(lost(5).contains("\"lines\":5"));
    }

    #[test]
    fn waiting_lines_are_bounded_in_bytes() {
        let tail = Tail::new();
        let mut reader = tail.subscribe();
        let big = evicting(10_000);
        for _ in 0..40 {
            send(&tail, &big, LogKeys::Full);
        }
        let held = tail.alive.load(Ordering::Relaxed);
        assert!(held < MAX_HELD + (4 << 20), "{held}");
        while reader.try_recv().is_ok() {}
        assert_eq!(tail.alive.load(Ordering::Relaxed), 0, "read lines are freed");
    }

    #[test]
    fn people_see_the_time_and_the_line() {
        assert_eq!(text_of(r#"{"at":"T","line":"evict x","event":"evict"}"#).as_deref(), Some("T evict x"));
        assert_eq!(text_of(&lost(3)).as_deref(), Some("(3 lines lost: this reader was too slow)"));
        assert_eq!(text_of("no json"), None);
    }
}
