//! The servers and daemons of one storm, as values: everything ends when the stage is dropped.

use super::client::{Db, cache};
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

pub(crate) struct Stage {
    // Dropped in this order: the daemons before what they use.
    daemons: [Mutex<Option<Process>>; 2],
    /// Of every daemon that ever ran, oldest first.
    logs: Mutex<Vec<Arc<Log>>>,
    pub(crate) pg: Mutex<Postgres>,
    pub(crate) redis: Mutex<Redis>,
    pub(crate) pg_url: String,
    pub(crate) redis_url: String,
    folder: TempDir,
    env: Vec<(String, String)>,
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
        let mut env = vec![
            ("PGEVICT_POSTGRES__URL".to_owned(), pg_url.clone()),
            ("PGEVICT_REDIS__URL".to_owned(), redis_url.clone()),
            ("PGEVICT_LOG__FORMAT".to_owned(), "json".to_owned()),
        ];
        env.extend(planted.map(|bug| ("PLANTED".to_owned(), bug.to_owned())));
        let stage = Self {
            daemons: [Mutex::new(None), Mutex::new(None)],
            logs: Mutex::default(),
            pg: Mutex::new(pg),
            redis: Mutex::new(redis),
            pg_url,
            redis_url,
            folder,
            env,
            unguarded: planted == Some("plain-fills"),
            rss: Mutex::new(0),
        };
        let db = Db::connect(&stage.pg_url).unwrap();
        db.rows(shop::SCHEMA).unwrap();
        db.rows(&shop::rows()).unwrap();
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

    /// A session of the harness itself, or None while the server is away.
    pub(crate) fn db(&self) -> Option<Db> {
        Db::connect(&self.pg_url).ok()
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

    /// Redis is killed and comes back from its last dump.
    pub(crate) fn restart_redis(&self) {
        let mut redis = lock(&self.redis);
        redis.kill();
        redis.up().unwrap_or_else(|e| panic!("{e}"));
    }
}
