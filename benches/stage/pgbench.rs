//! pgbench, which comes with PostgreSQL.

use pgevict::cli::demo::servers::{Postgres, find_postgres};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) struct Pgbench {
    program: PathBuf,
    folder: TempDir,
    clients: u32,
}

pub(crate) struct Running(Child);

impl Pgbench {
    /// `script` in pgbench's language.
    pub(crate) fn new(script: &str) -> Self {
        let beside = find_postgres().map(|bin| bin.join("pgbench")).unwrap_or_default();
        let program = if beside.is_file() { beside } else { "pgbench".into() };
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("script.sql"), script).expect("a file");
        Self { program, folder, clients: 32 }
    }

    /// Instead of 32.
    pub(crate) fn clients(mut self, clients: u32) -> Self {
        self.clients = clients;
        self
    }

    /// Prepared statements, for so many seconds; `rate` in transactions a second, None: as fast as it goes.
    pub(crate) fn start(&self, server: &Postgres, database: &str, seconds: u64, rate: Option<f64>) -> Running {
        let mut command = Command::new(&self.program);
        let (clients, threads) = (self.clients.to_string(), self.clients.min(2).to_string());
        command.args(["-n", "-M", "prepared", "-f", "script.sql", "-c", &clients, "-j", &threads]);
        command.args(["-T", &seconds.to_string()]).current_dir(self.folder.path());
        if let Some(rate) = rate {
            command.args(["-R", &format!("{rate:.0}")]);
        }
        command.arg(server.url(database)).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display())))
    }

    /// The same to its end; transactions a second.
    pub(crate) fn run(&self, server: &Postgres, database: &str, seconds: u64) -> f64 {
        self.start(server, database, seconds, None).wait()
    }
}

impl Running {
    /// Waits for its end; transactions a second.
    pub(crate) fn wait(self) -> f64 {
        let out = self.0.wait_with_output().expect("pgbench runs");
        let text = String::from_utf8_lossy(&out.stdout);
        let tps = text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("pgbench: {text}\n{}", String::from_utf8_lossy(&out.stderr)))
    }
}
