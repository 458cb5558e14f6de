//! `pgevict status`.

mod warming;

use super::client::{self, Daemon};
use super::{Common, Output, exit::Exit, out};
use crate::observe::redact::one_line;
use serde::Deserialize;
use std::fmt::Write as _;

/// Arguments of `pgevict status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Shows what the daemon does. Ends with 0 also when it is not ready: that is what `pgevict ready` is for.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let socket = match client::socket(&args.daemon, common) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    client::block_on(async {
        let text = match client::get(&socket, "/status").await {
            Ok((200, text)) => text,
            Ok((code, _)) => {
                eprintln!("error: the daemon at {} answers with HTTP {code}", socket.display());
                return Exit::Unreachable;
            }
            Err(e) => return e.tell(),
        };
        match common.output {
            Output::Json => out::text(&text),
            Output::Text => match serde_json::from_str::<Report>(&text) {
                Ok(report) => out::text(&page(&report)),
                Err(e) => {
                    eprintln!("error: the daemon at {} answers something else: {e}", socket.display());
                    return Exit::Unreachable;
                }
            },
        }
        Exit::Done
    })
}

/// What is shown of the answer; fields that an older daemon does not send stay at their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    version: String,
    uptime_s: u64,
    mode: String,
    config: Option<String>,
    ready: bool,
    alive: bool,
    reasons: Vec<Reason>,
    servers: Vec<Server>,
    position: Option<String>,
    probe: Option<Probe>,
    journal_rows: Option<u64>,
    suspected: Vec<Suspect>,
    warming: Option<warming::Warming>,
    edges: Vec<Edge>,
    totals: Totals,
    lag: Option<Lag>,
    flushes: Vec<Flush>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    what: String,
    why: String,
    since: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    server: String,
    connected: bool,
    since: Option<String>,
    to: Option<String>,
    version: Option<String>,
    last_error: Option<String>,
    reconnects: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Probe {
    at: String,
    took_ms: f64,
    heard: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Suspect {
    table: String,
    rows: u64,
    since: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Edge {
    table: String,
    cache: String,
    mode: String,
    changes: u64,
    deleted: u64,
    absent: u64,
    repeats: u64,
    skipped_null: u64,
    unresolved: u64,
    last_eviction: Option<String>,
    lag_ms: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Totals {
    changes: u64,
    deleted: u64,
    absent: u64,
    repeats: u64,
    repeat_deleted: u64,
    protected: u64,
    refused: u64,
    observed: u64,
    degraded: u64,
    poison: u64,
    flushes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lag {
    p50_ms: f64,
    p99_ms: f64,
    statements: u64,
    window_s: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flush {
    at: String,
    why: String,
    caches: Vec<String>,
    done: bool,
    deleted: u64,
    took_ms: Option<f64>,
}

/// An edge that found nothing this often, and never anything, is pointed at.
const SUSPICIOUS: u64 = 20;

fn page(r: &Report) -> String {
    let mut p = String::new();
    // Writing to a String cannot fail.
    let _ = head(r, &mut p)
        .and_then(|()| counts(r, &mut p))
        .and_then(|()| edges(r, &mut p))
        .and_then(|()| r.warming.as_ref().map_or(Ok(()), |w| warming::page(w, &mut p)))
        .and_then(|()| tail(r, &mut p));
    p
}

fn head(r: &Report, p: &mut String) -> std::fmt::Result {
    let state = match (r.alive, r.ready) {
        (false, _) => "STUCK (its loop has not been heard of for 15 s)",
        (true, true) => "ready",
        (true, false) => "NOT READY",
    };
    writeln!(p, "pgevict {}: {state}, mode {}, up {}", r.version, r.mode, span(r.uptime_s))?;
    for reason in &r.reasons {
        writeln!(p, "  {}: {} (since {})", plain(&reason.what), plain(&reason.why), reason.since)?;
    }
    writeln!(p)?;
    for s in &r.servers {
        let name = if s.server == "postgres" { "PostgreSQL" } else { "Redis" };
        let state = if s.connected { "connected" } else { "not connected" };
        write!(p, "{name:<10} {state}")?;
        if let Some(to) = &s.to {
            write!(p, ", {}", plain(to))?;
        }
        if let Some(version) = &s.version {
            write!(p, ", version {}", plain(version))?;
        }
        if let Some(since) = &s.since {
            write!(p, ", since {since}")?;
        }
        if s.reconnects > 0 {
            write!(p, ", {} reconnects", s.reconnects)?;
        }
        if let Some(error) = &s.last_error {
            write!(p, "\n{:<10} last error: {}", "", plain(error))?;
        }
        writeln!(p)?;
    }
    if let Some(config) = &r.config {
        writeln!(p, "{:<10} {}", "config", plain(config))?;
    }
    if let Some(position) = &r.position {
        write!(p, "{:<10} {}", "position", plain(position))?;
        match r.journal_rows {
            Some(rows) => writeln!(p, ", journal {rows} rows")?,
            None => writeln!(p)?,
        }
    }
    if let Some(probe) = &r.probe {
        write!(p, "{:<10} arrived {} after {} ms", "probe", probe.at, probe.took_ms)?;
        writeln!(p, "{}", if probe.heard { "" } else { "; the bell was not heard, evictions come by polling" })?;
    }
    for s in &r.suspected {
        let what = "changed and no trigger told of it, or were rolled back";
        writeln!(p, "{:<10} {}: {} rows {what} (since {})", "suspected", plain(&s.table), s.rows, s.since)?;
    }
    Ok(())
}

fn counts(r: &Report, p: &mut String) -> std::fmt::Result {
    let t = &r.totals;
    match &r.lag {
        Some(l) => writeln!(
            p,
            "{:<10} p50 {} ms, p99 {} ms ({} statements of the last {} min)",
            "lag",
            number(l.p50_ms),
            number(l.p99_ms),
            l.statements,
            l.window_s / 60
        )?,
        None => writeln!(p, "{:<10} nothing was evicted in the last minutes", "lag")?,
    }
    write!(p, "{:<10} {} changes, {} keys deleted, {} absent", "total", t.changes, t.deleted, t.absent)?;
    if t.repeats > 0 {
        write!(p, ", {} repeats that found {} stale fills", t.repeats, t.repeat_deleted)?;
    }
    for (n, word) in [
        (t.observed, "only observed"),
        (t.protected, "protected"),
        (t.refused, "refused"),
        (t.degraded, "degraded captures"),
        (t.poison, "unreadable journal rows"),
        (t.flushes, "flushes"),
    ] {
        if n > 0 {
            write!(p, ", {n} {word}")?;
        }
    }
    writeln!(p)
}

fn edges(r: &Report, p: &mut String) -> std::fmt::Result {
    let heads =
        ["TABLE", "CACHE", "MODE", "CHANGES", "DELETED", "ABSENT", "REPEATS", "NULL", "UNRESOLVED", "LAG", "LAST"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(r.edges.iter().map(|e| {
        [
            plain(&e.table),
            plain(&e.cache),
            e.mode.clone(),
            e.changes.to_string(),
            e.deleted.to_string(),
            e.absent.to_string(),
            e.repeats.to_string(),
            e.skipped_null.to_string(),
            e.unresolved.to_string(),
            e.lag_ms.map_or("-".to_owned(), |ms| format!("{} ms", number(ms))),
            e.last_eviction.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    table(&rows, 3, p)
}

/// Aligned columns, the first row being their heads; so many of them hold names.
fn table<const N: usize>(rows: &[[String; N]], names: usize, p: &mut String) -> std::fmt::Result {
    writeln!(p)?;
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            // Names to the left, numbers to the right.
            if i < names {
                write!(line, "{cell:<0$}  ", widths[i])?;
            } else {
                write!(line, "{cell:>0$}  ", widths[i])?;
            }
        }
        writeln!(p, "{}", line.trim_end())?;
    }
    Ok(())
}

fn tail(r: &Report, p: &mut String) -> std::fmt::Result {
    let wrong = r.edges.iter().filter(|e| e.deleted == 0 && e.absent >= SUSPICIOUS).collect::<Vec<_>>();
    if !wrong.is_empty() {
        writeln!(p)?;
    }
    for e in wrong {
        writeln!(
            p,
            "{} → {} has looked {} times and never found a key: is its template what the application writes?",
            plain(&e.table),
            plain(&e.cache),
            e.absent
        )?;
    }
    if !r.flushes.is_empty() {
        writeln!(p, "\nlast flushes")?;
    }
    for f in r.flushes.iter().take(5) {
        let caches = if f.caches.is_empty() { "all caches".to_owned() } else { plain(&f.caches.join(", ")) };
        let end = match (f.done, f.took_ms) {
            (true, Some(ms)) => format!("{} deleted in {} ms", f.deleted, number(ms)),
            _ => "not finished".to_owned(),
        };
        writeln!(p, "  {}  {caches}: {} ({end})", f.at, plain(&f.why))?;
    }
    Ok(())
}

/// What came over the wire goes to a terminal.
fn plain(text: &str) -> String {
    one_line(text)
}

/// Two digits for small numbers, none for large ones.
fn number(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: serde_json::Value) -> String {
        page(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_healthy_daemon_reads_at_a_glance() {
        let text = shown(json!({
            "version": "0.1.0", "uptime_s": 7_380, "mode": "enforce", "config": "/etc/pgevict/config.toml",
            "ready": true, "alive": true, "position": "753:753:", "journal_rows": 12,
            "servers": [
                {"server": "postgres", "connected": true, "to": "pgevict@db:5432/app", "version": "15.8", "since": "T1"},
                {"server": "redis", "connected": true, "to": "redis://r:6379/0", "version": "7.0.15", "since": "T2",
                 "last_error": "connection refused", "reconnects": 2}
            ],
            "edges": [
                {"table": "calls", "cache": "user_dashboard", "mode": "enforce", "changes": 9, "deleted": 7, "absent": 2,
                 "lag_ms": 8.04, "last_eviction": "T3"},
                {"table": "agents", "cache": "a", "mode": "observe"}
            ],
            "totals": {"changes": 9, "deleted": 7, "absent": 2, "flushes": 1},
            "lag": {"p50_ms": 4.0, "p99_ms": 12.4, "statements": 9, "window_s": 300},
            "flushes": [{"at": "T0", "why": "first start", "caches": [], "done": true, "deleted": 3, "took_ms": 1.25}]
        }));
        let expected = "\
pgevict 0.1.0: ready, mode enforce, up 2 h 3 min

PostgreSQL connected, pgevict@db:5432/app, version 15.8, since T1
Redis      connected, redis://r:6379/0, version 7.0.15, since T2, 2 reconnects
           last error: connection refused
config     /etc/pgevict/config.toml
position   753:753:, journal 12 rows
lag        p50 4.0 ms, p99 12 ms (9 statements of the last 5 min)
total      9 changes, 7 keys deleted, 2 absent, 1 flushes

TABLE   CACHE           MODE     CHANGES  DELETED  ABSENT  REPEATS  NULL  UNRESOLVED     LAG  LAST
calls   user_dashboard  enforce        9        7       2        0     0           0  8.0 ms    T3
agents  a               observe        0        0       0        0     0           0       -     -

last flushes
  T0  all caches: first start (3 deleted in 1.2 ms)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_wrong_stands_at_the_top() {
        let text = shown(json!({
            "ready": false, "alive": true, "mode": "enforce",
            "reasons": [{"what": "Redis down", "why": "WRONGPASS: check redis.password", "since": "T"}]
        }));
        assert!(text.starts_with("pgevict : NOT READY, mode enforce, up 0 s\n  Redis down: WRONGPASS"), "{text}");
        assert!(shown(json!({"ready": true, "alive": false})).contains("STUCK"));
    }

    #[test]
    fn an_edge_that_never_finds_a_key_is_pointed_at() {
        let edge = |absent: u64, deleted: u64| {
            let edge = json!({"table": "calls", "cache": "a", "absent": absent, "deleted": deleted});
            shown(json!({ "edges": [edge] })).contains("never found a key")
        };
        assert!(edge(20, 0));
        assert!(!edge(19, 0));
        assert!(!edge(500, 1));
    }

    #[test]
    fn spans_are_short() {
        let check = |seconds, expected: &str| assert_eq!(span(seconds), expected);
        check(59, "59 s");
        check(61, "1 min");
        check(3_600, "1 h 0 min");
        check(200_000, "2 d 7 h");
    }

    #[test]
    fn what_comes_over_the_wire_cannot_act_on_the_terminal() {
        let text = shown(json!({"reasons": [{"what": "x", "why": "\u{1b}[2Jgone", "since": "T"}]}));
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
