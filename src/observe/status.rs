//! What `pgevict status` shows: counts since the start, the state of both servers, reasons for not being ready.

use super::clock::{Now, rfc3339};
use super::event::{FlushReason, KeyOutcome, Outcome, Server, Statement};
use super::notices::{flush_code, flush_reason};
use super::window::{MINUTES, Window};
use crate::config::model::{Config, Mode, TableName};
use crate::rules::layout;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

/// Flushes that are remembered.
const MAX_FLUSHES: usize = 20;

/// One edge: a change of this table makes that cache stale.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeId {
    /// The table; parents of lookups too.
    pub table: TableName,
    /// The cache.
    pub cache: String,
}

/// All edges of a configuration, those of lookups' parents included, with the mode each runs in.
#[must_use]
pub fn edges_of(config: &Config) -> BTreeMap<EdgeId, Mode> {
    let mut out = BTreeMap::new();
    for layout in layout::layouts(config) {
        for edge in layout.classes.iter().flat_map(|c| &c.edges) {
            let mode = config.mode_of(edge.via.as_ref().unwrap_or(&layout.table));
            // An edge that exists both in its own right and through a lookup shows the mode that deletes.
            let id = EdgeId { table: layout.table.clone(), cache: edge.cache.clone() };
            let shown = out.entry(id).or_insert(mode);
            if mode == Mode::Enforce {
                *shown = mode;
            }
        }
    }
    out
}

/// The answer of `/status`; `docs/json.md` describes it. Counts are since the start, times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// Version of the daemon.
    pub version: String,
    /// When it started.
    pub started_at: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Global mode.
    pub mode: String,
    /// Configuration file.
    pub config: Option<String>,
    /// Whether no reason is set.
    pub ready: bool,
    /// Whether the loop has been heard of within [`super::observer::BEAT_LIMIT`].
    pub alive: bool,
    /// Why it is not ready.
    pub reasons: Vec<Reason>,
    /// PostgreSQL, then Redis.
    pub servers: Vec<ServerStatus>,
    /// Where delivery stands, as a PostgreSQL snapshot.
    pub position: Option<String>,
    /// The last probe that arrived; None: none yet.
    pub probe: Option<ProbeStatus>,
    /// Rows in the journal, where it is known.
    pub journal_rows: Option<u64>,
    /// Tables whose rows changed though no trigger told of it, by the server's statistics; until a change of theirs is captured.
    pub suspected: Vec<Suspect>,
    /// How warming goes; None: no cache is warmed.
    pub warming: Option<super::warming::WarmingStatus>,
    /// The edges, sorted by table and cache.
    pub edges: Vec<EdgeStatus>,
    /// Sums over all statements.
    pub totals: Totals,
    /// How late evictions of the last minutes were; None when there were none.
    pub lag: Option<Lag>,
    /// The last flushes, newest first.
    pub flushes: Vec<Flush>,
}

/// A table whose rows changed without a capture: a suspicion, since transactions that were rolled back count too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// The table.
    pub table: String,
    /// How many rows, by the server's statistics.
    pub rows: u64,
    /// Since when it is known.
    pub since: String,
}

pub(super) fn suspect((table, (rows, since)): (&TableName, &(u64, SystemTime))) -> Suspect {
    Suspect { table: table.to_string(), rows: *rows, since: rfc3339(*since) }
}

/// A reason for not being ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Its kind: `starting`, `redis_down`, `not_live`, …
    pub condition: String,
    /// Its kind for people, with the edge it concerns.
    pub what: String,
    /// Why, and what to do.
    pub why: String,
    /// Since when.
    pub since: String,
}

/// One of the two servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// `postgres` or `redis`.
    pub server: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Since when that is so; None before the first try.
    pub since: Option<String>,
    /// Where, without secrets.
    pub to: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The last error, also when it is over.
    pub last_error: Option<String>,
    /// Connections after the first one.
    pub reconnects: u64,
}

/// The last probe that travelled the whole way: row, trigger, bell, journal, Redis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeStatus {
    /// When it arrived.
    pub at: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// The bell rang for it, or was not needed. False: writers' rings are not heard, evictions come by polling.
    pub heard: bool,
}

impl ProbeStatus {
    pub(super) fn arrived(now: Now, took: Duration, unheard: bool) -> Self {
        Self { at: rfc3339(now.wall), took_ms: ms(took), heard: !unheard }
    }
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeStatus {
    /// The table.
    pub table: String,
    /// The cache.
    pub cache: String,
    /// Mode of the edge.
    pub mode: String,
    /// What happened.
    #[serde(flatten)]
    pub counts: Counts,
    /// When a key of it was last deleted.
    pub last_eviction: Option<String>,
    /// The lag of its last eviction, in milliseconds.
    pub lag_ms: Option<f64>,
}

/// What became of the keys of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Statements that concerned it, repeats not counted.
    pub changes: u64,
    /// Keys deleted.
    pub deleted: u64,
    /// Keys and patterns that found nothing.
    pub absent: u64,
    /// Second deletes done.
    pub repeats: u64,
    /// Keys that had come back by then: stale fills that were removed.
    pub repeat_deleted: u64,
    /// Keys and patterns exempt by `never_delete`.
    pub protected: u64,
    /// Patterns refused by `over_limit = "refuse"`.
    pub refused: u64,
    /// Keys and patterns that mode observe left alone.
    pub observed: u64,
    /// Deletes put off to the end of their `debounce` window.
    pub debounced: u64,
    /// Rows skipped because a hole was NULL.
    pub skipped_null: u64,
    /// Rows skipped because their parent was gone.
    pub unresolved: u64,
}

/// Sums over everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What happened. `changes` counts each statement once, however many edges it had.
    #[serde(flatten)]
    pub counts: Counts,
    /// Statements whose trigger could not name the rows.
    pub degraded: u64,
    /// Journal rows that could not be read.
    pub poison: u64,
    /// SCAN passes.
    pub passes: u64,
    /// Flushes begun.
    pub flushes: u64,
}

/// How late evictions were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lag {
    /// Half of the statements were evicted within this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were.
    pub p99_ms: f64,
    /// Statements in the window.
    pub statements: u64,
    /// Length of the window in seconds.
    pub window_s: u64,
}

/// One flush.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flush {
    /// When it began.
    pub at: String,
    /// Its kind: `no_position`, `fork`, …
    pub reason: String,
    /// Its kind for people, with what was found.
    pub why: String,
    /// Which caches; all when empty.
    pub caches: Vec<String>,
    /// Whether it is over.
    pub done: bool,
    /// Keys deleted.
    pub deleted: u64,
    /// How long it took, in milliseconds.
    pub took_ms: Option<f64>,
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Book {
    /// By table and cache.
    edges: BTreeMap<TableName, BTreeMap<String, EdgeBook>>,
    pub(super) totals: Totals,
    servers: BTreeMap<Server, ServerBook>,
    flushes: VecDeque<Flush>,
    lag: Window,
}

#[derive(Debug)]
struct EdgeBook {
    mode: Mode,
    counts: Counts,
    last_eviction: Option<(SystemTime, Option<Duration>)>,
}

#[derive(Debug, Default)]
struct ServerBook {
    connected: bool,
    since: Option<SystemTime>,
    to: Option<String>,
    version: Option<String>,
    last_error: Option<String>,
    connections: u64,
}

impl Book {
    pub(super) fn new(now: Now) -> Self {
        Self {
            edges: BTreeMap::new(),
            totals: Totals::default(),
            servers: BTreeMap::from([
                (Server::Postgres, ServerBook::default()),
                (Server::Redis, ServerBook::default()),
            ]),
            flushes: VecDeque::new(),
            lag: Window::new(now.instant),
        }
    }

    /// The edges of a new configuration; edges that stay keep their counts.
    pub(super) fn set_edges(&mut self, edges: BTreeMap<EdgeId, Mode>) {
        let mut old = std::mem::take(&mut self.edges);
        for (id, mode) in edges {
            let known = old.get_mut(&id.table).and_then(|caches| caches.remove(&id.cache));
            let (counts, last_eviction) = known.map(|e| (e.counts, e.last_eviction)).unwrap_or_default();
            let caches = self.edges.entry(id.table).or_default();
            caches.insert(id.cache, EdgeBook { mode, counts, last_eviction });
        }
    }

    pub(super) fn statement(&mut self, now: Now, s: &Statement) {
        let again = s.again;
        s.keys.iter().for_each(|k| self.totals.counts.add(k));
        self.totals.counts.skipped_null += s.skipped_null.iter().map(|(_, times)| times).sum::<u64>();
        self.totals.counts.unresolved += s.unresolved.iter().map(|(_, times)| times).sum::<u64>();
        self.totals.counts.changes += u64::from(!again);
        if !again && evicted(&s.keys) {
            self.lag.record(now.instant, s.lag);
        }
        let skipped = s.skipped_null.iter().chain(&s.unresolved).map(|(cache, _)| cache.as_str());
        let mut concerned = s.keys.iter().map(|k| &*k.cache).chain(skipped);
        let first = concerned.next();
        // One cache, as most statements have, needs no list.
        let others: BTreeSet<&str> = concerned.filter(|cache| Some(*cache) != first).collect();
        for cache in first.into_iter().chain(others) {
            let Some(edge) = self.edges.get_mut(&s.table).and_then(|caches| caches.get_mut(cache)) else { continue };
            let of_cache =
                |list: &[(String, u64)]| list.iter().filter(|(c, _)| c == cache).map(|(_, n)| n).sum::<u64>();
            let mut deleted = false;
            for k in s.keys.iter().filter(|k| &*k.cache == cache) {
                edge.counts.add(k);
                deleted |= matches!(k.outcome, Outcome::Deleted(n) | Outcome::Repeat(n) if n > 0);
            }
            edge.counts.skipped_null += of_cache(&s.skipped_null);
            edge.counts.unresolved += of_cache(&s.unresolved);
            edge.counts.changes += u64::from(!again);
            if deleted {
                edge.last_eviction = Some((now.wall, (!again).then_some(s.lag)));
            }
        }
    }

    pub(super) fn connected(&mut self, now: Now, server: Server, to: &str, version: &str) {
        let s = self.servers.entry(server).or_default();
        s.connections += 1;
        if !s.connected {
            s.since = Some(now.wall);
        }
        s.connected = true;
        (s.to, s.version) = (Some(to.to_owned()), Some(version.to_owned()));
    }

    pub(super) fn disconnected(&mut self, now: Now, server: Server, why: &str) {
        let s = self.servers.entry(server).or_default();
        if s.connected || s.since.is_none() {
            s.since = Some(now.wall);
        }
        s.connected = false;
        s.last_error = Some(why.to_owned());
    }

    /// Whether the server is connected there already.
    pub(super) fn is_connected(&self, server: Server, to: &str) -> bool {
        self.servers.get(&server).is_some_and(|s| s.connected && s.to.as_deref() == Some(to))
    }

    /// Whether this is not the server's first connection.
    pub(super) fn is_reconnect(&self, server: Server) -> bool {
        self.servers.get(&server).is_some_and(|s| s.connections > 1)
    }

    pub(super) fn flush_begun(&mut self, now: Now, caches: &[String], reason: &FlushReason) {
        self.totals.flushes += 1;
        self.flushes.truncate(MAX_FLUSHES - 1);
        self.flushes.push_front(Flush {
            at: rfc3339(now.wall),
            reason: flush_code(reason).to_owned(),
            why: flush_reason(reason),
            caches: caches.to_vec(),
            done: false,
            deleted: 0,
            took_ms: None,
        });
    }

    pub(super) fn flush_done(&mut self, caches: &[String], deleted: u64, took: Duration) {
        // Begun again after a cut: only the newest one of these caches is ended by this.
        if let Some(f) = self.flushes.iter_mut().find(|f| !f.done && f.caches == caches) {
            (f.done, f.deleted, f.took_ms) = (true, deleted, Some(ms(took)));
        }
    }

    pub(super) fn edges(&self) -> Vec<EdgeStatus> {
        let edge = |table: &TableName, cache: &String, e: &EdgeBook| EdgeStatus {
            table: table.to_string(),
            cache: cache.clone(),
            mode: e.mode.as_str().to_owned(),
            counts: e.counts.clone(),
            last_eviction: e.last_eviction.map(|(at, _)| rfc3339(at)),
            lag_ms: e.last_eviction.and_then(|(_, lag)| lag).map(ms),
        };
        let of = |(table, caches): (_, &BTreeMap<String, EdgeBook>)| {
            caches.iter().map(|(cache, e)| edge(table, cache, e)).collect::<Vec<_>>()
        };
        self.edges.iter().flat_map(of).collect()
    }

    pub(super) fn servers(&self) -> Vec<ServerStatus> {
        let server = |(server, s): (&Server, &ServerBook)| ServerStatus {
            server: server_code(*server).to_owned(),
            connected: s.connected,
            since: s.since.map(rfc3339),
            to: s.to.clone(),
            version: s.version.clone(),
            last_error: s.last_error.clone(),
            reconnects: s.connections.saturating_sub(1),
        };
        self.servers.iter().map(server).collect()
    }

    pub(super) fn flushes(&self) -> Vec<Flush> {
        self.flushes.iter().cloned().collect()
    }

    pub(super) fn lag(&self, now: Now) -> Option<Lag> {
        let (statements, [p50, p99]) = self.lag.quantiles(now.instant, [0.5, 0.99])?;
        Some(Lag { p50_ms: ms(p50), p99_ms: ms(p99), statements, window_s: 60 * MINUTES as u64 })
    }

    pub(super) fn has_edge(&self, table: &TableName, cache: &str) -> bool {
        self.edges.get(table).is_some_and(|caches| caches.contains_key(cache))
    }

    pub(super) fn has_table(&self, table: &TableName) -> bool {
        self.edges.contains_key(table)
    }
}

impl Counts {
    fn add(&mut self, k: &KeyOutcome) {
        match k.outcome {
            Outcome::Deleted(n) if n > 0 => self.deleted += n,
            Outcome::Deleted(_) | Outcome::Absent => self.absent += 1,
            Outcome::Repeat(n) => {
                self.repeats += 1;
                self.repeat_deleted += n;
            }
            Outcome::Protected => self.protected += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Observed => self.observed += 1,
            Outcome::Debounced => self.debounced += 1,
        }
    }
}

/// Whether Redis was asked to delete, for the first time: only then is there a lag.
pub(super) fn evicted(keys: &[KeyOutcome]) -> bool {
    keys.iter().any(|k| matches!(k.outcome, Outcome::Deleted(_) | Outcome::Absent))
}

/// `postgres` or `redis`: as metrics and JSON spell it.
#[must_use]
pub fn server_code(server: Server) -> &'static str {
    match server {
        Server::Postgres => "postgres",
        Server::Redis => "redis",
    }
}

/// Milliseconds with microseconds behind the point.
#[must_use]
pub fn ms(d: Duration) -> f64 {
    d.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::{k, update};
    use super::*;

    fn book(caches: &[&str]) -> Book {
        let mut book = Book::new(Now::read());
        let edge = |c: &&str| (EdgeId { table: update().table, cache: (*c).to_owned() }, Mode::Enforce);
        book.set_edges(caches.iter().map(edge).collect());
        book
    }

    #[test]
    fn each_outcome_counts_where_it_belongs() {
        let mut b = book(&["a", "b", "c"]);
        let mut s = update();
        s.keys = vec![
            k("a:1", Outcome::Deleted(1)),
            k("a:2", Outcome::Absent),
            k("a:2:*", Outcome::Deleted(6)),
            k("b:1", Outcome::Protected),
            k("b:*", Outcome::Refused(9)),
            k("b:2", Outcome::Observed),
            k("b:3", Outcome::Debounced),
        ];
        s.skipped_null = vec![("c".into(), 2)];
        s.unresolved = vec![("c".into(), 1)];
        b.statement(Now::read(), &s);
        let a = Counts { changes: 1, deleted: 7, absent: 1, ..Counts::default() };
        let of_b = Counts { changes: 1, protected: 1, refused: 1, observed: 1, debounced: 1, ..Counts::default() };
        let c = Counts { changes: 1, skipped_null: 2, unresolved: 1, ..Counts::default() };
        assert_eq!(b.edges().into_iter().map(|e| e.counts).collect::<Vec<_>>(), [a, of_b, c]);
        assert_eq!(b.totals.counts.changes, 1);
        assert_eq!(b.totals.counts.deleted, 7);
        let times: Vec<bool> = b.edges().iter().map(|e| e.last_eviction.is_some()).collect();
        assert_eq!(times, [true, false, false]);
    }

    #[test]
    fn repeats_are_no_changes_and_have_no_lag() {
        let now = Now::read();
        let mut b = book(&["a"]);
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Repeat(1)), k("a:2", Outcome::Repeat(0))];
        s.again = true;
        b.statement(now, &s);
        // The end of a debounce window.
        s.keys = vec![k("a:3", Outcome::Deleted(1))];
        b.statement(now, &s);
        let expected = Counts { repeats: 2, repeat_deleted: 1, deleted: 1, ..Counts::default() };
        assert_eq!(b.totals.counts, expected);
        let edge = &b.edges()[0];
        assert!(edge.last_eviction.is_some() && edge.lag_ms.is_none(), "{edge:?}");
        assert_eq!(b.lag(now), None);
    }

    #[test]
    fn a_new_configuration_keeps_the_counts_of_edges_that_stay() {
        let mut b = book(&["a", "b"]);
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Deleted(1)), k("b:1", Outcome::Deleted(1))];
        b.statement(Now::read(), &s);
        let edge = |c: &str| (EdgeId { table: update().table, cache: c.to_owned() }, Mode::Observe);
        b.set_edges(BTreeMap::from([edge("b"), edge("c")]));
        let seen: Vec<_> = b.edges().into_iter().map(|e| (e.cache, e.mode, e.counts.deleted)).collect();
        assert_eq!(seen, [("b".into(), "observe".into(), 1), ("c".into(), "observe".into(), 0)]);
    }

    #[test]
    fn servers_remember_since_when_and_the_last_error() {
        let t0 = Now { wall: SystemTime::UNIX_EPOCH, ..Now::read() };
        let at = |s: u64| t0 + Duration::from_secs(s);
        let mut b = book(&[]);
        assert!(b.servers().iter().all(|s| !s.connected && s.since.is_none()));
        b.disconnected(at(1), Server::Redis, "refused");
        b.disconnected(at(2), Server::Redis, "refused again");
        assert_eq!(b.servers()[1].since.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        b.connected(at(3), Server::Redis, "redis://h", "7.0");
        assert!(!b.is_reconnect(Server::Redis));
        b.disconnected(at(4), Server::Redis, "cut");
        b.connected(at(5), Server::Redis, "redis://h", "7.0");
        let redis = &b.servers()[1];
        assert_eq!((redis.server.as_str(), redis.connected, redis.reconnects), ("redis", true, 1));
        assert_eq!(redis.last_error.as_deref(), Some("cut"));
        assert_eq!(redis.since.as_deref(), Some("1970-01-01T00:00:05.000Z"));
    }

    #[test]
    fn flushes_are_remembered_newest_first_and_bounded() {
        let now = Now::read();
        let mut b = book(&[]);
        for _ in 0..30 {
            b.flush_begun(now, &["a".into()], &FlushReason::Unproven);
        }
        b.flush_begun(now, &[], &FlushReason::Operator);
        b.flush_done(&["a".into()], 5, Duration::from_millis(2));
        let flushes = b.flushes();
        assert_eq!((flushes.len(), b.totals.flushes), (20, 31));
        assert_eq!((flushes[0].reason.as_str(), flushes[0].done), ("operator", false));
        assert_eq!((flushes[1].done, flushes[1].deleted, flushes[1].took_ms), (true, 5, Some(2.0)));
        assert!(!flushes[2].done);
    }

    #[test]
    fn lag_is_that_of_the_last_minutes() {
        let now = Now::read();
        let mut b = book(&["a"]);
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Absent)];
        b.statement(now, &s);
        let lag = b.lag(now).unwrap();
        assert_eq!((lag.statements, lag.window_s), (1, 300));
        assert!((8.0..=9.0).contains(&lag.p99_ms), "{}", lag.p99_ms);
        assert_eq!(b.lag(now + Duration::from_secs(600)), None);
    }
}
