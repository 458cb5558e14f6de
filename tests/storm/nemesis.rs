//! The faults, by name, and the order in which a seed draws them.

use super::network;
use super::shop::LONGEST_FILL;
use super::stage::{Stage, lock};
use super::trace::Trace;
use nix::sys::signal::Signal;
use pgevict::cli::demo::servers::Down;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use redis::Commands as _;
use std::time::{Duration, Instant};

/// What waits for the daemon during a fault waits at most this long; it is past every limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// A daemon that may have lost a server's answer notices within 15 s (DESIGN 5), and may then wait 7.5 s before it dials anew.
const NOTICED: Duration = Duration::from_secs(35);

/// A fault that is drawn: what, and a number that says how long or which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Before it.
    pub(crate) pause: Duration,
    pub(crate) name: &'static str,
    /// 0 to 999: where in its range the fault's own time lies.
    pub(crate) size: u32,
}

/// All faults but those of the network, with how often they are drawn.
const FAULTS: [(&str, u32); 33] = [
    ("kill daemon", 6),
    ("stop daemon", 3),
    ("freeze daemon", 4),
    ("freeze daemon long", 1),
    ("second daemon", 4),
    ("reload", 2),
    ("save redis", 8),
    ("kill redis", 8),
    ("roll back redis", 6),
    ("save and roll back", 4),
    ("freeze redis", 3),
    ("kill clients", 6),
    ("pause clients", 3),
    ("flushall", 2),
    ("out of memory", 3),
    ("misconf", 2),
    ("noreplicas", 3),
    ("refuse briefly", 4),
    ("readonly", 3),
    ("lose position", 2),
    ("terminate backends", 6),
    ("terminate pgevict", 6),
    ("crash backend", 3),
    ("crash postgres", 3),
    ("restart postgres", 2),
    ("lose commits", 4),
    ("promote standby", 2),
    ("lock journal", 2),
    ("detach partition", 2),
    ("rename column", 2),
    ("add json column", 1),
    ("disable trigger", 1),
    ("swap table", 2),
];

/// Faults after which everything is flushed, and rightly so. In a storm's last third they would hide what went wrong before.
const FLUSHING: [&str; 8] = [
    "flushall",
    "lose position",
    "crash backend",
    "crash postgres",
    "lose commits",
    "promote standby",
    "lock journal",
    "disable trigger",
];

/// The faults of a seed. `only` restricts them, to reduce a failure.
pub(crate) fn schedule(seed: u64, lasts: Duration, only: &[String]) -> Vec<Fault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let drawn: Vec<_> = FAULTS
        .iter()
        .chain(network::faults())
        .filter(|(name, _)| only.is_empty() || only.iter().any(|o| o == name))
        .collect();
    let mut all = Vec::new();
    let mut at = Duration::ZERO;
    while at < lasts && !drawn.is_empty() {
        let last_third = at >= lasts * 2 / 3 && only.is_empty();
        let weight = |(name, weight): &&(&str, u32)| if last_third && FLUSHING.contains(name) { 0 } else { *weight };
        let (name, _) = drawn.choose_weighted(&mut rng, weight).unwrap();
        let pause = Duration::from_millis(rng.random_range(100..1200));
        // Most faults take some time themselves; the schedule's end is where the nemesis stops, not this list.
        at += pause + Duration::from_millis(200);
        all.push(Fault { pause, name, size: rng.random_range(0..1000) });
    }
    all
}

pub(crate) struct Nemesis<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) trace: &'a Trace,
    pub(crate) owner: &'static str,
    pub(crate) columns: u32,
    probes: u32,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(stage: &'a Stage, trace: &'a Trace) -> Self {
        Self { stage, trace, owner: "owner", columns: 0, probes: 0 }
    }

    /// Makes a fault happen, and lets it end.
    pub(crate) fn strike(&mut self, fault: Fault) {
        self.trace.fault_begins(fault.name, &fault.size.to_string());
        if let Err(what) = self.perform(fault) {
            self.trace.harm(format!("{}: {what}", fault.name));
        }
        if ["crash backend", "crash postgres", "lose commits", "promote standby"].contains(&fault.name) {
            self.trace.commits_lost();
        }
        self.trace.fault_ends();
    }

    fn perform(&mut self, fault: Fault) -> Result<(), String> {
        let between = |from: u64, to: u64| Duration::from_millis(from + (to - from) * u64::from(fault.size) / 1000);
        let stage = self.stage;
        match fault.name {
            "kill daemon" => self.replace(Signal::SIGKILL, between(0, 300))?,
            "stop daemon" => self.replace(Signal::SIGTERM, between(0, 100))?,
            "freeze daemon" => self.freeze_daemon(between(100, 3000)),
            // Past `idle_session_timeout`: the server takes its locks away.
            "freeze daemon long" => self.freeze_daemon(between(11_000, 13_000)),
            "second daemon" if stage.runs(1) => stage.end(1, Signal::SIGKILL)?,
            "second daemon" => stage.start(1),
            "reload" => stage.signal(0, Signal::SIGHUP),
            "save redis" => self.redis("SAVE", &[])?,
            "kill redis" => stage.restart_redis(),
            "roll back redis" => self.redis("DEBUG", &["RELOAD", "NOSAVE"])?,
            "save and roll back" => {
                self.redis("SAVE", &[])?;
                std::thread::sleep(between(5, 300));
                self.redis("DEBUG", &["RELOAD", "NOSAVE"])?;
            }
            "freeze redis" => {
                lock(&stage.redis).signal(Signal::SIGSTOP);
                std::thread::sleep(between(100, 2500));
                lock(&stage.redis).signal(Signal::SIGCONT);
            }
            "kill clients" => {
                self.redis("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"])?;
                self.redis("CLIENT", &["KILL", "TYPE", "pubsub"])?
            }
            "pause clients" => {
                self.redis("CLIENT", &["PAUSE", &between(50, 2000).as_millis().to_string()])?;
            }
            "flushall" => self.redis("FLUSHALL", &[])?,
            "out of memory" => self.out_of_memory(between(200, 1500))?,
            "misconf" => self.misconf(between(200, 1500))?,
            "noreplicas" => self.with_setting("min-replicas-to-write", "1", "0", between(100, 2000))?,
            // Over before the position is due: whoever ignores what a delete was answered has lost it.
            "refuse briefly" => self.with_setting("min-replicas-to-write", "1", "0", between(5, 80))?,
            "readonly" => {
                self.redis("REPLICAOF", &["127.0.0.1", "1"])?;
                std::thread::sleep(between(50, 1500));
                self.redis("REPLICAOF", &["NO", "ONE"])?;
            }
            "lose position" => self.redis("DEL", &["{pgevict}:position"])?,
            "terminate backends" => self.terminate("true"),
            "terminate pgevict" => self.terminate("application_name LIKE 'pgevict%'"),
            "crash backend" => self.crash_backend(),
            "crash postgres" => stage.restart_postgres(Down::Crash),
            "restart postgres" => stage.restart_postgres(Down::Clean),
            "lose commits" => self.lose_commits(),
            "promote standby" => stage.promote_standby(between(0, 500))?,
            "lock journal" => self.lock_journal(between(300, 2500)),
            "detach partition" => self.detach_partition(between(50, 1500)),
            "rename column" => self.rename_column()?,
            "add json column" => self.add_json_column()?,
            "disable trigger" => self.disable_trigger()?,
            "swap table" => self.swap_table(fault.size.is_multiple_of(2))?,
            other if network::inflict(stage, other, fault.size) => {}
            unknown => return Err(format!("no such fault: {unknown}")),
        }
        Ok(())
    }

    /// Whatever a fault has left behind is put right; the storm is over.
    pub(crate) fn calm(&self) {
        self.stage.signal(0, Signal::SIGCONT);
        if !self.stage.runs(0) {
            self.stage.start(0);
        }
    }

    /// A command of Redis by an operator, who tries again while the server is away. A server that refuses it says so.
    fn redis(&self, command: &str, args: &[&str]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = match self.stage.cache() {
                Some(mut redis) => redis::cmd(command).arg(args).query::<redis::Value>(&mut redis),
                None => Err(redis::RedisError::from(std::io::Error::other("away"))),
            };
            match answer {
                Ok(_) => return Ok(()),
                // No dump yet (the keys are gone then), a save under way, or debugging is not allowed.
                Err(e) if e.code().is_some() => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(format!("{command} {args:?}: {e}")),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn with_setting(&self, name: &str, on: &str, off: &str, lasts: Duration) -> Result<(), String> {
        self.redis("CONFIG", &["SET", name, on])?;
        std::thread::sleep(lasts);
        self.redis("CONFIG", &["SET", name, off])
    }

    fn replace(&self, signal: Signal, away: Duration) -> Result<(), String> {
        let ended = self.stage.end(0, signal);
        std::thread::sleep(away);
        self.stage.start(0);
        ended
    }

    fn freeze_daemon(&self, lasts: Duration) {
        self.stage.signal(0, Signal::SIGSTOP);
        std::thread::sleep(lasts);
        self.stage.signal(0, Signal::SIGCONT);
    }

    /// Under `maxmemory` nothing can be stored, and stale values must go all the same (HAZARDS R5).
    fn out_of_memory(&mut self, lasts: Duration) -> Result<(), String> {
        self.probes += 1;
        let id = 100_000 + self.probes;
        let key = format!("probe:{id}");
        let cached = self.stage.cache().is_some_and(|mut redis| redis.set::<_, _, ()>(&key, "x").is_ok());
        self.redis("CONFIG", &["SET", "maxmemory", "1"])?;
        std::thread::sleep(lasts);
        let changed = self.sql(&format!("INSERT INTO marks VALUES ({id})"));
        let deadline = Instant::now() + NOTICED;
        let gone = || self.stage.cache().is_some_and(|mut redis| redis.exists::<_, bool>(&key) == Ok(false));
        let mut verdict = Ok(());
        while cached && changed && verdict.is_ok() && !gone() {
            if Instant::now() > deadline {
                verdict = Err(format!("a changed row's key is still served after {NOTICED:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.redis("CONFIG", &["SET", "maxmemory", "0"])?;
        verdict
    }

    /// A dump that cannot be written makes Redis refuse every write.
    fn misconf(&self, lasts: Duration) -> Result<(), String> {
        let Some(mut redis) = self.stage.cache() else { return Ok(()) };
        let (_, folder): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg("dir").query(&mut redis).map_err(|e| e.to_string())?;
        let (dump, kept) = (format!("{folder}/dump.rdb"), format!("{folder}/dump.kept"));
        let had = std::fs::rename(&dump, &kept).is_ok();
        // A folder where the dump should be: renaming the new dump to it fails.
        std::fs::create_dir(&dump).map_err(|e| e.to_string())?;
        self.redis("CONFIG", &["SET", "save", "3600 1000000"])?;
        self.redis("BGSAVE", &[])?;
        std::thread::sleep(lasts);
        self.redis("CONFIG", &["SET", "save", ""])?;
        std::fs::remove_dir(&dump).map_err(|e| e.to_string())?;
        if had {
            std::fs::rename(&kept, &dump).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Statements of an operator. An error is no news: the servers are in trouble.
    pub(crate) fn sql(&self, sql: &str) -> bool {
        self.stage.db().is_some_and(|db| db.rows(sql).is_ok())
    }

    fn terminate(&self, which: &str) {
        self.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND {which}"
        ));
    }

    /// One backend is killed; the server crashes all others and recovers: what was not flushed is lost.
    fn crash_backend(&self) {
        let Some(db) = self.stage.db() else { return };
        let victim = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1";
        let pid = db.value(victim).ok().flatten().and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid {
            kill(pid);
        }
    }

    /// Commits that clients have seen, and cached, and that the server then forgets (HAZARDS P4).
    fn lose_commits(&self) {
        let (Some(db), Some(mut redis)) = (self.stage.db(), self.stage.cache()) else { return };
        let Ok(Some(pid)) = db.value("SELECT pg_backend_pid()") else { return };
        if db.rows("SET synchronous_commit = off").is_err() {
            return;
        }
        let mut doubtful = Vec::new();
        for id in 1..=25 {
            let begun = Instant::now();
            let change = format!(
                "UPDATE items SET v = nextval('versions'), tag = -1 WHERE id = {id}; \
                 SELECT v || '.' || tag FROM items WHERE id = {id}"
            );
            let Ok(Some(value)) = db.value(&change) else { break };
            let key = format!("item:{id}");
            let stored = redis.set::<_, _, ()>(&key, &value);
            self.trace.event(&key, format!("filled before the crash: {value}"));
            // As for every filler: what may have been stored too late goes.
            if stored.is_err() || begun.elapsed() >= LONGEST_FILL {
                doubtful.push(key);
            }
        }
        if let Ok(pid) = pid.parse() {
            kill(pid);
        }
        for key in doubtful {
            let _ = self.redis("UNLINK", &[&key]);
        }
    }

    fn lock_journal(&self, lasts: Duration) {
        self.sql(&format!(
            "BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE pgevict.journal IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({}); COMMIT",
            lasts.as_secs_f64()
        ));
    }
}

/// SIGKILL to one backend of our own server.
fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}
