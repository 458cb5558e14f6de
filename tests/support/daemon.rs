//! `pgevict` itself, as a process: the daemon, and commands that end.

use super::PATIENCE;
use nix::sys::signal::Signal;
use pgevict::cli::demo::process::{Log, NoLine, Process, Stream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The binary under test with a clean environment: what the developer has set must not reach it.
pub(crate) fn pgevict(args: &[&str], env: &[(String, String)]) -> Command {
    // Another build of the same: `BINARY=target/release/pgevict` for figures that an unoptimised one cannot reach.
    let built = std::env::var_os("BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_pgevict").into());
    let mut command = Command::new(built);
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("NO_COLOR", "1");
    if cfg!(feature = "planted") {
        // The bug on purpose that this test must catch (tests/storm/mutants.rs).
        command.envs(std::env::var("PLANTED").map(|bug| ("PLANTED", bug)));
    }
    command.envs(env.iter().map(|(k, v)| (k, v)));
    command
}

/// What a command that ended has said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(args: &[&str], env: &[(String, String)]) -> Self {
        Self::within(PATIENCE, args, env)
    }

    /// The same for one that has more to do.
    pub(crate) fn within(patience: Duration, args: &[&str], env: &[(String, String)]) -> Self {
        let mut process = Process::spawn("pgevict", pgevict(args, env), Signal::SIGKILL, None).unwrap();
        let status = process.wait(patience);
        let join = |stream| process.log().of(stream).join("\n");
        let ran = Self { code: status.and_then(|s| s.code()), out: join(Stream::Out), err: join(Stream::Err) };
        assert!(status.is_some(), "pgevict {args:?} did not end within {patience:?}: {ran:?}");
        ran
    }

    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not json: {e}\n{}\n{}", self.out, self.err))
    }
}

/// A running daemon, or another command that goes on until it is dropped.
pub(crate) struct Daemon(Process);

impl Daemon {
    pub(crate) fn spawn(args: &[&str], env: &[(String, String)]) -> Self {
        Self(Process::spawn("pgevict run", pgevict(args, env), Signal::SIGKILL, None).unwrap())
    }

    /// A line that holds all of `parts`, if it comes in time.
    pub(crate) fn line_within(&self, patience: Duration, parts: &[&str]) -> Option<String> {
        self.log().wait_for(0, patience, |line| parts.iter().all(|p| line.contains(p))).ok().map(|(_, line)| line)
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        self.0.log()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    /// Waits for a log line from `mark` on that holds all of `parts`.
    #[track_caller]
    pub(crate) fn wait_line(&self, mark: usize, parts: &[&str]) -> String {
        match self.log().wait_for(mark, PATIENCE, |line| parts.iter().all(|p| line.contains(p))) {
            Ok((_, line)) => line,
            Err(why) => {
                let why = if why == NoLine::Ended { "the daemon ended" } else { "time was up" };
                panic!("no log line with {parts:?}: {why}\n{}", self.log().tail(60))
            }
        }
    }

    /// Waits for its end and says with which code; None when a signal ended it.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let status = self.0.wait(PATIENCE);
        status.unwrap_or_else(|| panic!("the daemon did not end\n{}", self.log().tail(60))).code()
    }

    /// Whether it has ended already.
    pub(crate) fn ended(&mut self) -> bool {
        self.0.wait(Duration::ZERO).is_some()
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub(crate) fn kill9(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }
}
