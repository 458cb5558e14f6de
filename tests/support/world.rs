//! A database, a Redis, a configuration, a daemon: everything one test needs, alone.

use super::daemon::{Daemon, Ran};
use super::servers::{Db, Pg};
use super::{Delivery, PATIENCE};
use pgevict::cli::demo::servers::Redis;
use redis::Commands as _;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The marker: a table and two caches of the harness. A change of it travels behind all earlier ones. Its pattern is found by
/// a walk unless the test says otherwise: what the index answers is not behind the walks that are under way.
const MARKER_CONFIG: &str = r#"
[cache.zz_mark]
key = "zz_mark:{id}"
[cache.zz_marks]
pattern = "zz_marks:{id}:*"
index = false
[table.zz_marker]
mode = "enforce"
evict = ["zz_mark", "zz_marks"]
"#;

/// What a world is made of.
pub(crate) struct Setup<'a> {
    pub(crate) delivery: Delivery,
    /// Without servers: those come by environment variables, as the recipes' files are used as they stand.
    pub(crate) config: &'a str,
    pub(crate) schema: &'a str,
    /// What the namespace puts in front of every key, with the newest version.
    pub(crate) prefix: &'a str,
    /// Settings of a PostgreSQL of its own; None: the shared one.
    pub(crate) own_postgres: Option<&'a [(&'a str, &'a str)]>,
    pub(crate) redis: &'a [(&'a str, &'a str)],
    /// Whether the harness's own pattern is answered by the index: then nothing walks, and walks are not waited for.
    pub(crate) indexed_marker: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            delivery: Delivery::Journal,
            config: "",
            schema: "",
            prefix: "",
            own_postgres: None,
            redis: &[],
            indexed_marker: false,
        }
    }
}

pub(crate) struct World {
    pub(crate) pg: Pg,
    pub(crate) database: String,
    pub(crate) redis: RefCell<Redis>,
    pub(crate) env: Vec<(String, String)>,
    prefix: String,
    folder: TempDir,
    daemon: RefCell<Option<Daemon>>,
    db: RefCell<Option<Db>>,
    universe: RefCell<BTreeSet<String>>,
    marks: Cell<u32>,
    marker: String,
}

impl World {
    /// Servers, database and configuration; nothing applied, nothing running.
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let pg = setup.own_postgres.map_or(Pg::Shared, Pg::own);
        let database = pg.create_database();
        let redis = Redis::start(&[setup.redis, &[("notify-keyspace-events", "EA")]].concat()).unwrap();
        let folder = tempfile::Builder::new().prefix("pgevict-").tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let env = [
            ("PGEVICT_POSTGRES__URL", pg.url(&database)),
            ("PGEVICT_POSTGRES__DELIVERY", setup.delivery.as_str().to_owned()),
            ("PGEVICT_REDIS__URL", redis.url(0)),
            ("PGEVICT_ADMIN__SOCKET", socket.display().to_string()),
            ("PGEVICT_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("PGEVICT_LOG__FORMAT", "json".to_owned()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .to_vec();
        let world = Self {
            pg,
            database,
            redis: RefCell::new(redis),
            env,
            prefix: setup.prefix.to_owned(),
            folder,
            daemon: RefCell::new(None),
            db: RefCell::new(None),
            universe: RefCell::default(),
            marks: Cell::new(0),
            marker: if setup.indexed_marker {
                MARKER_CONFIG.replace("index = false\n", "")
            } else {
                MARKER_CONFIG.into()
            },
        };
        world.sql("CREATE TABLE zz_marker (id int PRIMARY KEY)");
        world.sql(setup.schema);
        world.write_config(setup.config);
        world
    }

    /// The same with triggers installed and a daemon that is ready.
    pub(crate) fn running(setup: &Setup<'_>) -> Self {
        let world = Self::new(setup);
        world.apply();
        world.start();
        world
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// The daemon's admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Replaces the configuration, the harness's marker added.
    pub(crate) fn write_config(&self, config: &str) {
        std::fs::write(self.config_path(), format!("{config}\n{}", self.marker)).unwrap();
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    // --- the application's side -------------------------------------------------------------------------------

    /// A statement of the application; it may not fail.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let mut db = self.db.borrow_mut();
        if db.as_ref().is_none_or(Db::is_closed) {
            *db = Some(self.connect());
        }
        let connected = db.as_ref().unwrap();
        if matches!(self.pg, Pg::Own(_)) && connected.try_sql("").is_err() {
            // Its server was restarted, and the task that would notice has not had a core yet.
            return db.insert(self.connect()).sql(sql);
        }
        connected.sql(sql)
    }

    /// The first value of the first row.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> String {
        self.sql(sql)[0][0].clone().unwrap_or_else(|| panic!("NULL from {sql}"))
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Db {
        Db::connect(&self.pg.url(&self.database))
    }

    pub(crate) fn redis(&self) -> redis::Connection {
        redis::Client::open(self.redis.borrow().url(0)).unwrap().get_connection().unwrap()
    }

    /// Caches these keys. They are the universe of [`World::check`] from now on.
    pub(crate) fn fill(&self, keys: &[&str]) {
        self.universe.borrow_mut().extend(keys.iter().map(|k| (*k).to_owned()));
        self.refill();
    }

    pub(crate) fn refill(&self) {
        let mut redis = self.redis();
        for key in self.universe.borrow().iter() {
            redis.set::<_, _, ()>(key, "cached").unwrap();
        }
    }

    /// Those keys of the universe that are not cached.
    pub(crate) fn missing(&self) -> BTreeSet<String> {
        let mut redis = self.redis();
        self.universe.borrow().iter().filter(|k| !redis.exists::<_, bool>(k).unwrap()).cloned().collect()
    }

    /// Runs the statement with the universe cached, and insists that exactly these keys went.
    #[track_caller]
    pub(crate) fn check(&self, sql: &str, gone: &[&str]) {
        self.check_after(sql, gone, || {
            self.sql(sql);
        });
    }

    /// The same for anything that changes the database.
    #[track_caller]
    pub(crate) fn check_after(&self, what: &str, gone: &[&str], change: impl FnOnce()) {
        self.refill();
        change();
        self.drain();
        let expected: BTreeSet<String> = gone.iter().map(|k| (*k).to_owned()).collect();
        let universe = self.universe.borrow();
        let unknown: Vec<_> = expected.difference(&universe).collect();
        assert!(unknown.is_empty(), "never cached, so they cannot go: {unknown:?}");
        drop(universe);
        let missing = self.missing();
        assert!(
            missing == expected,
            "after: {what}\n  should have gone, but stayed: {:?}\n  should have stayed, but went: {:?}",
            expected.difference(&missing).collect::<Vec<_>>(),
            missing.difference(&expected).collect::<Vec<_>>()
        );
    }

    /// Waits until everything that is committed now has been delivered: a change of the marker table travels behind it.
    /// Twice, because the first marker's keys may go early in the pass that also serves earlier patterns; the second
    /// one's pass begins when that one is over.
    #[track_caller]
    pub(crate) fn drain(&self) {
        for _ in 0..2 {
            let n = self.marks.get() + 1;
            self.marks.set(n);
            let keys = [format!("{}zz_mark:{n}", self.prefix), format!("{}zz_marks:{n}:x", self.prefix)];
            let mut redis = self.redis();
            for key in &keys {
                redis.set::<_, _, ()>(key, "marker").unwrap();
            }
            self.sql(&format!("INSERT INTO zz_marker VALUES ({n})"));
            self.wait_gone(&keys.each_ref().map(String::as_str));
        }
    }

    /// Waits until these keys are gone.
    #[track_caller]
    pub(crate) fn wait_gone(&self, keys: &[&str]) {
        self.wait_keys(&format!("{keys:?} to go"), |redis| !redis.exists::<_, bool>(keys).unwrap_or(true));
    }

    /// Waits for a state of the cache. Redis tells when a key changes, so nothing sleeps; the time-out is for what
    /// changes without telling, like a restart.
    #[track_caller]
    pub(crate) fn wait_keys(&self, what: &str, mut done: impl FnMut(&mut redis::Connection) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(mut listener) = redis::Client::open(self.redis.borrow().url(0)).unwrap().get_connection() else {
                std::thread::yield_now();
                continue;
            };
            listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut events = listener.as_pubsub();
            if events.psubscribe("__keyevent@0__:*").is_err() {
                continue;
            }
            let Ok(mut redis) = redis::Client::open(self.redis.borrow().url(0)).unwrap().get_connection() else {
                continue;
            };
            loop {
                if done(&mut redis) {
                    return;
                }
                if events.get_message().is_err() {
                    break;
                }
            }
        }
        panic!("waited {PATIENCE:?} for {what}\n{}", self.log_tail());
    }

    // --- pgevict's side ---------------------------------------------------------------------------------------

    /// A command with this world's configuration.
    #[track_caller]
    pub(crate) fn pgevict(&self, args: &[&str]) -> Ran {
        let config = self.config_path();
        Ran::of(&[args, &["-c", config.to_str().unwrap()]].concat(), &self.env)
    }

    /// Installs the triggers.
    #[track_caller]
    pub(crate) fn apply(&self) {
        self.pgevict(&["sql", "apply", "--yes"]).exits(0);
    }

    /// Another daemon on this configuration.
    pub(crate) fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Daemon {
        let config = self.config_path();
        let mut all = self.env.clone();
        for (name, value) in env {
            all.retain(|(n, _)| n != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        Daemon::spawn(&[&["run", "-c", config.to_str().unwrap()], args].concat(), &all)
    }

    /// Another daemon on another configuration.
    pub(crate) fn spawn_elsewhere(&self, config: &std::path::Path) -> Daemon {
        let socket = config.with_extension("sock");
        let mut env = self.env.clone();
        env.retain(|(n, _)| n != "PGEVICT_ADMIN__SOCKET");
        env.push(("PGEVICT_ADMIN__SOCKET".to_owned(), socket.display().to_string()));
        Daemon::spawn(&["run", "-c", config.to_str().unwrap()], &env)
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(&self) {
        self.start_with(&[]);
    }

    #[track_caller]
    pub(crate) fn start_with(&self, args: &[&str]) {
        self.start_unready(args);
        self.wait_ready();
    }

    pub(crate) fn start_unready(&self, args: &[&str]) {
        let daemon = self.spawn(args, &[]);
        assert!(self.daemon.borrow_mut().replace(daemon).is_none(), "a daemon runs already");
    }

    /// Waits until `pgevict ready` says yes.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ran = self.pgevict(&["ready"]);
            if ran.code == Some(0) {
                return;
            }
            last = Some(ran);
            if self.daemon.borrow_mut().as_mut().is_some_and(|d| d.ended()) {
                break;
            }
        }
        panic!("the daemon is not ready: {last:?}\n{}", self.log_tail());
    }

    /// Looks at the daemon.
    pub(crate) fn daemon<T>(&self, look: impl FnOnce(&mut Daemon) -> T) -> T {
        look(self.daemon.borrow_mut().as_mut().expect("no daemon runs"))
    }

    /// Waits until Redis holds a position: what was flushed at the first start is proven, and a restart goes on from
    /// there. Until then every new session flushes again, as it must.
    #[track_caller]
    pub(crate) fn wait_position(&self) {
        self.wait_keys("the position to be proven", |redis| {
            let record: Option<String> = redis.hget("{pgevict}:position", "rec").unwrap_or_default();
            let record: serde_json::Value = serde_json::from_str(&record.unwrap_or_default()).unwrap_or_default();
            record["pos"].is_string()
        });
    }

    /// Waits until the position has reached every committed change.
    #[track_caller]
    pub(crate) fn wait_settled(&self) {
        self.wait_keys("the position to follow", |redis| {
            let record: String = redis.hget("{pgevict}:position", "rec").unwrap_or_default();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
            let pos = record["pos"].as_str().unwrap_or("1:1:");
            let seen =
                format!("SELECT coalesce(bool_and(pg_visible_in_snapshot(xid, '{pos}')), false) FROM pgevict.journal");
            self.value(&seen) == "t"
        });
    }

    /// The place in the daemon's log to wait from.
    pub(crate) fn mark(&self) -> usize {
        self.daemon(|d| d.log().mark())
    }

    #[track_caller]
    pub(crate) fn wait_line(&self, mark: usize, parts: &[&str]) -> String {
        self.daemon(|d| d.wait_line(mark, parts))
    }

    /// SIGTERM; insists on exit code 0.
    #[track_caller]
    pub(crate) fn stop(&self) {
        let daemon = self.daemon.borrow_mut().take().expect("no daemon runs");
        let log = std::sync::Arc::clone(daemon.log());
        let code = daemon.stop();
        assert_eq!(code, Some(0), "{}", log.tail(60));
    }

    pub(crate) fn kill9(&self) {
        self.daemon.borrow_mut().take().expect("no daemon runs").kill9();
    }

    #[track_caller]
    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    fn log_tail(&self) -> String {
        self.daemon.borrow().as_ref().map(|d| d.log().tail(60)).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log_tail());
        }
        drop(self.daemon.borrow_mut().take());
        drop(self.db.borrow_mut().take());
        if matches!(self.pg, Pg::Shared) {
            self.pg.drop_database(&self.database);
        }
    }
}
