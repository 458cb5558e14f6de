//! pgevict on one database and one Redis: configuration, triggers, daemon.

use super::{Db, Resp, address};
use nix::sys::signal::Signal;
use pgevict::cli::demo::process::Process;
use pgevict::cli::demo::servers::{Postgres, Redis};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a daemon may take to be ready, or its index to be live: ten million keys take a while.
const PATIENCE: Duration = Duration::from_secs(300);

/// The program that is measured: the release binary, or another to compare it with.
pub(crate) fn binary() -> String {
    std::env::var("BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgevict").to_owned())
}

pub(crate) struct Site {
    pub(crate) db: Db,
    database: String,
    address: String,
    env: Vec<(String, String)>,
    folder: TempDir,
    daemon: Option<Process>,
}

impl Site {
    /// A database of its own with this schema; its triggers installed, no daemon.
    pub(crate) fn new(postgres: &Postgres, redis: &Redis, database: &str, schema: &str, config: &str) -> Self {
        let db = Db::create(postgres, database, schema);
        db.sql("DO $$ BEGIN CREATE ROLE pgevict LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
        let folder = tempfile::Builder::new().prefix("pgevict-").tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.toml"), config).expect("a file");
        let env = [
            // The least it needs, as a production daemon has.
            ("PGEVICT_POSTGRES__URL", postgres.url(database).replace("postgres@", "pgevict@")),
            ("PGEVICT_REDIS__URL", redis.url(0)),
            // Several sites may share a Redis.
            ("PGEVICT_REDIS__STATE", format!("{{pgevict-{database}}}")),
            ("PGEVICT_ADMIN__SOCKET", folder.path().join("admin.sock").display().to_string()),
            ("PGEVICT_LOG__FORMAT", "json".to_owned()),
        ];
        let env = env.map(|(k, v)| (k.to_owned(), v)).to_vec();
        let site = Self { db, database: database.to_owned(), address: address(redis), env, folder, daemon: None };
        let owner = postgres.url(database);
        let ran = site.command(&["sql", "apply", "--yes", "--as", &owner]).output().expect("pgevict runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        site
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).arg("-c").arg(self.folder.path().join("config.toml")).env_clear();
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts the daemon, and says how long it took from nothing to ready.
    pub(crate) fn start(&mut self) -> Duration {
        let begun = Instant::now();
        self.begin();
        self.wait_line("\"event\":\"ready\"");
        begun.elapsed()
    }

    /// Starts it and waits for nothing: behind a backlog it is ready only when that is delivered.
    pub(crate) fn begin(&mut self) {
        let process = Process::spawn("pgevict run", self.command(&["run"]), Signal::SIGTERM, None);
        self.daemon = Some(process.expect("pgevict runs"));
    }

    /// The first start: until what the caches held before is flushed and the position is proven, so that a restart goes on from it.
    pub(crate) fn settle(&mut self) {
        self.start();
        let (mut redis, deadline) = (Resp::connect(&self.address), Instant::now() + PATIENCE);
        let key = format!("{{pgevict-{}}}:position", self.database);
        while !redis.ask(&["HGET", &key, "rec"]).text().contains("\"pos\":\"") {
            assert!(Instant::now() < deadline, "no position\n{}", self.log().tail(40));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line of the daemon's log, from its start on.
    pub(crate) fn wait_line(&self, part: &str) {
        if self.log().wait_for(0, PATIENCE, |l| l.contains(part)).is_err() {
            panic!("no line with {part}\n{}", self.log().tail(40));
        }
    }

    fn log(&self) -> &pgevict::cli::demo::process::Log {
        self.daemon.as_ref().expect("a daemon runs").log()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").pid()
    }

    pub(crate) fn stop(&mut self) {
        self.daemon = None;
    }

    /// Waits until everything that is committed now was delivered: a change travels behind it. The table is called `items`, its
    /// key `item:{id}`, and row `id` serves.
    pub(crate) fn drained(&self, key: &str, change: &str) -> Duration {
        let (mut redis, begun) = (Resp::connect(&self.address), Instant::now());
        redis.hear();
        redis.watch(key);
        self.db.sql(change);
        redis.gone(&[key.to_owned()]) - begun
    }
}
