//! One storm from beginning to end: writers, fillers and faults; then calm, convergence, and the comparison of every
//! cached value with the database; then a quiet end in which single changes must still arrive.

use super::client::Db;
use super::fillers::{self, NOTHING};
use super::knocks::quiet_end;
use super::nemesis::{Nemesis, schedule};
use super::shop::{self, CANARIES, Key};
use super::stage::{Stage, lock};
use super::trace::Trace;
use super::writers;
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Threads of each kind: the machine's two cores also run the servers.
const WRITERS: u64 = 4;
const FILLERS: u64 = 3;
/// Until everything is delivered after the storm. An audit comes within 30 s, crash recovery and back-off before it.
pub(crate) const CONVERGENCE: Duration = Duration::from_secs(90);

/// What kind of storm.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    /// Restricts the faults to these; empty: all.
    pub(crate) only: Vec<String>,
    /// Single changes at the end.
    pub(crate) knocks: u32,
    /// A bug of a build with the feature `planted`.
    pub(crate) planted: Option<String>,
}

impl Options {
    /// As `STORM_SEED`, `STORM_SECONDS`, `STORM_KNOCKS`, `STORM_FAULTS` (names with commas between) and `PLANTED` say.
    pub(crate) fn from_environment(seconds: u64) -> Self {
        let read = |name: &str| std::env::var(name).ok();
        let seconds = read("STORM_SECONDS").and_then(|s| s.parse().ok()).unwrap_or(seconds);
        let only = read("STORM_FAULTS").unwrap_or_default();
        Self {
            seed: read("STORM_SEED").and_then(|s| s.parse().ok()).unwrap_or_else(|| rand::random_range(1..1_000_000)),
            lasts: Duration::from_secs(seconds),
            only: only.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            knocks: read("STORM_KNOCKS").and_then(|s| s.parse().ok()).unwrap_or(20),
            planted: read("PLANTED"),
        }
    }
}

/// What a storm found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) transactions: u64,
    pub(crate) refused: u64,
    pub(crate) fills: u64,
    pub(crate) fills_refused: u64,
    pub(crate) taken_back: u64,
    pub(crate) faults: BTreeMap<&'static str, u32>,
    pub(crate) compared: usize,
    /// Keys with values that a committed version had once, each with its story.
    pub(crate) stale: Vec<String>,
    /// Keys with values that no committed version had.
    pub(crate) phantoms: Vec<String>,
    /// Errors of the application that pgevict caused, daemons that ended, changes that did not arrive, canaries gone.
    pub(crate) harm: Vec<String>,
    pub(crate) converged: Duration,
    pub(crate) rss_kb: u64,
    pub(crate) journal_rows: u64,
    pub(crate) slowest_knock: Duration,
    /// How long everybody slept at most while a change in calm waited.
    pub(crate) slept: Duration,
    pub(crate) staleness: String,
}

impl Report {
    pub(crate) fn failures(&self) -> Vec<&String> {
        self.harm.iter().chain(&self.phantoms).chain(&self.stale).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(name, n)| format!("{name} {n}")).collect();
        writeln!(
            f,
            "storm seed={} {} s: {} transactions ({} refused), {} fills ({} refused, {} taken back), {} faults",
            self.seed,
            self.seconds,
            self.transactions,
            self.refused,
            self.fills,
            self.fills_refused,
            self.taken_back,
            self.faults.values().sum::<u32>(),
        )?;
        writeln!(f, "  faults: {}", faults.join(", "))?;
        writeln!(
            f,
            "  compared {}, stale {}, phantoms {}, harm {}; converged in {:.1} s; slowest change in calm {:.0} ms, \
             {} ms of it asleep; daemon at most {} kB; {} journal rows",
            self.compared,
            self.stale.len(),
            self.phantoms.len(),
            self.harm.len(),
            self.converged.as_secs_f64(),
            self.slowest_knock.as_secs_f64() * 1000.0,
            self.slept.as_millis(),
            self.rss_kb,
            self.journal_rows,
        )?;
        f.write_str(&self.staleness)
    }
}

struct StopOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}

/// Lets a storm rage.
pub(crate) fn storm(options: &Options) -> Report {
    let Options { seed, lasts, .. } = *options;
    // Half of the seeds have prepared transactions, the other half the bell: they exclude each other.
    let prepared = seed % 2 == 1;
    eprintln!("storm: STORM_SEED={seed} STORM_SECONDS={} prepared transactions: {prepared}", lasts.as_secs());
    let stage = Stage::set(prepared, options.planted.as_deref());
    let (trace, keys) = (Trace::new(), shop::keys());
    let mut redis = stage.cache().expect("Redis runs");
    CANARIES.iter().for_each(|key| redis.set::<_, _, ()>(*key, "alive").unwrap());
    // So many that a SCAN pass takes several calls, between which anything may happen.
    let ballast = "for n = 1, 4000 do redis.call('SET', 'ballast:' .. n, n) end";
    redis::cmd("EVAL").arg(ballast).arg(0).exec(&mut redis).unwrap();
    // What a restart finds before the first SAVE of the storm: the canaries must outlive that.
    redis::cmd("SAVE").exec(&mut redis).unwrap();
    // The first flush is no part of the storm: while nothing is proven, everything is flushed again and nothing can go wrong.
    wait_ready(&stage, Instant::now() + CONVERGENCE).unwrap_or_else(|why| panic!("not ready before the storm: {why}"));
    // Nor does a restart find a time when nothing was proven: that flush would hide everything.
    let deadline = Instant::now() + CONVERGENCE;
    while !redis.hexists::<_, _, bool>("{pgevict}:position", "edges").unwrap() {
        assert!(Instant::now() < deadline, "nothing is proven before the storm");
        std::thread::sleep(Duration::from_millis(50));
    }
    redis::cmd("SAVE").exec(&mut redis).unwrap();
    let (writers_stop, fillers_stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut report = Report { seed, seconds: lasts.as_secs(), ..Report::default() };

    std::thread::scope(|scope| {
        // Whatever fails below, the threads end: a scope waits for them.
        let stop = StopOnDrop([&writers_stop, &fillers_stop]);
        for n in 0..WRITERS {
            let (stage, trace, stop) = (&stage, &trace, stop.0[0]);
            scope.spawn(move || writers::write(stage, trace, seed ^ (n << 32), prepared, stop));
        }
        for n in 0..FILLERS {
            let (stage, trace, keys, stop) = (&stage, &trace, &keys, stop.0[1]);
            scope.spawn(move || fillers::fill(stage, trace, keys, seed ^ (n + 100) << 32, stop));
        }
        let (stage, trace, keys) = (&stage, &trace, &keys);
        let stop_reading = stop.0[1];
        scope.spawn(move || fillers::watch(stage, trace, keys, seed ^ (200 << 32), stop_reading));
        scope.spawn(move || {
            while !stop_reading.load(Ordering::Relaxed) {
                if let Some(how) = stage.look() {
                    trace.harm(how);
                    stage.start(0);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });

        let (begun, mut nemesis) = (Instant::now(), Nemesis::new(stage, trace));
        for fault in schedule(seed, lasts, &options.only) {
            std::thread::sleep(fault.pause.min(lasts.saturating_sub(begun.elapsed())));
            if begun.elapsed() >= lasts {
                break;
            }
            nemesis.strike(fault);
        }
        std::thread::sleep(lasts.saturating_sub(begun.elapsed()));
        writers_stop.store(true, Ordering::Relaxed);
        nemesis.calm();
        let calm = Instant::now();
        match converge(stage, prepared, lasts) {
            Ok(()) => report.converged = calm.elapsed(),
            Err(why) => trace.harm(why),
        }
        compare(stage, trace, keys, &mut report);
        if stage.said("warm guard:", 1).is_empty() {
            trace.harm("nothing was warmed".into());
        }
        fillers_stop.store(true, Ordering::Relaxed);
    });
    if report.stale.is_empty() && report.phantoms.is_empty() && lock(&trace.harm).is_empty() {
        quiet_end(&stage, &trace, options, &mut report);
    }
    let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    report.transactions = count(&trace.counts.transactions);
    report.refused = count(&trace.counts.refused);
    report.fills = count(&trace.counts.fills);
    report.fills_refused = count(&trace.counts.fills_refused);
    report.taken_back = count(&trace.counts.taken_back);
    report.faults = trace.faults();
    report.harm.append(&mut lock(&trace.harm));
    report.rss_kb = *lock(&stage.rss);
    report.staleness = format!("  {} versioned reads\n{}", count(&trace.counts.reads), trace.staleness());
    let rows = stage.db().and_then(|db| db.value("SELECT count(*) FROM pgevict.journal").ok().flatten());
    report.journal_rows = rows.and_then(|n| n.parse().ok()).unwrap_or(0);
    for (variable, text) in [("STORM_LOG", stage.logs()), ("STORM_READS", trace.stale_reads())] {
        if let Some(path) = std::env::var_os(variable) {
            std::fs::write(path, text).unwrap();
        }
    }
    report
}

/// Waits until everything that was committed is delivered twice.
fn converge(stage: &Stage, prepared: bool, lasts: Duration) -> Result<(), String> {
    let deadline = Instant::now() + CONVERGENCE;
    let begun = Instant::now();
    let late = |what: String| {
        format!("not converged after {:.1} s: {what}\n{}", begun.elapsed().as_secs_f64(), stage.log_tail())
    };
    let again = |db: Result<(), String>| db.map_err(|why| late(format!("the harness: {why}")));
    if prepared {
        let (db, _) = stage.both().ok_or_else(|| late("a server is away".into()))?;
        again(writers::finish_prepared(&db).map_err(|e| e.message))?;
    }
    // DDL is found by an audit. A long storm waits for it, a short one has it done at once.
    if lasts < Duration::from_secs(40) {
        wait_ready(stage, deadline).map_err(late)?;
        stage.signal(0, Signal::SIGHUP);
        stage.signal(1, Signal::SIGHUP);
    } else {
        std::thread::sleep(Duration::from_secs(31));
    }
    // Two rounds: a flush that the first one overtook is behind the second.
    for mark in 1..=2 {
        wait_ready(stage, deadline).map_err(late)?;
        let key = format!("mark:{mark}");
        let set = |what: &str| match stage.cache().map(|mut redis| redis.set::<_, _, ()>(&key, "x")) {
            Some(Ok(())) => Ok(()),
            other => Err(late(format!("the harness cannot store {what}: {other:?}"))),
        };
        set("the mark")?;
        let (db, _) = stage.both().ok_or_else(|| late("a server is away".into()))?;
        again(db.rows(&format!("INSERT INTO marks VALUES ({mark})")).map(drop).map_err(|e| e.message))?;
        for turn in ["first", "second"] {
            let gone = || stage.cache().is_some_and(|mut redis| redis.exists::<_, bool>(&key) == Ok(false));
            while !gone() {
                if Instant::now() > deadline {
                    return Err(late(format!("the {turn} delete of a marker did not come")));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            set("the mark again")?;
        }
    }
    Ok(())
}

pub(crate) fn wait_ready(stage: &Stage, deadline: Instant) -> Result<(), String> {
    while let Some(why) = stage.unready() {
        if Instant::now() > deadline {
            return Err(why);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Compares until every key was cached and equal at least once; what differs is a failure at once.
fn compare(stage: &Stage, trace: &Trace, keys: &[Key], report: &mut Report) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let Some((db, mut redis)) = stage.both() else {
        return trace.harm("the harness cannot compare: a server is away".into());
    };
    db.rows("SET timezone = 'UTC'").unwrap_or_default();
    let mut left: Vec<&Key> = keys.iter().collect();
    while !left.is_empty() && Instant::now() < deadline {
        let mut missing = Vec::new();
        for chunk in left.chunks(64) {
            let names: Vec<&str> = chunk.iter().map(|k| k.name.as_str()).collect();
            let (Ok(cached), Ok(truths)) = (redis.mget::<_, Vec<Option<String>>>(&names), truths(&db, chunk)) else {
                return trace.harm("the harness cannot compare: a server refuses".into());
            };
            for ((key, cached), truth) in chunk.iter().zip(cached).zip(truths) {
                match cached {
                    None => missing.push(*key),
                    Some(value) if value == truth => report.compared += 1,
                    // Without a row nothing is stored under a lock: what was cached before is gone, or it is stale.
                    Some(value) => differs(stage, trace, key, &value, &truth, report),
                }
            }
        }
        // What has no row cannot be locked and so is not stored.
        let absent: Vec<bool> = truths(&db, &missing).map_or_else(
            |_| vec![false; missing.len()],
            |t| t.iter().zip(&missing).map(|(truth, key)| truth == NOTHING && key.is_locked()).collect(),
        );
        left = missing.into_iter().zip(absent).filter(|(_, absent)| !absent).map(|(key, _)| key).collect();
    }
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().take(5).map(|k| k.name.as_str()).collect();
        trace.harm(format!(
            "{} keys are never cached, like {names:?}: the fillers or the daemon do not rest",
            left.len()
        ));
    }
    for canary in CANARIES {
        // FLUSHALL takes them too; a Redis that was flushed has none at all.
        let there: bool = redis.exists(canary).unwrap_or(false);
        if !there && !trace.faults().contains_key("flushall") {
            trace.harm(format!("the canary {canary} is gone\n{}", stage.said(canary, 5).join("\n")));
        }
    }
}

fn truths(db: &Db, keys: &[&Key]) -> Result<Vec<String>, String> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let questions: Vec<String> = keys.iter().map(|k| format!("({})", k.question())).collect();
    let rows = db.rows(&format!("SELECT {}", questions.join(", "))).map_err(|e| e.message)?;
    Ok(rows.into_iter().flatten().map(|v| v.unwrap_or_else(|| NOTHING.into())).collect())
}

fn differs(stage: &Stage, trace: &Trace, key: &Key, value: &str, truth: &str, report: &mut Report) {
    let row = key.row().map(|(table, id)| format!("{table} {id}"));
    let cut = |text: &str| text.chars().take(300).collect::<String>();
    let name = cut(&key.name);
    let logged = stage.said(serde_json::to_string(&name).unwrap_or_default().trim_matches('"'), 10);
    let story = trace.story(&key.name, row.as_deref(), 40);
    let text = format!(
        "{name}\n  cached {}\n  is     {}\n  events:\n{story}  logged:\n    {}",
        cut(value),
        cut(truth),
        logged.iter().map(|line| cut(line)).collect::<Vec<_>>().join("\n    ")
    );
    let phantom = row.is_some() && value != NOTHING && !trace.was_committed(value);
    if phantom { report.phantoms.push(text) } else { report.stale.push(text) }
}
