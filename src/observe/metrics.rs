//! Prometheus metrics: names, labels, buckets. `docs/metrics.md` describes each series.
//!
//! Labels are bounded by the configuration: a table or cache that is not in it counts under `(other)`.

use super::clock::{Now, unix_seconds};
use super::event::{Condition, FlushReason, KeyOutcome, Outcome, Server, Statement, WarmOutcome};
use super::notices::{CONDITION_CODES, STUCK, condition_code, crate_version, flush_code};
use super::status::{EdgeId, evicted, server_code};
use crate::config::model::{Mode, Op, TableName};
use crate::flow::worth::Worth;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info};
use prometheus_client::registry::{Registry, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

type Labels<const N: usize> = [(&'static str, String); N];
type Count<const N: usize> = Family<Labels<N>, Counter>;
type Level<const N: usize> = Family<Labels<N>, Gauge>;

/// What stands for a table or cache that the configuration does not have.
const OTHER: &str = "(other)";

/// Seconds. From the fastest commit-to-delete that is seen (1 ms) to an outage.
const LAG_BUCKETS: [f64; 17] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// A gauge that does not exist before it is set: 0 would be a claim.
#[derive(Debug, Clone, Default)]
struct Later(Arc<OnceLock<Gauge<f64, AtomicU64>>>);

impl Later {
    fn set(&self, value: f64) {
        self.0.get_or_init(Gauge::default).set(value);
    }
}

impl EncodeMetric for Later {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }
}

/// The text formats of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which every scraper reads.
    Plain,
    /// `application/openmetrics-text; version=1.0.0`, for those that ask for it.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn of(accept: Option<&str>) -> Self {
        if accept.is_some_and(|a| a.contains("application/openmetrics-text")) { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    changes: Count<2>,
    keys: Count<3>,
    skipped: Count<3>,
    repeat_deleted: Count<2>,
    degraded: Count<2>,
    lag: Histogram,
    took: Histogram,
    journal_rows: Later,
    notify_queue: Later,
    probe: Later,
    last_eviction: Later,
    ready: Gauge,
    condition: Level<1>,
    connected: Level<1>,
    reconnects: Count<1>,
    flushes: Count<1>,
    flushed_keys: Counter,
    passes: Counter,
    scanned_keys: Counter,
    over_limit: Count<1>,
    index_live: Gauge,
    index_keys: Gauge,
    index_bytes: Gauge,
    warms: Count<2>,
    warm_took: Histogram,
    warm_queue: Level<1>,
    warm_resting: Level<1>,
    warm_worth: Count<2>,
    warm_reads: Count<1>,
    retired_rows: Counter,
    position_moves: Counter,
    reloads: Count<1>,
    warnings: Count<1>,
    found: Mutex<BTreeMap<TableName, Found>>,
}

/// Series of a table that statements counted in before: their labels are not spelled anew for each statement.
#[derive(Debug, Default)]
struct Found {
    changes: BTreeMap<Op, Counter>,
    /// By cache and outcome.
    keys: BTreeMap<String, BTreeMap<&'static str, Counter>>,
}

fn seconds() -> Histogram {
    Histogram::new(LAG_BUCKETS)
}

impl Metrics {
    pub(super) fn new(now: Now) -> Self {
        let mut registry = Registry::with_prefix("pgevict");
        let r = &mut registry;
        r.register("build", "Version of the daemon", Info::new([("version", crate_version())]));
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(unix_seconds(now.wall));
        r.register_with_unit("start_timestamp", "When the daemon started, since 1970", Unit::Seconds, start);
        let metrics = Self {
            changes: add(r, "changes", "Statements delivered, by table and operation; second deletes not counted"),
            keys: add(r, "keys", "Keys by what became of them; what found nothing counts once a key or pattern"),
            skipped: add(r, "skipped", "Rows whose edge was skipped, because a hole was NULL or the parent row gone"),
            repeat_deleted: add(r, "repeat_deleted_keys", "Keys that had come back by the second delete: stale fills"),
            degraded: add(r, "degraded", "Statements evicted as whole table, since capture or decoding failed"),
            lag: add_seconds(
                r,
                "eviction_lag",
                "From the change, inside its transaction, to the last delete",
                seconds(),
            ),
            took: add_seconds(r, "eviction_duration", "From reading the journal row to the last delete", seconds()),
            journal_rows: add(r, "journal_rows", "Rows in the journal"),
            notify_queue: add(r, "notify_queue_usage_ratio", "How full the NOTIFY queue of the server is, 0 to 1"),
            probe: add_seconds(r, "probe_last_success_timestamp", "When the last probe arrived", Later::default()),
            last_eviction: add_seconds(r, "last_eviction_timestamp", "When a key was last deleted", Later::default()),
            ready: add(r, "ready", "1 when the daemon is ready"),
            condition: add(r, "condition", "1 while this reason for not being ready is set"),
            connected: add(r, "connected", "1 while the server is connected and fit"),
            reconnects: add(r, "reconnects", "Connections after the first one"),
            flushes: add(r, "flushes", "Flushes of whole caches, by reason"),
            flushed_keys: add(r, "flushed_keys", "Keys that flushes deleted"),
            passes: add(r, "passes", "SCAN passes"),
            scanned_keys: add(r, "scanned_keys", "Keys that SCAN passes looked at"),
            over_limit: add(r, "over_limit", "Patterns that matched more than limits.max_keys_per_change"),
            index_live: add(r, "index_live", "1 while the live key index answers patterns; SCAN does otherwise"),
            index_keys: add(r, "index_keys", "Keys in the live key index"),
            index_bytes: add(r, "index_bytes", "Memory of the live key index, about"),
            warms: add(r, "warms", "Keys that were to be warmed, by what became of them"),
            warm_took: add_seconds(
                r,
                "warm_duration",
                "From a warming query's beginning to its stored value",
                seconds(),
            ),
            warm_queue: add(r, "warm_queue_keys", "Keys that wait to be warmed"),
            warm_reads: add(r, "warm_queries", "Warming queries by who answered, where there is a replica"),
            warm_worth: add(r, "warmed_again", "Warmed keys that a change took, by whether they had been read"),
            warm_resting: add(r, "warm_resting", "1 while the cache is left alone, since its warming failed"),
            retired_rows: add(r, "retired_rows", "Journal rows that retention deleted"),
            position_moves: add(r, "position_conflicts", "How often somebody else had moved or lost the position"),
            reloads: add(r, "reloads", "Configuration reloads, by result"),
            warnings: add(r, "warnings", "Warnings, by kind"),
            found: Mutex::default(),
            registry,
        };
        for code in CONDITION_CODES {
            metrics.condition.get_or_create(&[("condition", code.to_owned())]).set(0);
        }
        for server in [Server::Postgres, Server::Redis] {
            let label = [("server", server_code(server).to_owned())];
            metrics.connected.get_or_create(&label).set(0);
            drop(metrics.reconnects.get_or_create(&label));
        }
        metrics
    }

    /// Series of all edges from zero on, so that a rate has a first value; series of edges that are gone end.
    pub(super) fn set_edges<'a>(&self, gone: impl Iterator<Item = &'a EdgeId>, edges: &BTreeMap<EdgeId, Mode>) {
        // Series that end must not be counted in any more.
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for id in gone {
            let (table, cache) = (id.table.to_string(), id.cache.clone());
            for outcome in OUTCOMES {
                self.keys.remove(&labels3(&table, &cache, "outcome", outcome));
            }
            for reason in ["null", "unresolved"] {
                self.skipped.remove(&labels3(&table, &cache, "reason", reason));
            }
            self.repeat_deleted.remove(&[("table", table.clone()), ("cache", cache.clone())]);
            if !edges.keys().any(|e| e.cache == cache) {
                self.warm_resting.remove(&[("cache", cache.clone())]);
                for worth in Worth::ALL {
                    self.warm_worth.remove(&[("cache", cache.clone()), ("read", worth.as_str().to_owned())]);
                }
                for outcome in WarmOutcome::ALL {
                    self.warms.remove(&[("cache", cache.clone()), ("outcome", outcome.as_str().to_owned())]);
                }
            }
            if !edges.keys().any(|e| e.table == id.table) {
                for op in Op::ALL {
                    self.changes.remove(&[("table", table.clone()), ("op", op.as_str().to_owned())]);
                }
                for kind in ["trigger", "poison"] {
                    self.degraded.remove(&[("table", table.clone()), ("kind", kind.to_owned())]);
                }
            }
        }
        for id in edges.keys() {
            let table = id.table.to_string();
            for op in Op::ALL {
                drop(self.changes.get_or_create(&[("table", table.clone()), ("op", op.as_str().to_owned())]));
            }
            for outcome in ["deleted", "absent"] {
                drop(self.keys.get_or_create(&labels3(&table, &id.cache, "outcome", outcome)));
            }
        }
    }

    /// `known_table`, and `known` for a cache at this table, say what the configuration has.
    pub(super) fn statement(&self, now: Now, s: &Statement, known_table: bool, known: impl Fn(&str) -> bool) {
        let table = || if known_table { s.table.to_string() } else { OTHER.to_owned() };
        let edge = |cache: &str| if known(cache) { (table(), cache.to_owned()) } else { (OTHER.into(), OTHER.into()) };
        let again = s.again;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // What the configuration does not have is without bounds, and rare.
        let mut other = Found::default();
        let found = if known_table { found.entry(s.table.clone()).or_default() } else { &mut other };
        if !again {
            let new = || self.changes.get_or_create_owned(&[("table", table()), ("op", s.op.as_str().to_owned())]);
            found.changes.entry(s.op).or_insert_with(new).inc();
        }
        if !again && evicted(&s.keys) {
            self.lag.observe(s.lag.as_secs_f64());
            self.took.observe(s.took.as_secs_f64());
        }
        let mut back: BTreeMap<&str, u64> = BTreeMap::new();
        let mut deleted = false;
        for k in &s.keys {
            let (outcome, n) = counted(k);
            let series = found.keys.get(&*k.cache).and_then(|outcomes| outcomes.get(outcome));
            match series {
                Some(series) => drop(series.inc_by(n)),
                None => {
                    let (table, cache) = edge(&k.cache);
                    let series = self.keys.get_or_create_owned(&labels3(&table, &cache, "outcome", outcome));
                    series.inc_by(n);
                    if known(&k.cache) {
                        found.keys.entry(cache).or_default().insert(outcome, series);
                    }
                }
            }
            if let Outcome::Repeat(n) = k.outcome {
                *back.entry(&k.cache).or_default() += n;
            }
            deleted |= outcome == "deleted";
        }
        for (cache, n) in back {
            let (table, cache) = edge(cache);
            self.repeat_deleted.get_or_create(&[("table", table), ("cache", cache)]).inc_by(n);
        }
        for (reason, list) in [("null", &s.skipped_null), ("unresolved", &s.unresolved)] {
            for (cache, n) in list {
                let (table, cache) = edge(cache);
                self.skipped.get_or_create(&labels3(&table, &cache, "reason", reason)).inc_by(*n);
            }
        }
        let kind = match s.extent {
            super::event::Extent::Degraded => Some("trigger"),
            super::event::Extent::Poison => Some("poison"),
            super::event::Extent::Rows | super::event::Extent::Whole => None,
        };
        if let Some(kind) = kind {
            self.degraded.get_or_create(&[("table", table()), ("kind", kind.to_owned())]).inc();
        }
        if deleted {
            self.last_eviction.set(unix_seconds(now.wall));
        }
    }

    pub(super) fn conditions(&self, set: impl Iterator<Item = Condition>) {
        let set: BTreeSet<&'static str> = set.map(|c| condition_code(&c)).collect();
        for code in CONDITION_CODES {
            let label = [("condition", code.to_owned())];
            self.condition.get_or_create(&label).set(i64::from(set.contains(code)));
        }
        self.ready.set(i64::from(set.is_empty()));
    }

    /// What only shows when somebody looks: whether the loop stands still, and so whether the daemon is ready.
    pub(super) fn seen(&self, stuck: bool, ready: bool) {
        self.condition.get_or_create(&[("condition", STUCK.to_owned())]).set(i64::from(stuck));
        self.ready.set(i64::from(ready));
    }

    pub(super) fn connected(&self, server: Server, connected: bool) {
        self.connected.get_or_create(&[("server", server_code(server).to_owned())]).set(i64::from(connected));
    }

    pub(super) fn reconnected(&self, server: Server) {
        self.reconnects.get_or_create(&[("server", server_code(server).to_owned())]).inc();
    }

    pub(super) fn flush_begun(&self, reason: &FlushReason) {
        self.flushes.get_or_create(&[("reason", flush_code(reason).to_owned())]).inc();
    }

    pub(super) fn flush_done(&self, deleted: u64) {
        self.flushed_keys.inc_by(deleted);
    }

    pub(super) fn pass(&self, scanned: u64) {
        self.passes.inc();
        self.scanned_keys.inc_by(scanned);
    }

    pub(super) fn over_limit(&self, cache: &str, known: bool) {
        self.over_limit.get_or_create(&[("cache", if known { cache } else { OTHER }.to_owned())]).inc();
    }

    pub(super) fn warmed(&self, cache: &str, outcome: WarmOutcome, took: Duration, known: bool) {
        let cache = if known { cache } else { OTHER }.to_owned();
        self.warms.get_or_create(&[("cache", cache), ("outcome", outcome.as_str().to_owned())]).inc();
        if matches!(outcome, WarmOutcome::Stored | WarmOutcome::Asked) {
            self.warm_took.observe(took.as_secs_f64());
        }
    }

    pub(super) fn warms_dropped(&self, cache: &str, keys: u64, known: bool) {
        let cache = if known { cache } else { OTHER }.to_owned();
        self.warms
            .get_or_create(&[("cache", cache), ("outcome", WarmOutcome::Dropped.as_str().to_owned())])
            .inc_by(keys);
    }

    pub(super) fn warm_resting(&self, cache: &str, resting: bool) {
        self.warm_resting.get_or_create(&[("cache", cache.to_owned())]).set(i64::from(resting));
    }

    pub(super) fn warm_read(&self, server: &'static str) {
        self.warm_reads.get_or_create(&[("server", server.to_owned())]).inc();
    }

    pub(super) fn warm_worth(&self, cache: &str, worth: &'static str, keys: u64) {
        self.warm_worth.get_or_create(&[("cache", cache.to_owned()), ("read", worth.to_owned())]).inc_by(keys);
    }

    pub(super) fn warm_queue(&self, by: &'static str, keys: usize) {
        self.warm_queue.get_or_create(&[("by", by.to_owned())]).set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    pub(super) fn retired(&self, rows: u64) {
        self.retired_rows.inc_by(rows);
    }

    pub(super) fn position_moved(&self) {
        self.position_moves.inc();
    }

    pub(super) fn reloaded(&self, result: &'static str) {
        self.reloads.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// `what` is a constant of the program, so the label is bounded.
    pub(super) fn warning(&self, what: &'static str) {
        self.warnings.get_or_create(&[("what", what.to_owned())]).inc();
    }

    pub(super) fn index(&self, keys: usize, bytes: usize, live: bool) {
        self.index_live.set(i64::from(live));
        self.index_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.index_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn journal_rows(&self, rows: u64) {
        self.journal_rows.set(rows as f64);
    }

    pub(super) fn notify_queue(&self, usage: f64) {
        self.notify_queue.set(usage);
    }

    pub(super) fn probe(&self, at: SystemTime) {
        self.probe.set(unix_seconds(at));
    }

    pub(super) fn text(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing to a String fails only if a metric's own encoder does; then what there is, is better than nothing.
        let _ = encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Plain => plain(&text),
        }
    }
}

fn add<M: prometheus_client::registry::Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

fn add_seconds<M: prometheus_client::registry::Metric + Clone>(
    r: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    r.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

const OUTCOMES: [&str; 7] = ["deleted", "absent", "repeat", "protected", "refused", "observed", "debounced"];

/// The label and by how much it grows: keys where keys went, otherwise one a key or pattern.
fn counted(k: &KeyOutcome) -> (&'static str, u64) {
    let (outcome, n) = super::tail::outcome(k.outcome);
    (outcome, if outcome == "deleted" { n } else { 1 })
}

fn labels3(table: &str, cache: &str, third: &'static str, value: &str) -> Labels<3> {
    [("table", table.to_owned()), ("cache", cache.to_owned()), (third, value.to_owned())]
}

/// OpenMetrics names a family without the suffix of its samples, the older format with it; UNIT and EOF are new.
fn plain(open: &str) -> String {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for line in open.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            kinds.insert(name, kind);
        }
    }
    let mut out = String::with_capacity(open.len());
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        let head = (words.next(), words.next(), words.next(), words.next());
        // Writing to a String cannot fail.
        let _ = match head {
            (Some("#"), Some("UNIT" | "EOF"), ..) => Ok(()),
            (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let (suffix, kind) = match kinds.get(name) {
                    Some(&"counter") => ("_total", "counter"),
                    Some(&"info") => ("_info", "gauge"),
                    other => ("", other.copied().unwrap_or("untyped")),
                };
                writeln!(out, "# {word} {name}{suffix} {}", if word == "TYPE" { kind } else { rest })
            }
            _ => writeln!(out, "{line}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::{k, update};
    use super::*;
    use std::time::Duration;

    fn with_edges() -> Metrics {
        let m = Metrics::new(Now::read());
        let id = EdgeId { table: update().table, cache: "a".into() };
        m.set_edges(std::iter::empty(), &BTreeMap::from([(id, Mode::Enforce)]));
        m
    }

    #[track_caller]
    fn has(m: &Metrics, line: &str) {
        let text = m.text(Format::Plain);
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }

    #[test]
    fn series_of_an_edge_begin_at_zero() {
        let m = with_edges();
        has(&m, r#"pgevict_changes_total{table="calls",op="truncate"} 0"#);
        has(&m, r#"pgevict_keys_total{table="calls",cache="a",outcome="absent"} 0"#);
        has(&m, &format!(r#"pgevict_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
        has(&m, r#"pgevict_reconnects_total{server="redis"} 0"#);
    }

    #[test]
    fn a_statement_moves_its_series() {
        let m = with_edges();
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Deleted(1)), k("a:1:*", Outcome::Deleted(6)), k("a:2", Outcome::Absent)];
        s.keys.push(k("a:3", Outcome::Refused(100)));
        s.keys.push(k("gone:1", Outcome::Deleted(2)));
        s.skipped_null = vec![("a".into(), 2)];
        m.statement(Now::read(), &s, true, |c| c == "a");
        has(&m, r#"pgevict_changes_total{table="calls",op="update"} 1"#);
        has(&m, r#"pgevict_keys_total{table="calls",cache="a",outcome="deleted"} 7"#);
        has(&m, r#"pgevict_keys_total{table="calls",cache="a",outcome="absent"} 1"#);
        has(&m, r#"pgevict_keys_total{table="calls",cache="a",outcome="refused"} 1"#);
        has(&m, r#"pgevict_keys_total{table="(other)",cache="(other)",outcome="deleted"} 2"#);
        has(&m, r#"pgevict_skipped_total{table="calls",cache="a",reason="null"} 2"#);
        has(&m, r#"pgevict_eviction_lag_seconds_bucket{le="0.01"} 1"#);
        has(&m, r#"pgevict_eviction_lag_seconds_bucket{le="0.005"} 0"#);
        has(&m, "pgevict_eviction_lag_seconds_count 1");
    }

    #[test]
    fn second_deletes_are_repeats_and_no_changes() {
        let m = with_edges();
        let mut s = update();
        s.keys = vec![k("a:1", Outcome::Repeat(1)), k("a:2", Outcome::Repeat(0))];
        s.again = true;
        m.statement(Now::read(), &s, true, |_| true);
        has(&m, r#"pgevict_keys_total{table="calls",cache="a",outcome="repeat"} 2"#);
        has(&m, r#"pgevict_repeat_deleted_keys_total{table="calls",cache="a"} 1"#);
        has(&m, r#"pgevict_changes_total{table="calls",op="update"} 0"#);
        has(&m, "pgevict_eviction_lag_seconds_count 0");
    }

    #[test]
    fn edges_that_are_gone_end() {
        let m = with_edges();
        let id = EdgeId { table: update().table, cache: "a".into() };
        m.set_edges([id].iter(), &BTreeMap::new());
        assert!(!m.text(Format::Plain).contains("calls"));
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let m = with_edges();
        for absent in ["pgevict_probe_last_success", "pgevict_journal_rows", "pgevict_last_eviction"] {
            assert!(!m.text(Format::Plain).contains(absent), "{absent}");
        }
        m.probe(SystemTime::UNIX_EPOCH + Duration::from_secs(90));
        m.journal_rows(12);
        has(&m, "pgevict_probe_last_success_timestamp_seconds 90.0");
        has(&m, "pgevict_journal_rows 12.0");
    }

    #[test]
    fn both_formats_name_families_as_they_should() {
        let m = with_edges();
        has(&m, "# TYPE pgevict_changes_total counter");
        has(&m, "# TYPE pgevict_build_info gauge");
        has(&m, "# TYPE pgevict_eviction_lag_seconds histogram");
        assert!(!m.text(Format::Plain).contains("# EOF"));
        assert!(!m.text(Format::Plain).contains("# UNIT"));
        let open = m.text(Format::OpenMetrics);
        assert!(open.contains("# TYPE pgevict_changes counter\n") && open.ends_with("# EOF\n"));
    }

    #[test]
    fn scrapers_get_the_format_they_ask_for() {
        let check = |accept: Option<&str>, expected| assert_eq!(Format::of(accept), expected, "{accept:?}");
        check(None, Format::Plain);
        check(Some("*/*"), Format::Plain);
        check(Some("text/plain;version=0.0.4"), Format::Plain);
        check(Some("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"), Format::OpenMetrics);
    }

    #[test]
    fn hostile_names_cannot_break_a_line() {
        let m = Metrics::new(Now::read());
        let mut table = update().table;
        table.name = "a\"b\nc\\".into();
        let id = EdgeId { table, cache: "x".into() };
        m.set_edges(std::iter::empty(), &BTreeMap::from([(id, Mode::Enforce)]));
        let text = m.text(Format::Plain);
        assert!(
            text.lines()
                .all(|l| l.starts_with('#') || l.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok())),
            "{text}"
        );
    }
}
