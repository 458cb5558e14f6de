//! The application's readers: they look, ask the database on a miss, and store the answer.
//!
//! What a plain SET may expect (HAZARDS 2, tier 0): a stale value that it stores goes with the second delete,
//! `repeat_after` after the first, if the fill took no longer than that. So these fillers measure: one that finds itself
//! late does not store, and one that finds out afterwards, or does not know whether its SET arrived, deletes the key. A real
//! application sets a `repeat_after` that no fill exceeds; here, servers are frozen for seconds.
//!
//! Guarded caches are filled through the fill script, however late, from whatever snapshot, also inside transactions that
//! have written: the script refuses what may be stale, and nobody takes anything back.
//!
//! Caches without either are filled under a lock on their rows: no change can be committed before the SET.

use super::client::{Db, cache};
use super::shop::{Family, Key, LONGEST_FILL};
use super::stage::Stage;
use super::trace::{Counts, Trace};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redis::Commands as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Keys of one look.
const LOOK: usize = 16;
/// For each answer of Redis.
const PATIENCE: Duration = Duration::from_secs(2);

/// What stands for "there is no such row": negative answers are cached too (HAZARDS C17).
pub(crate) const NOTHING: &str = "-";

pub(crate) struct Filler<'a> {
    rng: StdRng,
    keys: &'a [Key],
    trace: &'a Trace,
    /// Keys that may hold what was read too long ago; they go before anything else is done.
    doubtful: Vec<String>,
    /// The fill script, from the documentation.
    script: redis::Script,
    /// The application's own bug on purpose: it stores plainly what should go through the script.
    unguarded: bool,
}

/// Fills until `stop`, and until nothing doubtful is left.
pub(crate) fn fill(stage: &Stage, trace: &Trace, keys: &[Key], seed: u64, stop: &AtomicBool) {
    let script = redis::Script::new(include_str!("../../docs/fills/fill.lua"));
    let rng = StdRng::seed_from_u64(seed);
    let mut filler = Filler { rng, keys, trace, doubtful: Vec::new(), script, unguarded: stage.unguarded };
    while !stop.load(Ordering::Relaxed) || !filler.doubtful.is_empty() {
        let Ok(mut redis) = cache(&stage.redis_url, PATIENCE) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if filler.take_back(&mut redis).is_err() {
            continue;
        }
        let Ok(db) = Db::connect(&stage.pg_url()) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        // Texts of instants are compared, so they are UTC; locks of the exact fills are not waited for.
        if db.rows("SET timezone = 'UTC'; SET lock_timeout = '300ms'; SET statement_timeout = '5s'").is_err() {
            continue;
        }
        while !stop.load(Ordering::Relaxed) && filler.look(&db, &mut redis).is_some() {}
    }
}

impl Filler<'_> {
    fn take_back(&mut self, redis: &mut redis::Connection) -> redis::RedisResult<()> {
        while let Some(key) = self.doubtful.last() {
            redis.unlink::<_, ()>(key)?;
            self.trace.event(key, "taken back".into());
            Counts::add(&self.trace.counts.taken_back);
            self.doubtful.pop();
        }
        Ok(())
    }

    /// One request. None: a connection is lost.
    fn look(&mut self, db: &Db, redis: &mut redis::Connection) -> Option<()> {
        let from = self.rng.random_range(0..self.keys.len());
        let keys: Vec<&Key> = (0..LOOK).map(|i| &self.keys[(from + i * 37) % self.keys.len()]).collect();
        let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
        let cached: Vec<Option<String>> = redis.mget(&names).ok()?;
        let missing = keys.into_iter().zip(cached).filter(|(_, c)| c.is_none()).map(|(k, _)| k);
        let (locked, others): (Vec<&Key>, Vec<&Key>) = missing.partition(|k| k.is_locked());
        let (guarded, plain): (Vec<&Key>, Vec<&Key>) = others.into_iter().partition(|k| k.guard().is_some());
        if locked.is_empty() && plain.is_empty() && guarded.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        for key in locked.into_iter().take(3) {
            self.locked(db, redis, key)?;
        }
        if !plain.is_empty() {
            self.plain(db, redis, &plain)?;
        }
        if !guarded.is_empty() {
            self.guarded(db, redis, &guarded)?;
        }
        self.take_back(redis).ok()
    }

    /// Reads in one of several ways, may dawdle, and stores blindly.
    fn plain(&mut self, db: &Db, redis: &mut redis::Connection, keys: &[&Key]) -> Option<()> {
        let begun = Instant::now();
        let questions: Vec<String> = keys.iter().map(|k| format!("({})", k.question())).collect();
        let question = format!("SELECT {}", questions.join(", "));
        let pause = Duration::from_millis(match self.rng.random_range(0..30) {
            0 => self.rng.random_range(50..400),
            1..4 => self.rng.random_range(1..50),
            _ => 0,
        });
        let answer = match self.rng.random_range(0..4) {
            // A snapshot that is old before the question is asked.
            0 => db.rows("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").and_then(|_| {
                std::thread::sleep(pause);
                db.rows(&format!("{question}; COMMIT"))
            }),
            1 => db.rows(&format!("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; {question}; COMMIT")),
            _ => db.rows(&question),
        };
        let Ok(rows) = answer else { return db.rows("ROLLBACK").is_ok().then_some(()) };
        std::thread::sleep(pause);
        if begun.elapsed() >= LONGEST_FILL {
            return Some(());
        }
        let values = rows.into_iter().find(|row| row.len() == keys.len())?;
        let mut pipe = redis::pipe();
        let mut stored = Vec::new();
        for (key, value) in keys.iter().zip(values) {
            let value = value.unwrap_or_else(|| NOTHING.into());
            pipe.set(&key.name, &value).ignore();
            stored.push((key, value));
        }
        let answered = pipe.query::<()>(redis);
        let took = begun.elapsed();
        for (key, value) in &stored {
            let what: String = value.chars().take(120).collect();
            self.trace.event(&key.name, format!("filled, read {:.1} ms before: {what}", took.as_secs_f64() * 1000.0));
        }
        let surely_in_time = answered.is_ok() && took < LONGEST_FILL;
        if !surely_in_time {
            self.doubtful.extend(stored.iter().map(|(key, _)| key.name.clone()));
        }
        self.trace.counts.fills.fetch_add(stored.len() as u64, Ordering::Relaxed);
        // Refused (out of memory, a replica) is an answer; a broken connection is not.
        match answered {
            Err(e) if e.is_io_error() || e.is_connection_dropped() || e.is_timeout() => None,
            _ => Some(()),
        }
    }

    /// Reads values and the token in one statement, may dawdle far longer than any second delete waits, and leaves the rest
    /// to the script.
    fn guarded(&mut self, db: &Db, redis: &mut redis::Connection, keys: &[&Key]) -> Option<()> {
        let questions: Vec<String> = keys.iter().map(|k| format!("({})", k.question())).collect();
        let question = format!("SELECT pgevict.token(), {}", questions.join(", "));
        // The bug on purpose shows only where a fill is late; a storm of 25 s sees few of them.
        let pause = Duration::from_millis(match self.rng.random_range(0..if self.unguarded { 10 } else { 40 }) {
            0 => self.rng.random_range(200..2500),
            1..8 => self.rng.random_range(1..100),
            _ => 0,
        });
        let answer = match self.rng.random_range(0..8) {
            0 | 1 => db.rows("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").and_then(|_| {
                std::thread::sleep(pause);
                db.rows(&format!("{question}; COMMIT"))
            }),
            2 => db.rows(&format!("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; {question}; COMMIT")),
            // What is read here will never have been: its transaction has written, and rolls back.
            3 => db.rows(&format!(
                "BEGIN; UPDATE items SET v = -v WHERE id = 1 + {} % 200; {question}; ROLLBACK",
                pause.as_millis()
            )),
            _ => db.rows(&question),
        };
        let Ok(rows) = answer else { return db.rows("ROLLBACK").is_ok().then_some(()) };
        std::thread::sleep(pause);
        let mut row = rows.into_iter().find(|row| row.len() == keys.len() + 1)?.into_iter();
        let token = row.next().flatten().unwrap_or_default();
        for (key, value) in keys.iter().zip(row) {
            let value = value.unwrap_or_else(|| NOTHING.into());
            let Some((cache, template)) = key.guard() else { continue };
            let said: redis::RedisResult<String> = if self.unguarded {
                redis.set(&key.name, &value).map(|()| "stored".to_owned())
            } else {
                let mut call = self.script.key("{pgevict}:position");
                call.key(&key.name).arg(&token).arg(3_600_000).arg(&value).arg("").arg(cache).arg(template);
                call.invoke(redis)
            };
            let what: String = value.chars().take(120).collect();
            self.trace.event(&key.name, format!("fill says {said:?}, token {token}: {what}"));
            match said {
                Ok(said) if said == "stored" => Counts::add(&self.trace.counts.fills),
                Ok(said) if ["mismatch", "malformed"].contains(&said.as_str()) => {
                    self.trace.harm(format!("the fill of {} is refused: {said}", key.name));
                }
                Ok(_) => Counts::add(&self.trace.counts.fills_refused),
                Err(e) if e.is_io_error() || e.is_connection_dropped() || e.is_timeout() => return None,
                Err(_) => {}
            }
        }
        Some(())
    }

    /// Stores while the rows are locked. A lock that may be lost before the COMMIT answers makes the key doubtful.
    fn locked(&mut self, db: &Db, redis: &mut redis::Connection, key: &Key) -> Option<()> {
        let lock = match key.family {
            Family::Shelf => "LOCK TABLE docs IN SHARE MODE; ",
            _ => "",
        };
        let share = if lock.is_empty() { " FOR SHARE" } else { "" };
        let answer = db.value(&format!("BEGIN; {lock}{}{share}", key.question()));
        let Ok(value) = answer else { return db.rows("ROLLBACK").is_ok().then_some(()) };
        // Without a row there is nothing to lock, so nothing is stored; a table lock covers also that.
        let value = match value {
            None if lock.is_empty() => return db.rows("COMMIT").is_ok().then_some(()),
            value => value.unwrap_or_else(|| NOTHING.into()),
        };
        let set: redis::RedisResult<()> = redis.set(&key.name, &value);
        let committed = db.rows("COMMIT");
        self.trace.event(&key.name, format!("filled under a lock: {}", value.chars().take(120).collect::<String>()));
        Counts::add(&self.trace.counts.fills);
        if set.is_err() || committed.is_err() {
            self.doubtful.push(key.name.clone());
        }
        match set {
            Err(e) if e.is_io_error() || e.is_connection_dropped() || e.is_timeout() => None,
            _ => committed.is_ok().then_some(()),
        }
    }
}

/// Reads versioned keys and notes how far behind they are.
pub(crate) fn watch(stage: &Stage, trace: &Trace, keys: &[Key], seed: u64, stop: &AtomicBool) {
    let mut rng = StdRng::seed_from_u64(seed);
    // A part has a row in several partitions at times: when the newest is truncated, an older one is the truth again.
    let versioned: Vec<&Key> = keys.iter().filter(|k| k.row().is_some_and(|(table, _)| table != "part")).collect();
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut redis) = cache(&stage.redis_url, PATIENCE) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let keys: Vec<&Key> = (0..16).map(|_| versioned[rng.random_range(0..versioned.len())]).collect();
            let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
            let asked = Instant::now();
            let Ok(cached) = redis.mget::<_, Vec<Option<String>>>(&names) else { break };
            for (key, value) in keys.iter().zip(cached) {
                let v = value.as_deref().and_then(|v| v.split_once('.')?.0.parse().ok());
                if let (Some(row), Some(v)) = (key.row(), v) {
                    trace.read(row, v, asked);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
