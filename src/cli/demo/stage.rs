//! Where the demo plays: servers, a database, a key prefix, the daemon. [`Stage::close`] leaves nothing of it behind.

use super::process::Process;
use super::screen::Screen;
use super::servers::{Postgres, Redis, ServerError};
use super::shop::{ROWS, SCHEMA, Shop};
use super::{Args, Failure};
use crate::cli::client;
use crate::config::model::Config;
use crate::config::{self, Environment};
use crate::{sink, source};
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the daemon may take until it is ready.
const READY: Duration = Duration::from_secs(30);

/// The reference recipe.
const RECIPE: &str = include_str!("../../../config.toml");

/// Everything that the show needs.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped in this order: the daemon, the servers, the folder.
    daemon: Option<Process>,
    own_postgres: Option<Postgres>,
    own_redis: Option<Redis>,
    folder: TempDir,
    config: Config,
    environment: Vec<(String, String)>,
    /// In front of every key; empty on a private Redis.
    pub(super) prefix: String,
    /// The database on a given server, and the connection that drops it.
    given_database: Option<(String, source::connect::Connected)>,
}

impl Stage {
    /// Starts or takes servers, makes the tables, installs the triggers, starts the daemon.
    pub(super) async fn open(args: &Args, screen: &Screen) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("pgevict-demo-").tempdir();
        let folder = folder.map_err(|e| Failure::Broken(format!("no temporary folder: {e}")))?;
        let id = format!("{:08x}", rand::random::<u32>());

        let (want_postgres, want_redis) = (args.postgres.is_none(), args.redis.is_none());
        let servers = tokio::task::spawn_blocking(move || {
            let postgres = want_postgres.then(|| Postgres::start(&[])).transpose()?;
            let redis = want_redis.then(|| Redis::start(&[])).transpose()?;
            Ok::<_, ServerError>((postgres, redis))
        });
        let (own_postgres, own_redis) = servers
            .await
            .map_err(|e| Failure::Broken(e.to_string()))?
            .map_err(|e| Failure::Unreachable(e.to_string()))?;

        let prefix = if own_redis.is_some() { String::new() } else { format!("pgevict-demo-{id}:") };
        let database = format!("pgevict_demo_{id}");
        let postgres_url = match (&own_postgres, &args.postgres) {
            (Some(own), _) => own.url("postgres"),
            (None, given) => in_database(given.as_deref().unwrap_or_default(), &database)?,
        };
        let redis_url = match (&own_redis, &args.redis) {
            (Some(own), _) => own.url(0),
            (None, given) => given.clone().unwrap_or_default(),
        };
        let environment: Vec<(String, String)> = [
            ("PGEVICT_POSTGRES__URL", postgres_url),
            ("PGEVICT_REDIS__URL", redis_url),
            (
                "PGEVICT_REDIS__STATE",
                if prefix.is_empty() { "{pgevict}".into() } else { format!("{{pgevict-demo-{id}}}") },
            ),
            ("PGEVICT_ADMIN__SOCKET", folder.path().join("admin.sock").display().to_string()),
            ("PGEVICT_ADMIN__LISTEN", "127.0.0.1:0".into()),
            ("PGEVICT_LOG__FORMAT", "json".into()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .to_vec();

        let text = recipe(&prefix);
        let path = folder.path().join("config.toml");
        std::fs::write(&path, &text).map_err(|e| Failure::Broken(format!("cannot write {}: {e}", path.display())))?;
        let surroundings = std::env::vars().filter(|(k, _)| !k.starts_with("PGEVICT_")).chain(environment.clone());
        let (config, _) = config::parse(&text, "the demo's configuration", &Environment::of(surroundings))
            .map_err(|report| Failure::Usage(report.to_text(false)))?;

        let mut stage =
            Self { daemon: None, own_postgres, own_redis, folder, config, environment, prefix, given_database: None };
        if let Some(url) = args.postgres.as_deref() {
            stage.make_database(url, database).await?;
        }
        // From here on something stands on a server that is not ours: a failure cleans up, too.
        if let Err(failure) = stage.furnish(screen).await {
            let _ = stage.close().await;
            return Err(failure);
        }
        Ok(stage)
    }

    async fn furnish(&mut self, screen: &Screen) -> Result<(), Failure> {
        let mut shop = self.shop().await?;
        shop.sql(SCHEMA).await?;
        shop.sql(ROWS).await?;
        let postgres = version(&shop).await;
        let redis = sink::connect::version(&mut shop.redis).await;
        screen.line(&format!(
            "pgevict {}: the dashboard of a call service, with PostgreSQL {postgres} and Redis {redis}{}",
            env!("CARGO_PKG_VERSION"),
            if self.own_postgres.is_some() && self.own_redis.is_some() { " of its own" } else { "" }
        ));
        self.pgevict(&["sql", "apply", "--yes"]).await?;
        // Nothing is cached yet under this prefix, so everything that is cached is fresh.
        self.start_daemon(&["run", "--adopt"]).await
    }

    /// Everything is dropped at the end with the database, so nothing can be left in anybody's schema.
    async fn make_database(&mut self, url: &str, name: String) -> Result<(), Failure> {
        let variables = std::env::vars().filter(|(k, _)| !k.starts_with("PGEVICT_"));
        let given = [("PGEVICT_POSTGRES__URL".to_owned(), url.to_owned())];
        let (config, _) = config::parse(RECIPE, "--postgres", &Environment::of(variables.chain(given)))
            .map_err(|report| Failure::Usage(report.to_text(false)))?;
        let admin = source::connect::connect_patiently(&config.postgres.url)
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))?;
        admin.client.batch_execute(&format!("CREATE DATABASE {name}")).await.map_err(|e| {
            Failure::Refused(format!(
                "the demo needs a database that it can drop again, and may not create one: {}\n  \
                 help: give a role with CREATEDB, or leave --postgres out for a private server",
                source::connect::describe(&e)
            ))
        })?;
        self.given_database = Some((name, admin));
        Ok(())
    }

    /// A connection pair of the application.
    pub(super) async fn shop(&self) -> Result<Shop, Failure> {
        let postgres = source::connect::connect_patiently(&self.config.postgres.url)
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))?;
        let redis =
            sink::connect::connect(&self.config.redis).await.map_err(|e| Failure::Unreachable(e.to_string()))?;
        Ok(Shop { postgres, redis, prefix: self.prefix.clone() })
    }

    /// A command of this very binary that ends.
    async fn pgevict(&self, args: &[&str]) -> Result<(), Failure> {
        let command = self.command(args)?;
        let mut process =
            Process::spawn("pgevict", command, Signal::SIGKILL, None).map_err(|e| Failure::Broken(e.to_string()))?;
        let what = format!("pgevict {}", args.join(" "));
        let ended = tokio::task::spawn_blocking(move || {
            let status = process.wait(READY);
            (status.is_some_and(|s| s.success()), process.log().tail(40))
        });
        match ended.await {
            Ok((true, _)) => Ok(()),
            Ok((false, log)) => Err(Failure::Broken(format!("{what} failed:\n{log}"))),
            Err(e) => Err(Failure::Broken(e.to_string())),
        }
    }

    fn command(&self, args: &[&str]) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::Broken(format!("where is pgevict? {e}")))?;
        let mut command = Command::new(program);
        command.args(args).arg("-c").arg(self.folder.path().join("config.toml"));
        // The user's own settings of pgevict are for the user's own daemon; so is the service manager's socket.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PGEVICT_") {
                command.env_remove(&name);
            }
        }
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("CREDENTIALS_DIRECTORY");
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        Ok(command)
    }

    /// Starts the daemon and waits until it is ready.
    pub(super) async fn start_daemon(&mut self, args: &[&str]) -> Result<(), Failure> {
        let daemon = Process::spawn("pgevict run", self.command(args)?, Signal::SIGTERM, Some(self.folder.path()))
            .map_err(|e| Failure::Broken(e.to_string()))?;
        let log = std::sync::Arc::clone(daemon.log());
        self.daemon = Some(daemon);
        let deadline = Instant::now() + READY;
        loop {
            // Asking is the only signal that says all of it: both servers, the triggers, the flush of the first start.
            if matches!(client::get(&self.socket(), "/readyz").await, Ok((200, _))) {
                return Ok(());
            }
            if log.is_closed() || Instant::now() > deadline {
                return Err(Failure::Broken(format!("the daemon is not ready; its log ends with\n{}", log.tail(20))));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// kill -9, as the kernel does it to a process that uses too much memory.
    pub(super) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop(Signal::SIGKILL);
        }
    }

    /// The admin socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.config.admin.socket.clone()
    }

    /// Ends the daemon and removes what stands on servers that are not ours.
    pub(super) async fn close(&mut self) -> Result<(), Failure> {
        if let Some(daemon) = self.daemon.take() {
            // Waits for the daemon's end; nobody else needs this thread's time meanwhile.
            let _ = tokio::task::spawn_blocking(move || drop(daemon)).await;
        }
        let mut left = Vec::new();
        if !self.prefix.is_empty()
            && let Err(e) = self.remove_keys().await
        {
            left.push(format!("keys that begin with {} ({e})", self.prefix));
        }
        if let Some((name, admin)) = self.given_database.take()
            && let Err(e) = admin.client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
        {
            left.push(format!("the database {name} ({})", source::connect::describe(&e)));
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(Failure::Refused(format!("could not be removed, please do: {}", left.join(", "))))
        }
    }

    async fn remove_keys(&self) -> Result<(), String> {
        let mut redis = sink::connect::connect(&self.config.redis).await.map_err(|e| e.to_string())?;
        let words = |e: redis::RedisError| sink::connect::describe(&e);
        for start in [self.prefix.as_str(), self.config.redis.state.as_str()] {
            for key in all_keys(&mut redis, start).await.map_err(words)? {
                redis::cmd("UNLINK").arg(key).exec_async(&mut redis).await.map_err(words)?;
            }
        }
        Ok(())
    }
}

/// Every key that begins with `start`, which holds no glob character but braces.
pub(super) async fn all_keys(redis: &mut MultiplexedConnection, start: &str) -> redis::RedisResult<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let (next, page): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{start}*"))
            .arg("COUNT")
            .arg(1000)
            .query_async(redis)
            .await?;
        keys.extend(page);
        cursor = next;
        if cursor == 0 {
            keys.sort();
            keys.dedup();
            return Ok(keys);
        }
    }
}

async fn version(shop: &Shop) -> String {
    let row = shop.postgres.client.query_one("SELECT split_part(current_setting('server_version'), ' ', 1)", &[]).await;
    row.map(|r| r.get(0)).unwrap_or_default()
}

/// The reference recipe with a second delete on every cache: the application stores blindly, so a value that was read
/// just before a commit may be stored just after its delete.
fn recipe(prefix: &str) -> String {
    let mut text = String::new();
    for line in RECIPE.lines().filter(|l| !l.starts_with("repeat_after")) {
        text.push_str(line);
        text.push('\n');
        if line.starts_with("ttl = ") {
            text.push_str("repeat_after = \"500ms\"\n");
        }
    }
    if !prefix.is_empty() {
        text.push_str(&format!("\n[namespace]\nprefix = \"{prefix}\"\n"));
    }
    text
}

/// The URL with another database.
fn in_database(url: &str, database: &str) -> Result<String, Failure> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Failure::Usage(format!(
            "--postgres wants a URL like postgresql://user@host/database, not {url:?}"
        )));
    };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(b, q)| (b, Some(q)));
    let authority = before.split_once('/').map_or(before, |(a, _)| a);
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{database}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_everything_but_its_database() {
        let check = |url: &str, expected: &str| assert_eq!(in_database(url, "d").unwrap(), expected);
        check("postgresql://h", "postgresql://h/d");
        check("postgres://u:p@h:1/x", "postgres://u:p@h:1/d");
        check("postgres://u@h1:1,h2:2/x?sslmode=require&a=b/c", "postgres://u@h1:1,h2:2/d?sslmode=require&a=b/c");
        check("postgresql:///x?host=/run", "postgresql:///d?host=/run");
        assert!(in_database("host=h dbname=x", "d").is_err());
    }

    #[test]
    fn the_recipe_of_the_demo_is_valid_and_every_cache_is_deleted_twice() {
        for prefix in ["", "pgevict-demo-1:"] {
            let (config, _) = config::parse(&recipe(prefix), "demo", &Environment::empty()).unwrap();
            assert!(config.caches.iter().all(|c| c.repeat_after == Some(Duration::from_millis(500))));
            assert_eq!(config.namespace.prefix, prefix);
        }
    }
}
