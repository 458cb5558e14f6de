//! Private PostgreSQL and Redis servers as values: started when made, gone when dropped.
//!
//! They listen on 127.0.0.1 on free ports, live in a temporary folder, and do not wait for the disk: what they hold
//! is worth nothing. The demo uses them, and so do the tests.

use super::process::{NoLine, Process};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use rand::Rng as _;
use std::collections::BTreeSet;
use std::fmt;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take to say that it is ready. Crash recovery on a loaded machine takes seconds.
const STARTUP: Duration = Duration::from_secs(60);

/// How often another port is tried when somebody else took ours.
const PORT_TRIES: u32 = 8;

/// Why a private server is not there: the whole story, with the end of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError(String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

impl From<std::io::Error> for ServerError {
    fn from(e: std::io::Error) -> Self {
        Self(e.to_string())
    }
}

/// The folder with `initdb` and `postgres`: `$TEST_PG_BIN`, else where `postgres` is on the PATH, else the newest of
/// the folders where distributions put them.
///
/// # Errors
/// There is none; says how to install it.
pub fn find_postgres() -> Result<PathBuf, ServerError> {
    let complete = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("TEST_PG_BIN").map(PathBuf::from) {
        return if complete(&dir) {
            Ok(dir)
        } else {
            Err(ServerError(format!("TEST_PG_BIN={} holds no initdb and postgres", dir.display())))
        };
    }
    // A link on the PATH may point to a wrapper's folder that lacks its sister programs: follow it.
    let on_path = on_path("postgres").and_then(|p| p.canonicalize().ok()).and_then(|p| p.parent().map(Path::to_owned));
    if let Some(dir) = on_path.filter(complete) {
        return Ok(dir);
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql@")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let major = name.to_string_lossy().strip_prefix(prefix).and_then(|v| v.parse().ok());
            if let Some(major) = major {
                found.push((major, entry.path().join("bin")));
            }
        }
    }
    found.retain(|(_, dir)| complete(dir));
    found.into_iter().max().map(|(_, dir)| dir).ok_or_else(|| {
        ServerError("PostgreSQL's server programs (initdb, postgres) are not on this machine\n  help: apt install postgresql, or put their folder on the PATH".into())
    })
}

/// `$TEST_REDIS_SERVER`, else `redis-server` or `valkey-server` on the PATH.
///
/// # Errors
/// There is none; says how to install it.
pub fn find_redis() -> Result<PathBuf, ServerError> {
    if let Some(path) = std::env::var_os("TEST_REDIS_SERVER").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(ServerError(format!("TEST_REDIS_SERVER={} is not a file", path.display())))
        };
    }
    on_path("redis-server").or_else(|| on_path("valkey-server")).ok_or_else(|| {
        ServerError("neither redis-server nor valkey-server is on this machine\n  help: apt install redis-server, or put it on the PATH".into())
    })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// A free port below the range from which the kernel takes the ports of outgoing connections, and that no other server of this
/// process was given: one that is restarted finds its port free again, however long it was down.
fn free_port() -> Result<u16, ServerError> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = rand::rng();
    (0..1000)
        .map(|_| rng.random_range(10_000..30_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .ok_or_else(|| ServerError("no free port between 10000 and 30000 on 127.0.0.1".into()))
}

/// Who a server runs as: PostgreSQL refuses root.
#[derive(Debug, Clone)]
struct Owner(Option<User>);

impl Owner {
    fn unprivileged() -> Result<Self, ServerError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(Self(Some(user)));
            }
        }
        Err(ServerError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody".into()))
    }

    fn folder(&self) -> Result<TempDir, ServerError> {
        let folder = tempfile::Builder::new().prefix("pgevict-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
        if let Some(user) = &self.0 {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(folder)
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // The locale of messages is pinned because we wait for one; libpq's variables are none of the server's business.
        command.current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

/// How a server is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Cleanly, without waiting for clients.
    Clean,
    /// As a crash: what was not written is lost.
    Crash,
}

/// A private PostgreSQL cluster.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: first the server, then its folder.
    process: Option<Process>,
    bin: PathBuf,
    owner: Owner,
    port: u16,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it. `settings` are those of postgresql.conf, beside what every private server has.
    ///
    /// # Errors
    /// PostgreSQL is not installed or does not start.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let (bin, owner) = (find_postgres()?, Owner::unprivileged()?);
        let folder = owner.folder()?;
        let mut initdb = owner.command(&bin.join("initdb"), folder.path());
        initdb.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--username=postgres",
            "-D",
            "data",
        ]);
        let made = initdb.output().map_err(|e| {
            ServerError(format!(
                "cannot run {} as {}: {e}",
                bin.join("initdb").display(),
                owner.0.as_ref().map_or("ourselves", |u| &u.name)
            ))
        })?;
        if !made.status.success() {
            return Err(ServerError(format!("initdb failed\n{}", String::from_utf8_lossy(&made.stderr))));
        }
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut server = Self { process: None, bin, owner, port: free_port()?, settings, folder };
        for _ in 0..PORT_TRIES {
            match server.up() {
                Err(e) if e.0.contains("Address already in use") => server.port = free_port()?,
                result => return result.map(|()| server),
            }
        }
        Err(ServerError("somebody takes every port before PostgreSQL can".into()))
    }

    /// Starts it (again) on its port.
    ///
    /// # Errors
    /// It ends, or does not say that it is ready.
    pub fn up(&mut self) -> Result<(), ServerError> {
        let mut command = self.owner.command(&self.bin.join("postgres"), self.folder.path());
        command.args(["-D", "data", "-p", &self.port.to_string(), "-k", "."]);
        let quick = [
            ("listen_addresses", "127.0.0.1"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "300"),
            ("shared_buffers", "32MB"),
            ("max_wal_size", "256MB"),
            ("autovacuum_naptime", "10min"),
            ("lc_messages", "C"),
            ("logging_collector", "off"),
        ];
        let own = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for (name, value) in quick.into_iter().chain(own) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // SIGQUIT ends it at once, like a crash, and removes its shared memory, unlike SIGKILL.
        let process = Process::spawn("PostgreSQL", command, Signal::SIGQUIT, Some(self.folder.path()))?;
        // A standby says "read-only connections" there.
        self.process = Some(ready(process, "database system is ready to accept")?);
        Ok(())
    }

    /// A copy of this cluster, which must be down: the same identity on another port, with `settings` beside its own.
    /// It is down as well.
    ///
    /// # Errors
    /// The folder cannot be copied.
    pub fn copy(&self, settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let folder = self.owner.folder()?;
        let copied = Command::new("cp").arg("-a").arg(self.folder.path().join("data")).arg(folder.path()).output()?;
        if self.process.is_some() || !copied.status.success() {
            return Err(ServerError(format!("cannot copy a cluster: {}", String::from_utf8_lossy(&copied.stderr))));
        }
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let (bin, owner) = (self.bin.clone(), self.owner.clone());
        Ok(Self { process: None, bin, owner, port: free_port()?, settings: all, folder })
    }

    /// Makes an empty file in the data folder, like `standby.signal`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn touch(&self, name: &str) -> Result<(), ServerError> {
        let path = self.folder.path().join("data").join(name);
        std::fs::write(&path, "")?;
        if let Some(user) = &self.owner.0 {
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// Sets something for the next [`Postgres::up`].
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Ends it; [`Postgres::up`] brings it back with its data.
    pub fn down(&mut self, how: Down) {
        if let Some(mut process) = self.process.take() {
            process.stop(if how == Down::Clean { Signal::SIGINT } else { Signal::SIGQUIT });
        }
    }

    /// Connection URL for a database, as the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map(|p| p.log().tail(40)).unwrap_or_default()
    }
}

/// A private Redis (or Valkey) server.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: first the server, then its folder.
    process: Option<Process>,
    program: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl Redis {
    /// Starts a server that never saves by itself. `settings` are those of redis.conf.
    ///
    /// # Errors
    /// Redis is not installed or does not start.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let folder = tempfile::Builder::new().prefix("pgevict-").tempdir()?;
        let mut server = Self { process: None, program: find_redis()?, port: free_port()?, settings, folder };
        for _ in 0..PORT_TRIES {
            match server.up() {
                Err(e) if e.0.contains("Address already in use") => server.port = free_port()?,
                result => return result.map(|()| server),
            }
        }
        Err(ServerError("somebody takes every port before Redis can".into()))
    }

    /// Starts it (again) on its port, from its last dump if there is one.
    ///
    /// # Errors
    /// It ends, or does not say that it is ready.
    pub fn up(&mut self) -> Result<(), ServerError> {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--daemonize", "no", "--logfile", "", "--dir", "."]);
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let process = Process::spawn("Redis", command, Signal::SIGKILL, Some(self.folder.path()))?;
        self.process = Some(ready(process, "eady to accept connections")?);
        Ok(())
    }

    /// Kills it: what the last dump does not hold is lost. [`Redis::up`] brings it back.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGKILL);
        }
    }

    /// Where it keeps its dump and its log of commands.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal, for example SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Connection URL for a database number.
    #[must_use]
    pub fn url(&self, db: u8) -> String {
        format!("redis://127.0.0.1:{}/{db}", self.port)
    }
}

fn ready(process: Process, line: &str) -> Result<Process, ServerError> {
    match process.log().wait_for(0, STARTUP, |l| l.contains(line)) {
        Ok(_) => Ok(process),
        Err(why) => {
            let why = match why {
                NoLine::Ended => "ended before it was ready".to_owned(),
                NoLine::Late => format!("was not ready after {} s", STARTUP.as_secs()),
            };
            Err(ServerError(format!("{} {why}\n{}", process.name(), process.log().tail(30))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn servers_start_restart_and_leave_nothing_behind() {
        let mut postgres = Postgres::start(&[]).unwrap();
        let mut redis = Redis::start(&[]).unwrap();
        let folders = [postgres.folder.path().to_owned(), redis.folder.path().to_owned()];
        let pids = [postgres.process.as_ref().unwrap().pid(), redis.process.as_ref().unwrap().pid()];
        let ports = [postgres.port, redis.port];
        for how in [Down::Clean, Down::Crash] {
            postgres.down(how);
            postgres.up().unwrap();
        }
        redis.kill();
        redis.up().unwrap();
        for port in ports {
            TcpStream::connect(("127.0.0.1", port)).unwrap();
        }
        drop((postgres, redis));
        for port in ports {
            TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        }
        for folder in folders {
            assert!(!folder.exists());
        }
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    }

    #[test]
    fn no_port_is_given_twice() {
        // Of twenty thousand there are: about a hundred would come again.
        let ports: BTreeSet<u16> = (0..2_000).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 2_000);
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let error = Postgres::start(&[("shared_buffers", "nonsense")]).unwrap_err().to_string();
        assert!(error.contains("ended before it was ready") && error.contains("shared_buffers"), "{error}");
    }
}
