//! The quiet end: single changes, at moments when the daemon is about to fall asleep, falls asleep, or sleeps.
//!
//! A wake-up that was lost does not show as a change that never arrives: the next probe, 5 s later at most, wakes the daemon
//! for another reason. Nor does it show as a late one, since on a loaded machine every change may be late. It shows as a
//! change that waits *while everybody sleeps*: whatever makes a machine slow, somebody on the way (the daemon, the servers,
//! the harness itself) is at work or wants to be.

use super::client::Db;
use super::run::{CONVERGENCE, Options, Report, wait_ready};
use super::shop::{self, literal};
use super::stage::Stage;
use super::trace::Trace;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redis::Commands as _;
use std::time::{Duration, Instant};

/// A change in calm weather arrives in milliseconds; so long nobody looks who sleeps.
const SOON: Duration = Duration::from_millis(50);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// So long everybody may sleep while a change waits. The daemon's slowest pace of polling is 100 ms; the probe that would
/// wake it after a lost wake-up comes within 5 s.
const ASLEEP: Duration = Duration::from_secs(1);
/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that a change passes on its way.
struct Way {
    pids: Vec<u32>,
}

impl Way {
    fn new(stage: &Stage, db: &Db, redis: &mut redis::Connection) -> Self {
        let backends = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let backends = db.rows(backends).unwrap_or_default().into_iter().flatten().flatten();
        let info: String = redis::cmd("INFO").arg("server").query(redis).unwrap_or_default();
        let server = info.lines().find_map(|l| l.strip_prefix("process_id:")).map(|pid| pid.trim().to_owned());
        let mut pids: Vec<u32> = backends.chain(server).filter_map(|pid| pid.parse().ok()).collect();
        pids.extend(stage.pid(0));
        // What carries the bytes between them runs here.
        pids.push(std::process::id());
        Self { pids }
    }

    /// Whether all threads of them sleep, but the one that asks.
    fn sleeps(&self) -> bool {
        let asks = nix::unistd::gettid().to_string();
        let states =
            self.pids.iter().flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task"))).flatten().flatten();
        let others = states.filter(|task| task.file_name().to_str() != Some(&asks));
        let state = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        // A thread that has just ended is nobody.
        others.filter_map(state).all(|state| state == 'S')
    }
}

/// Waits until `key` is gone. Says how long that took, and how long of it everybody slept; Err: what is wrong.
fn gone(stage: &Stage, db: &Db, redis: &mut redis::Connection, key: &str) -> Result<(Duration, Duration), String> {
    let (committed, mut slept) = (Instant::now(), Duration::ZERO);
    let mut way = None;
    while redis.exists::<_, bool>(key) != Ok(false) {
        let waits = committed.elapsed();
        if waits < SOON {
            std::thread::yield_now();
            continue;
        }
        let way = way.get_or_insert_with(|| Way::new(stage, db, redis));
        std::thread::sleep(LOOK);
        if way.sleeps() {
            slept += LOOK;
        }
        let story = || format!("after {:.1} s\n{}", waits.as_secs_f64(), stage.log_tail());
        if slept >= ASLEEP {
            return Err(format!("a change in calm waits while everybody sleeps, {}", story()));
        }
        if waits >= PATIENCE {
            return Err(format!("a change in calm did not arrive, {}", story()));
        }
    }
    Ok((committed.elapsed(), slept))
}

/// Calm weather. A daemon that has just started is among the moments.
pub(crate) fn quiet_end(stage: &Stage, trace: &Trace, options: &Options, report: &mut Report) {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let Some((db, mut redis)) = stage.both() else { return };
    let bystander = format!("list:{}:a", literal("bystander"));
    let _ = redis.set::<_, _, ()>(&bystander, "x");
    // Where the other one led, this one takes over first; that takes it 3 s of sleep.
    if let Err(how) = stage.end(1, Signal::SIGTERM) {
        trace.harm(how);
    }
    if let Err(why) = wait_ready(stage, Instant::now() + CONVERGENCE) {
        return trace.harm(format!("not ready in calm: {why}"));
    }
    for knock in 0..options.knocks {
        if knock % 20 == 10 {
            if let Err(how) = stage.end(0, Signal::SIGTERM) {
                trace.harm(how);
            }
            stage.start(0);
            if let Err(why) = wait_ready(stage, Instant::now() + CONVERGENCE) {
                return trace.harm(format!("not ready in calm: {why}"));
            }
        }
        let id = 200_000 + knock;
        let key = format!("probe:{id}");
        // About the silence after which the daemon lies down, now and then much longer.
        let silence = if rng.random_bool(0.2) { 20..400 } else { 10..45 };
        std::thread::sleep(Duration::from_millis(rng.random_range(silence)));
        if redis.set::<_, _, ()>(&key, "x").is_err() || db.rows(&format!("INSERT INTO marks VALUES ({id})")).is_err() {
            return trace.harm("a server is away in calm".into());
        }
        match gone(stage, &db, &mut redis, &key) {
            Ok((took, slept)) => {
                report.slowest_knock = report.slowest_knock.max(took);
                report.slept = report.slept.max(slept);
            }
            Err(why) => return trace.harm(format!("change {knock}: {why}")),
        }
    }
    // Values that look like globs, next to a key that they would match.
    for word in shop::words() {
        let change = format!(
            "INSERT INTO items (id, grp, name) VALUES (1, {0}, 'x') ON CONFLICT (id) DO UPDATE SET grp = {0}",
            literal(&word)
        );
        let _ = db.rows(&change);
    }
    let key = format!("probe:{}", 200_000 + options.knocks);
    let _ = redis.set::<_, _, ()>(&key, "x");
    let _ = db.rows(&format!("INSERT INTO marks VALUES ({})", 200_000 + options.knocks));
    if let Err(why) = gone(stage, &db, &mut redis, &key) {
        return trace.harm(format!("the last change: {why}"));
    }
    // Patterns end with a pass, exact keys before it: the next pass comes within the second deletes.
    std::thread::sleep(Duration::from_secs(1));
    if redis.exists::<_, bool>(&bystander) != Ok(true) {
        trace.harm(format!("{bystander} went, and nothing named it: a value has widened a pattern"));
    }
}
