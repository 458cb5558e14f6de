//! The servers and daemons of one storm, as values: everything ends when the stage is dropped.

use super::client::{Db, Refused, cache};
use super::proxy::Proxy;
use super::shop;
use nix::sys::signal::Signal;
use pgevict::cli::demo::process::{Log, Process, Stream};
use pgevict::cli::demo::servers::{Down, Postgres, Redis};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A thread that panicked has said why; the others must still be able to end the servers.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until a standby follows; it starts in a second.
const PROMOTION: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    // Dropped in this order: the daemons before what they use.
    daemons: [Mutex<Option<Process>>; 2],
    /// Of every daemon that ever ran, oldest first.
    logs: Mutex<Vec<Arc<Log>>>,
    pub(crate) pg: Mutex<Postgres>,
    pub(crate) redis: Mutex<Redis>,
    /// Of the primary; another one after a promotion.
    pg_url: Mutex<String>,
    pub(crate) redis_url: String,
    /// Between the daemons and PostgreSQL, and Redis.
    pub(crate) proxies: [Proxy; 2],
    folder: TempDir,
    env: Vec<(String, String)>,
    /// Whether the server knows MERGE.
    pub(crate) merges: bool,
    /// Whether the fillers ignore the fill contract: the one planted bug that is the application's.
    pub(crate) unguarded: bool,
    /// Highest resident size of any daemon, in kB.
    pub(crate) rss: Mutex<u64>,
}

impl Stage {
    /// Servers, tables, triggers and a daemon. `planted` names a bug that a build with the feature `planted` has.
    pub(crate) fn set(prepared: bool, planted: Option<&str>) -> Self {
        let settings = [("max_prepared_transactions", if prepared { "20" } else { "0" })];
        let pg = Postgres::start(&settings).unwrap_or_else(|e| panic!("{e}"));
        // DEBUG RELOAD puts Redis back to its last dump without cutting a connection; Redis 6.2 knows no such setting
        // and allows it anyway.
        let events = ("notify-keyspace-events", "EA");
        let redis = Redis::start(&[events, ("enable-debug-command", "yes")]).or_else(|_| Redis::start(&[events]));
        let redis = redis.unwrap_or_else(|e| panic!("{e}"));
        let folder = tempfile::Builder::new().prefix("pgevict-storm-").tempdir().unwrap();
        let (pg_url, redis_url) = (pg.url("postgres"), redis.url(0));
        let proxies = [Proxy::before(&pg_url), Proxy::before(&redis_url)];
        let mut env = vec![
            ("PGEVICT_POSTGRES__URL".to_owned(), proxies[0].url(&pg_url)),
            ("PGEVICT_REDIS__URL".to_owned(), proxies[1].url(&redis_url)),
            ("PGEVICT_LOG__FORMAT".to_owned(), "json".to_owned()),
        ];
        env.extend(planted.map(|bug| ("PLANTED".to_owned(), bug.to_owned())));
        let db = Db::connect(&pg_url).unwrap();
        db.rows(shop::SCHEMA).unwrap();
        db.rows(&shop::rows()).unwrap();
        let version = "SELECT current_setting('server_version_num')::int >= 150000";
        let merges = db.value(version).unwrap().as_deref() == Some("t");
        let stage = Self {
            daemons: [Mutex::new(None), Mutex::new(None)],
            logs: Mutex::default(),
            pg: Mutex::new(pg),
            redis: Mutex::new(redis),
            pg_url: Mutex::new(pg_url),
            redis_url,
            proxies,
            merges,
            folder,
            env,
            unguarded: planted == Some("plain-fills"),
            rss: Mutex::new(0),
        };
        let rows: String = (2001..=2200).map(|n| format!("{n},{},3\n", n % shop::BUCKETS)).collect();
        std::fs::write(stage.copy_file(), rows).unwrap();
        // The server's own user reads the file of COPY.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stage.folder.path(), open).unwrap();
        stage.write_config("owner");
        stage.apply().unwrap();
        stage.start(0);
        stage
    }

    pub(crate) fn copy_file(&self) -> PathBuf {
        self.folder.path().join("bulk.csv")
    }

    pub(crate) fn write_config(&self, owner: &str) {
        // At once: a daemon that starts meanwhile reads the old file or the new one.
        let (path, new) = (self.folder.path().join("config.toml"), self.folder.path().join("config.new"));
        std::fs::write(&new, shop::config(owner)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn command(&self, args: &[&str], which: usize) -> Command {
        let built = env!("CARGO_BIN_EXE_pgevict").into();
        let mut command = Command::new(std::env::var_os("STORM_BINARY").unwrap_or(built));
        command.args(args).arg("-c").arg(self.folder.path().join("config.toml"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("NO_COLOR", "1");
        command.env("PGEVICT_ADMIN__SOCKET", self.folder.path().join(format!("admin{which}.sock")));
        command.env("TMPDIR", self.folder.path());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// A command that ends: exit code and output.
    fn ran(&self, args: &[&str], which: usize) -> (Option<i32>, String) {
        let mut process = Process::spawn("pgevict", self.command(args, which), Signal::SIGKILL, None).unwrap();
        let code = process.wait(Duration::from_secs(60)).and_then(|s| s.code());
        (code, [process.log().of(Stream::Out), process.log().of(Stream::Err)].concat().join("\n"))
    }

    /// `pgevict sql apply`; Err: what it said.
    pub(crate) fn apply(&self) -> Result<(), String> {
        let (code, said) = self.ran(&["sql", "apply", "--yes"], 0);
        if code == Some(0) { Ok(()) } else { Err(said) }
    }

    /// What keeps the daemons from being ready; None: the one that leads is.
    pub(crate) fn unready(&self) -> Option<String> {
        let mut all = String::new();
        for which in (0..2).filter(|which| self.runs(*which)) {
            let (code, said) = self.ran(&["ready", "-o", "json"], which);
            if code == Some(0) {
                return None;
            }
            all.push_str(&said);
        }
        Some(all)
    }

    pub(crate) fn start(&self, which: usize) {
        let command = self.command(&["run"], which);
        let process = Process::spawn("pgevict run", command, Signal::SIGKILL, None).unwrap();
        lock(&self.logs).push(process.log().clone());
        *lock(&self.daemons[which]) = Some(process);
    }

    pub(crate) fn signal(&self, which: usize, signal: Signal) {
        if let Some(daemon) = &*lock(&self.daemons[which]) {
            daemon.signal(signal);
        }
    }

    /// Ends a daemon; SIGTERM must lead to exit code 0. Err: what it did instead.
    pub(crate) fn end(&self, which: usize, signal: Signal) -> Result<(), String> {
        let Some(mut daemon) = lock(&self.daemons[which]).take() else { return Ok(()) };
        if daemon.wait(Duration::ZERO).is_some() {
            return Err(format!("the daemon had ended by itself\n{}", daemon.log().tail(20)));
        }
        daemon.signal(signal);
        let status = daemon.wait(Duration::from_secs(20));
        match (signal, status.map(|s| s.code())) {
            (Signal::SIGKILL, Some(_)) | (_, Some(Some(0))) => Ok(()),
            (_, None) => Err(format!("the daemon did not end after {signal}\n{}", daemon.log().tail(20))),
            (_, Some(code)) => Err(format!("the daemon ended with {code:?} after {signal}\n{}", daemon.log().tail(20))),
        }
    }

    pub(crate) fn runs(&self, which: usize) -> bool {
        lock(&self.daemons[which]).is_some()
    }

    /// The process of a daemon.
    pub(crate) fn pid(&self, which: usize) -> Option<u32> {
        lock(&self.daemons[which]).as_ref().map(Process::pid)
    }

    /// Looks after the daemons: their size, and whether one has ended by itself (says how).
    pub(crate) fn look(&self) -> Option<String> {
        for slot in &self.daemons {
            let mut slot = lock(slot);
            let Some(daemon) = slot.as_mut() else { continue };
            if let Some(status) = daemon.wait(Duration::ZERO) {
                let log = daemon.log().tail(30);
                *slot = None;
                return Some(format!("a daemon ended by itself: {status}\n{log}"));
            }
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let size = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
            let mut rss = lock(&self.rss);
            *rss = (*rss).max(size);
        }
        None
    }

    /// Lines of all daemons' logs that hold `text`, oldest first, the last `most`.
    pub(crate) fn said(&self, text: &str, most: usize) -> Vec<String> {
        let all: Vec<String> =
            lock(&self.logs).iter().flat_map(|log| log.since(0)).filter(|l| l.contains(text)).collect();
        all[all.len().saturating_sub(most)..].to_vec()
    }

    /// Everything that all daemons said, oldest daemon first.
    pub(crate) fn logs(&self) -> String {
        lock(&self.logs).iter().map(|log| log.since(0).join("\n") + "\n").collect()
    }

    pub(crate) fn log_tail(&self) -> String {
        lock(&self.logs).last().map(|log| log.tail(40)).unwrap_or_default()
    }

    pub(crate) fn pg_url(&self) -> String {
        lock(&self.pg_url).clone()
    }

    /// A session of the harness itself, or None while the server is away.
    pub(crate) fn db(&self) -> Option<Db> {
        Db::connect(&self.pg_url()).ok()
    }

    /// Both, as soon as the servers are there: a crash recovery may be under way.
    pub(crate) fn both(&self) -> Option<(Db, redis::Connection)> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let (Some(db), Some(cache)) = (self.db(), self.cache()) {
                return Some((db, cache));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// A connection of the harness itself, or None while the server is away.
    pub(crate) fn cache(&self) -> Option<redis::Connection> {
        cache(&self.redis_url, Duration::from_secs(5)).ok()
    }

    /// PostgreSQL goes down and comes back.
    pub(crate) fn restart_postgres(&self, how: Down) {
        let mut pg = lock(&self.pg);
        pg.down(how);
        pg.up().unwrap_or_else(|e| panic!("{e}"));
    }

    /// A streaming standby takes over from a primary that died, and lacks what it committed during `lag`: replication is
    /// asynchronous. Everybody is sent to the new one.
    pub(crate) fn promote_standby(&self, lag: Duration) -> Result<(), String> {
        let mut pg = lock(&self.pg);
        let conninfo = format!("host=127.0.0.1 port={} user=postgres", pg.port());
        pg.down(Down::Clean);
        let copied = pg.copy(&[("primary_conninfo", &conninfo)]);
        pg.up().unwrap_or_else(|e| panic!("{e}"));
        let mut standby = copied.map_err(|e| e.to_string())?;
        standby.touch("standby.signal").map_err(|e| e.to_string())?;
        standby.up().unwrap_or_else(|e| panic!("{e}"));
        let url = standby.url("postgres");
        let db = Db::connect(&url).map_err(|e| e.message)?;
        let deadline = Instant::now() + PROMOTION;
        // Streaming, and something arrived that the copy did not have.
        let follows =
            "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming' AND flushed_lsn > receive_start_lsn";
        let receiver = loop {
            let answer = db.value(follows).map_err(|e| format!("{}\n{}", e.message, standby.log_tail()))?;
            match answer.and_then(|pid| pid.parse().ok()) {
                Some(pid) => break nix::unistd::Pid::from_raw(pid),
                None if Instant::now() > deadline => return Err(format!("no standby follows\n{}", standby.log_tail())),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let _ = nix::sys::signal::kill(receiver, Signal::SIGSTOP);
        std::thread::sleep(lag);
        pg.down(Down::Crash);
        let _ = nix::sys::signal::kill(receiver, Signal::SIGCONT);
        // Asked and not waited for: the snapshot of a statement that waits may be in the way of what is still to be replayed.
        let failed = |e: Refused| format!("{}\n{}", e.message, standby.log_tail());
        db.rows("SELECT pg_promote(false)").map_err(failed)?;
        while db.value("SELECT pg_is_in_recovery()").map_err(failed)?.as_deref() != Some("f") {
            if Instant::now() > deadline {
                return Err(format!("the standby is not promoted\n{}", standby.log_tail()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.proxies[0].lead_to(&url);
        *lock(&self.pg_url) = url;
        // The old one goes with its folder.
        *pg = standby;
        Ok(())
    }

    /// Redis is killed and comes back from its last dump.
    pub(crate) fn restart_redis(&self) {
        let mut redis = lock(&self.redis);
        redis.kill();
        redis.up().unwrap_or_else(|e| panic!("{e}"));
    }
}
