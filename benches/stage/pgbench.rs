//! pgbench, which comes with PostgreSQL.

use super::{Db, process};
use pgevict::cli::demo::servers::{Postgres, find_postgres};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
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
        self.spawn(server, database, &["-T", &seconds.to_string()], rate)
    }

    fn spawn(&self, server: &Postgres, database: &str, length: &[&str; 2], rate: Option<f64>) -> Running {
        let mut command = Command::new(&self.program);
        let (clients, threads) = (self.clients.to_string(), self.clients.min(2).to_string());
        command.args(["-n", "-M", "prepared", "-f", "script.sql", "-c", &clients, "-j", &threads]);
        command.args(length).current_dir(self.folder.path());
        if let Some(rate) = rate {
            command.args(["-R", &format!("{rate:.0}")]);
        }
        command.arg(server.url(database)).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display())))
    }

    /// The same to its end; transactions a second, and the processor time of its sessions in microseconds each. Unlike the
    /// rate that does not depend on who else is on the cores. What sessions cost before their second transaction is left out.
    pub(crate) fn cost(&self, server: &Postgres, db: &Db, database: &str, seconds: u64) -> (f64, f64) {
        let postmaster = process::parent(db.pid());
        let spent = |length: [&str; 2]| {
            let before = process::cpu_of_the_dead(postmaster);
            let rate = self.spawn(server, database, &length, None).wait();
            // What a session has cost is known when the server has buried it, which is after pgbench has gone.
            while db.number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") > 0.0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            (rate, (process::cpu_of_the_dead(postmaster) - before).as_secs_f64())
        };
        let (_, first) = spent(["-t", "1"]);
        let (rate, all) = spent(["-T", &seconds.to_string()]);
        (rate, (all - first) * 1e6 / (rate * seconds as f64))
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
        // On a machine that is busy enough a second may be too short for a single commit.
        tps.or(text.contains("actually processed: 0").then_some(0.0))
            .unwrap_or_else(|| panic!("pgbench: {text}\n{}", String::from_utf8_lossy(&out.stderr)))
    }
}
