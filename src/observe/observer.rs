//! The handle that the program reports to.

mod gauges;

use super::clock::{Now, rfc3339};
use super::event::{Condition, Extent, Observation, Statement};
use super::limit::{Flood, Repeats};
use super::log;
use super::metrics::{Format, Metrics};
use super::notices::{self, Notice, condition_code, condition_words, crate_version};
use super::status::{Book, EdgeId, ProbeStatus, Reason, StatusReport, edges_of, suspect};
use super::tail::{Tail, TailLine};
use super::warming::WarmBook;
use super::words;
use crate::config::model::{Config, Log, LogKeys, Mode, TableName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;

/// The loop counts as dead when it has not been heard of for this long. Its longest wait between two beats must stay
/// well below; a single delete of Redis is bounded by less.
pub const BEAT_LIMIT: Duration = Duration::from_secs(15);

/// Takes reports, words them, counts them, remembers what is wrong. Cheap to clone; all clones are one.
///
/// The clocks are read once a call, at this boundary; everything below takes the time as an argument. A lock is held
/// for the time of counting only, never while a line is written.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Now,
    metrics: Metrics,
    tail: Tail,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    keys: LogKeys,
    mode: Mode,
    config: Option<String>,
    conditions: BTreeMap<Condition, (String, SystemTime)>,
    book: Book,
    edges: BTreeMap<EdgeId, Mode>,
    position: Option<String>,
    probe: Option<ProbeStatus>,
    journal_rows: Option<u64>,
    suspected: BTreeMap<TableName, (u64, SystemTime)>,
    warming: WarmBook,
    beat: Now,
    repeats: Repeats,
    flood: Flood,
}

/// What is to be logged once the lock is free.
enum Line {
    Notice(Notice),
    Statement(String),
}

impl Observer {
    /// An observer that has seen nothing; [`Condition::Starting`] is set until delivery begins.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self::new_at(log, Now::read())
    }

    /// The same at a given time.
    #[must_use]
    pub fn new_at(log: &Log, now: Now) -> Self {
        let starting = (Condition::Starting, ("no session has begun yet; this takes a moment".to_owned(), now.wall));
        let metrics = Metrics::new(now);
        metrics.conditions(std::iter::once(Condition::Starting));
        Self(Arc::new(Inner {
            started: now,
            metrics,
            tail: Tail::new(),
            state: Mutex::new(State {
                keys: log.keys,
                mode: Mode::default(),
                config: None,
                conditions: BTreeMap::from([starting]),
                book: Book::new(now),
                edges: BTreeMap::new(),
                position: None,
                probe: None,
                journal_rows: None,
                suspected: BTreeMap::new(),
                warming: WarmBook::default(),
                beat: now,
                repeats: Repeats::default(),
                flood: Flood::default(),
            }),
        }))
    }

    /// Takes over what a configuration says: edges, modes, `[log] keys`. Call it at the start and after each reload,
    /// before statements are reported. Edges that stay keep their counts; conditions of edges that are gone go.
    pub fn set_config(&self, config: &Config) {
        {
            let mut state = self.state();
            (state.keys, state.mode) = (config.log.keys, config.mode);
            state.warming.set(config);
        }
        self.set_edges(edges_of(config));
    }

    /// The edges with their modes; [`Observer::set_config`] derives them.
    pub fn set_edges(&self, edges: BTreeMap<EdgeId, Mode>) {
        let mut state = self.state();
        let old = std::mem::replace(&mut state.edges, edges.clone());
        self.0.metrics.set_edges(old.keys().filter(|id| !edges.contains_key(id)), &edges);
        state.conditions.retain(|c, _| match c {
            Condition::NotLive { table, cache } | Condition::Refused { table, cache } => {
                edges.contains_key(&EdgeId { table: table.clone(), cache: cache.clone() })
            }
            _ => true,
        });
        self.0.metrics.conditions(state.conditions.keys().cloned());
        state.suspected.retain(|table, _| edges.keys().any(|e| e.table == *table));
        state.book.set_edges(edges);
    }

    /// Takes a report. Beside wording and counting it, some reports set conditions by themselves: `Disconnected` sets
    /// [`Condition::Down`], `Connected` clears it; `Resumed` clears [`Condition::Starting`] and is the position.
    /// [`Condition::Flushing`] is the caller's: only it knows when the last of several flushes is over.
    pub fn report(&self, observation: Observation) {
        self.report_at(Now::read(), observation);
    }

    /// The same at a given time.
    pub fn report_at(&self, now: Now, observation: Observation) {
        let mut lines = Vec::new();
        let statement = {
            let mut state = self.state();
            let state = &mut *state;
            lines.extend(state.due(now));
            if observation == Observation::Stopped {
                // The last line is to be the last.
                let held = state.repeats.drain(now.instant).into_iter().chain(state.flood.drain());
                lines.extend(held.map(Line::Notice));
            }
            match observation {
                Observation::Statement(s) => {
                    self.statement(now, state, &s, &mut lines);
                    Some(s)
                }
                other => {
                    if let Some(n) = notices::notice(&other, state.keys).filter(|_| !state.is_known(&other)) {
                        self.notice(now, state, n, &mut lines);
                    }
                    self.follow(now, state, &other, &mut lines);
                    None
                }
            }
        };
        for line in lines {
            match (line, &statement) {
                (Line::Statement(text), Some(s)) => log::statement(s, &text),
                (Line::Statement(_), None) => {}
                (Line::Notice(n), _) => log::notice(&n),
            }
        }
    }

    /// Sets (Some: why, and what to do) or clears (None) a reason for not being ready. Setting it again with another
    /// text keeps since when. A new reason is logged, except those whose own report says it better: starting, a server
    /// that is down, a flush.
    pub fn condition(&self, condition: Condition, why: Option<String>) {
        self.condition_at(Now::read(), condition, why);
    }

    /// The same at a given time.
    pub fn condition_at(&self, now: Now, condition: Condition, why: Option<String>) {
        let mut lines = Vec::new();
        {
            let mut state = self.state();
            let state = &mut *state;
            if let Some(n) = why.as_ref().and_then(|w| state.news(&condition, w)) {
                self.notice(now, state, n, &mut lines);
            }
            self.set_condition(now, state, condition, why, &mut lines);
        }
        write_notices(lines);
    }

    /// Whether no reason against it is set, and the loop lives: what stands still evicts nothing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready_at(Now::read())
    }

    /// The same at a given time.
    #[must_use]
    pub fn is_ready_at(&self, now: Now) -> bool {
        let state = self.state();
        state.conditions.is_empty() && state.is_alive(now)
    }

    /// The reasons: which, why and what to do, since when.
    #[must_use]
    pub fn conditions(&self) -> Vec<(Condition, String, SystemTime)> {
        self.state().conditions.iter().map(|(c, (why, since))| (c.clone(), why.clone(), *since)).collect()
    }

    /// The loop lives. It must call this at least every few seconds, also while it waits; see [`BEAT_LIMIT`].
    pub fn beat(&self) {
        self.beat_at(Now::read());
    }

    /// The same at a given time.
    pub fn beat_at(&self, now: Now) {
        self.state().beat = now;
        self.tick_at(now);
    }

    /// Whether the loop has been heard of within [`BEAT_LIMIT`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_alive_at(Now::read())
    }

    /// The same at a given time.
    #[must_use]
    pub fn is_alive_at(&self, now: Now) -> bool {
        self.state().is_alive(now)
    }

    /// Prints the summaries and counts that are due. The daemon calls it every second, so that the last repeats before
    /// a silence are seen.
    pub fn tick(&self) {
        self.tick_at(Now::read());
    }

    /// The same at a given time.
    pub fn tick_at(&self, now: Now) {
        let lines = self.state().due(now);
        write_notices(lines);
    }

    /// The lines from now on, statements and notices, as JSON. Bounded: a slow reader gets
    /// [`broadcast::error::RecvError::Lagged`] with the number of lines it lost.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<TailLine> {
        self.0.tail.subscribe()
    }

    /// How many read the stream of lines now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.tail.readers()
    }

    /// What `pgevict status` shows.
    #[must_use]
    pub fn status(&self) -> StatusReport {
        self.status_at(Now::read())
    }

    /// The same at a given time.
    #[must_use]
    pub fn status_at(&self, now: Now) -> StatusReport {
        let state = self.state();
        let alive = state.is_alive(now);
        let stuck = (!alive).then(|| stuck(state.beat.wall + BEAT_LIMIT));
        StatusReport {
            version: crate_version().to_owned(),
            started_at: rfc3339(self.0.started.wall),
            uptime_s: now.instant.saturating_duration_since(self.0.started.instant).as_secs(),
            mode: state.mode.as_str().to_owned(),
            config: state.config.clone(),
            ready: alive && state.conditions.is_empty(),
            alive,
            reasons: stuck.into_iter().chain(state.conditions.iter().map(reason)).collect(),
            servers: state.book.servers(),
            position: state.position.clone(),
            probe: state.probe.clone(),
            journal_rows: state.journal_rows,
            suspected: state.suspected.iter().map(suspect).collect(),
            warming: state.warming.status(),
            edges: state.book.edges(),
            totals: state.book.totals.clone(),
            lag: state.book.lag(now),
            flushes: state.book.flushes(),
        }
    }

    /// The metrics in one of Prometheus' text formats.
    #[must_use]
    pub fn metrics_text(&self, format: Format) -> String {
        let now = Now::read();
        self.0.metrics.seen(!self.is_alive_at(now), self.is_ready_at(now));
        self.0.metrics.text(format)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counting cannot leave the state half done in a way that matters: a panic elsewhere must not silence the log.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statement(&self, now: Now, state: &mut State, s: &Statement, lines: &mut Vec<Line>) {
        state.book.statement(now, s);
        let known = |cache: &str| state.book.has_edge(&s.table, cache);
        self.0.metrics.statement(now, s, state.book.has_table(&s.table), known);
        let logged = state.flood.admit(now.instant, s);
        // In a flood most lines are read by nobody.
        let text = (logged || self.readers() > 0).then(|| words::statement(s, state.keys));
        if let Some(text) = &text {
            self.0.tail.statement(now, s, text, state.keys);
        }
        let poison = s.extent == Extent::Poison;
        if poison || s.extent == Extent::Degraded {
            state.book.totals.poison += u64::from(poison);
            state.book.totals.degraded += u64::from(!poison);
            let n = notices::degraded(&s.table.to_string(), s.note.as_deref(), poison);
            self.notice(now, state, n, lines);
        }
        if logged {
            lines.extend(text.map(Line::Statement));
        }
    }

    /// Every notice goes to tail; the log folds repeats.
    fn notice(&self, now: Now, state: &mut State, n: Notice, lines: &mut Vec<Line>) {
        self.0.tail.notice(now, &n);
        lines.extend(state.repeats.admit(now.instant, n).into_iter().map(Line::Notice));
    }

    /// What a report changes beside its line.
    fn follow(&self, now: Now, state: &mut State, o: &Observation, lines: &mut Vec<Line>) {
        let metrics = &self.0.metrics;
        match o {
            Observation::Started { config, mode } => (state.config, state.mode) = (Some(config.clone()), *mode),
            Observation::Stopping { .. }
            | Observation::Stopped
            | Observation::Statement(_)
            | Observation::UnknownCache { .. } => {}
            Observation::Connected { server, to, version } => {
                if !state.is_known(o) {
                    state.book.connected(now, *server, to, version);
                    metrics.connected(*server, true);
                    if state.book.is_reconnect(*server) {
                        metrics.reconnected(*server);
                    }
                }
                self.set_condition(now, state, Condition::Down(*server), None, lines);
            }
            Observation::Disconnected { server, why, .. } => {
                state.book.disconnected(now, *server, why);
                metrics.connected(*server, false);
                self.set_condition(now, state, Condition::Down(*server), Some(why.clone()), lines);
            }
            Observation::Resumed { position } => {
                state.position = Some(position.clone());
                self.set_condition(now, state, Condition::Starting, None, lines);
            }
            Observation::PositionMoved { .. } => metrics.position_moved(),
            Observation::FlushBegun { caches, reason } => {
                state.book.flush_begun(now, caches, reason);
                metrics.flush_begun(reason);
            }
            Observation::FlushDone { caches, deleted, took } => {
                state.book.flush_done(caches, *deleted, *took);
                metrics.flush_done(*deleted);
            }
            Observation::PassDone { scanned, .. } => {
                state.book.totals.passes += 1;
                metrics.pass(*scanned);
            }
            Observation::Index { .. } => {}
            Observation::OverLimit { cache, .. } => {
                metrics.over_limit(cache, state.edges.keys().any(|id| id.cache == *cache));
            }
            Observation::ProbeArrived { took, unheard } => {
                metrics.probe(now.wall);
                state.probe = Some(ProbeStatus::arrived(now, *took, *unheard));
                self.set_condition(now, state, Condition::Probe, None, lines);
            }
            Observation::ProbeLost { why } => {
                if let Some(n) = state.news(&Condition::Probe, why) {
                    self.notice(now, state, n, lines);
                }
                self.set_condition(now, state, Condition::Probe, Some(why.clone()), lines);
            }
            Observation::Warmed { cache, outcome, took, why, .. } => {
                metrics.warmed(cache, *outcome, *took, state.warming.is_known(cache));
                state.warming.warmed(now, cache, *outcome, why.as_deref());
            }
            Observation::WarmsDropped { cache, keys } => {
                metrics.warms_dropped(cache, *keys, state.warming.is_known(cache));
                state.warming.dropped(cache, *keys);
            }
            Observation::Retired { rows } => metrics.retired(*rows),
            Observation::WarmingPaused { paused } => state.warming.pause(paused.then_some(now.wall)),
            Observation::QueueDrained | Observation::WarmRests { .. } | Observation::WarmSchedule { .. } => {}
            Observation::Reloaded => metrics.reloaded("ok"),
            Observation::ReloadRefused { .. } => metrics.reloaded("refused"),
            Observation::Warning { what, .. } => metrics.warning(what),
        }
    }

    fn set_condition(&self, now: Now, state: &mut State, c: Condition, why: Option<String>, lines: &mut Vec<Line>) {
        let was_ready = state.conditions.is_empty();
        match why {
            Some(why) => state.conditions.entry(c).or_insert((String::new(), now.wall)).0 = why,
            None => drop(state.conditions.remove(&c)),
        }
        self.0.metrics.conditions(state.conditions.keys().cloned());
        if !was_ready && state.conditions.is_empty() {
            self.notice(now, state, notices::ready(), lines);
        }
    }
}

impl State {
    /// The line of a condition that is set anew, or with another text.
    fn news(&self, condition: &Condition, why: &str) -> Option<Notice> {
        let new = self.conditions.get(condition).is_none_or(|(old, _)| old != why);
        new.then(|| notices::not_ready(condition, why)).flatten()
    }

    fn is_alive(&self, now: Now) -> bool {
        now.instant.saturating_duration_since(self.beat.instant) <= BEAT_LIMIT
    }

    /// A session that cannot begin connects to one server again and again while the other is away: that is no news.
    fn is_known(&self, o: &Observation) -> bool {
        matches!(o, Observation::Connected { server, to, .. } if self.book.is_connected(*server, to))
    }

    fn due(&mut self, now: Now) -> Vec<Line> {
        let repeats = self.repeats.due(now.instant);
        repeats.into_iter().chain(self.flood.due(now.instant)).map(Line::Notice).collect()
    }
}

fn reason((c, (why, since)): (&Condition, &(String, SystemTime))) -> Reason {
    Reason {
        condition: condition_code(c).to_owned(),
        what: condition_words(c),
        why: why.clone(),
        since: rfc3339(*since),
    }
}

fn stuck(since: SystemTime) -> Reason {
    Reason {
        condition: notices::STUCK.to_owned(),
        what: "the loop stands still".to_owned(),
        why: "it has not been heard of for 15 s: systemd's watchdog restarts it; without systemd, restart it"
            .to_owned(),
        since: rfc3339(since),
    }
}

fn write_notices(lines: Vec<Line>) {
    for line in lines {
        if let Line::Notice(n) = line {
            log::notice(&n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{FlushReason, Outcome, Server};
    use super::super::log::tests::logged;
    use super::super::words::tests::{k, update};
    use super::*;
    use crate::config::model::{LogFormat, LogLevel, TableName};

    const LOG: Log = Log { format: LogFormat::Text, keys: LogKeys::Full, level: LogLevel::Info };

    fn observer(now: Now) -> Observer {
        let o = Observer::new_at(&LOG, now);
        o.set_edges(BTreeMap::from([(EdgeId { table: calls(), cache: "a".into() }, Mode::Enforce)]));
        o
    }

    fn calls() -> TableName {
        TableName { schema: "public".into(), name: "calls".into() }
    }

    fn lost(why: &str) -> Observation {
        Observation::Disconnected { server: Server::Redis, why: why.into(), retry_in: Duration::from_secs(1) }
    }

    fn codes(o: &Observer) -> Vec<&'static str> {
        o.conditions().iter().map(|(c, ..)| condition_code(c)).collect()
    }

    #[test]
    fn reports_set_and_clear_their_conditions() {
        let o = observer(Now::read());
        assert_eq!(codes(&o), ["starting"]);
        o.report(lost("refused"));
        assert_eq!(codes(&o), ["starting", "redis_down"]);
        o.report(Observation::Connected { server: Server::Redis, to: "here".into(), version: "7".into() });
        o.condition(Condition::Flushing, Some("all caches".into()));
        o.report(Observation::FlushBegun { caches: vec![], reason: FlushReason::NoPosition });
        o.report(Observation::Resumed { position: "1:2:".into() });
        assert_eq!(codes(&o), ["flushing"]);
        assert!(!o.is_ready());
        o.report(Observation::FlushDone { caches: vec![], deleted: 3, took: Duration::ZERO });
        o.condition(Condition::Flushing, None);
        assert!(o.is_ready());
        let text = o.metrics_text(Format::Plain);
        assert!(text.contains("pgevict_ready 1\n"), "{text}");
        assert!(text.contains("pgevict_flushes_total{reason=\"no_position\"} 1\n"), "{text}");
    }

    #[test]
    fn a_condition_that_is_set_again_keeps_since_when() {
        let t0 = Now::read();
        let o = observer(t0);
        o.condition_at(t0, Condition::Paused, Some("one".into()));
        o.condition_at(t0 + Duration::from_secs(5), Condition::Paused, Some("two".into()));
        let paused = o.conditions().into_iter().find(|(c, ..)| *c == Condition::Paused).unwrap();
        assert_eq!((paused.1.as_str(), paused.2), ("two", t0.wall));
    }

    #[test]
    fn conditions_of_edges_that_are_gone_go() {
        let o = observer(Now::read());
        let not_live = |cache: &str| Condition::NotLive { table: calls(), cache: cache.into() };
        o.condition(not_live("a"), Some("no trigger".into()));
        o.condition(not_live("gone"), Some("no trigger".into()));
        o.set_edges(BTreeMap::from([(EdgeId { table: calls(), cache: "a".into() }, Mode::Enforce)]));
        assert_eq!(codes(&o), ["starting", "not_live"]);
        assert_eq!(o.conditions()[1].0, not_live("a"));
    }

    #[test]
    fn a_server_that_stays_connected_is_news_once() {
        let o = observer(Now::read());
        let mut tail = o.subscribe();
        let connected = || Observation::Connected { server: Server::Redis, to: "here".into(), version: "7".into() };
        (0..5).for_each(|_| o.report(connected()));
        assert_eq!(std::iter::from_fn(|| tail.try_recv().ok()).count(), 1);
        assert_eq!(o.status().servers[1].reconnects, 0);
        o.report(lost("cut"));
        o.report(connected());
        assert_eq!(std::iter::from_fn(|| tail.try_recv().ok()).count(), 2);
        assert_eq!(o.status().servers[1].reconnects, 1);
        let text = o.metrics_text(Format::Plain);
        assert!(text.contains("pgevict_reconnects_total{server=\"redis\"} 1\n"), "{text}");
    }

    #[test]
    fn the_loop_is_dead_fifteen_seconds_after_its_last_beat() {
        let t0 = Now::read();
        let o = observer(t0);
        assert!(o.is_alive_at(t0 + Duration::from_secs(15)));
        assert!(!o.is_alive_at(t0 + Duration::from_secs(16)));
        o.beat_at(t0 + Duration::from_secs(16));
        assert!(o.is_alive_at(t0 + Duration::from_secs(30)));
        o.condition_at(t0, Condition::Starting, None);
        assert!(o.is_ready_at(t0 + Duration::from_secs(30)));
        let late = t0 + Duration::from_secs(40);
        assert!(!o.is_ready_at(late));
        let status = o.status_at(late);
        assert_eq!((status.alive, status.ready, status.reasons[0].condition.as_str()), (false, false, "stuck"));
    }

    #[test]
    fn tail_is_complete_where_the_log_sums_up_and_folds() {
        let t0 = Now::read();
        let o = observer(t0);
        let mut tail = o.subscribe();
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Deleted(1))];
        for _ in 0..500 {
            o.report_at(t0, Observation::Statement(Box::new(s.clone())));
        }
        for _ in 0..5 {
            o.report_at(t0, lost("refused"));
        }
        let lines: Vec<TailLine> = std::iter::from_fn(|| tail.try_recv().ok()).collect();
        assert_eq!(lines.len(), 505);
        let text = o.metrics_text(Format::Plain);
        assert!(text.contains("pgevict_keys_total{table=\"calls\",cache=\"a\",outcome=\"deleted\"} 500\n"), "{text}");
        assert_eq!(o.status().edges[0].counts.deleted, 500);
    }

    #[test]
    fn above_200_lines_a_second_the_log_sums_up() {
        let t0 = Now::read();
        let o = observer(t0);
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Deleted(1))];
        let lines = logged(|| {
            (0..500).for_each(|_| o.report_at(t0, Observation::Statement(Box::new(s.clone()))));
            o.tick_at(t0 + Duration::from_secs(1));
        });
        assert_eq!(lines.len(), 201);
        assert_eq!(lines[199], "INFO  evict calls.update user_id=7: a:1 deleted (lag=8ms took=3ms)");
        let summary = "INFO  evict calls: 300 more statements within 1s, 300 deleted, 0 absent (max lag=8ms)";
        assert_eq!(lines[200], summary);
    }

    #[test]
    fn what_is_held_back_is_printed_before_the_last_line() {
        let t0 = Now::read();
        let o = observer(t0);
        let lines = logged(|| {
            (0..4).for_each(|_| o.report_at(t0, lost("refused")));
            o.report_at(t0 + Duration::from_secs(2), Observation::Stopped);
        });
        let line = "WARN  Redis down: refused; next try in 1000ms";
        assert_eq!(lines, [line, &format!("{line} (2 more like it in the last 2s)"), "INFO  stopped"]);
    }

    #[test]
    fn a_reason_is_logged_once_and_ready_when_the_last_is_gone() {
        let o = observer(Now::read());
        let lines = logged(|| {
            o.condition(Condition::Starting, None);
            for _ in 0..3 {
                o.condition(Condition::SchemaMissing, Some("run `pgevict sql up`".into()));
            }
            o.condition(Condition::SchemaMissing, None);
        });
        let not_ready = "WARN  not ready: pgevict's schema is missing: run `pgevict sql up`";
        assert_eq!(lines, ["INFO  ready", not_ready]);
        let lines = logged(|| o.tick_at(Now::read() + Duration::from_secs(11)));
        assert_eq!(lines, ["INFO  ready"], "the second within ten seconds is held back, not lost");
    }

    #[test]
    fn a_degraded_capture_is_counted_and_warned_of() {
        let o = observer(Now::read());
        let mut tail = o.subscribe();
        let mut s = update();
        (s.extent, s.note) = (Extent::Degraded, Some("column \"user_id\" does not exist".into()));
        o.report(Observation::Statement(Box::new(s)));
        let events: Vec<String> = std::iter::from_fn(|| tail.try_recv().ok()).map(|l| l.json().to_owned()).collect();
        assert!(events[0].contains("\"event\":\"evict\""), "{events:?}");
        assert!(events[1].contains("\"event\":\"degraded\"") && events[1].contains("sql apply"), "{events:?}");
        assert_eq!(o.status().totals.degraded, 1);
        let text = o.metrics_text(Format::Plain);
        assert!(text.contains("pgevict_degraded_total{table=\"calls\",kind=\"trigger\"} 1\n"), "{text}");
    }

    #[test]
    fn status_is_json_with_the_counts_beside_the_names() {
        let t0 = Now::read();
        let o = observer(t0);
        o.report_at(t0, Observation::Started { config: "c.toml".into(), mode: Mode::Observe });
        o.set_position("5:7:");
        o.set_journal_rows(9);
        o.beat_at(t0 + Duration::from_secs(60));
        let v = serde_json::to_value(o.status_at(t0 + Duration::from_secs(61))).unwrap();
        assert_eq!(v["edges"][0]["table"], "calls");
        assert_eq!(v["edges"][0]["deleted"], 0);
        assert_eq!(v["totals"]["changes"], 0);
        assert_eq!((&v["mode"], &v["config"], &v["position"]), (&"observe".into(), &"c.toml".into(), &"5:7:".into()));
        assert_eq!((&v["uptime_s"], &v["journal_rows"], &v["ready"]), (&61.into(), &9.into(), &false.into()));
        assert_eq!(v["reasons"][0]["condition"], "starting");
        assert_eq!(v["servers"][1]["server"], "redis");
        assert!(v["lag"].is_null());
    }
}
