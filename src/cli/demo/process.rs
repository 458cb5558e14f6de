//! A child process as a value: its output is kept, its end is waited for, and it never outlives us.
//!
//! Three things end a child: [`Process::stop`], dropping the value, and the death of this process in any way, kill -9
//! included. The last is done by a small shell that holds the other end of a pipe of ours: when the pipe closes
//! without the word "done", it ends the child and removes its folder. (`PR_SET_PDEATHSIG` would need unsafe code, and
//! it fires when the *thread* ends that spawned the child.)

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of output that are kept; older ones are forgotten. A storm writes some thousands a minute.
const KEPT_LINES: usize = 50_000;

/// How long a child may take to end after it was asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    end_with: Signal,
    log: Arc<Log>,
    reaper: Option<Child>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command with its output captured, in a process group of its own so that Ctrl-C reaches only us.
    /// `end_with` is the signal that ends it quickly and cleanly; `folder` is removed if we die before it does.
    ///
    /// # Errors
    /// The program or the watching shell cannot be started.
    pub fn spawn(name: &str, mut command: Command, end_with: Signal, folder: Option<&Path>) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("cannot start {}: {e}", command.get_program().to_string_lossy()))
        })?;
        let log = Arc::new(Log::default());
        lock(&log.state).open = 2;
        if let Some(out) = child.stdout.take() {
            keep(out, Arc::clone(&log), Stream::Out);
        }
        if let Some(err) = child.stderr.take() {
            keep(err, Arc::clone(&log), Stream::Err);
        }
        let reaper = match reaper(child.id(), end_with, folder) {
            Ok(reaper) => reaper,
            Err(e) => {
                // Without its watcher it could outlive us.
                let _ = child.kill();
                let _ = child.wait();
                return Err(e);
            }
        };
        Ok(Self { name: name.to_owned(), child, end_with, log, reaper: Some(reaper), status: None })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Sends a signal; nothing happens when it has ended already.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            // A pid that is not waited for yet cannot belong to anybody else.
            let _ = kill(pid_of(&self.child), signal);
        }
    }

    /// Waits for its end; None when it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            // Its end closes its output: that is the signal. Only then is it collected.
            if !self.log.wait_end(patience) {
                return None;
            }
            self.status = self.child.wait().ok();
        }
        self.status
    }

    /// Asks it to end with `signal`, kills it when it does not, and collects it.
    pub fn stop(&mut self, signal: Signal) -> Option<ExitStatus> {
        self.signal(signal);
        if self.wait(PATIENCE).is_none() {
            self.signal(Signal::SIGKILL);
            // A grandchild may hold the output open; the child itself is what we collect.
            self.status = self.child.wait().ok();
        }
        if let Some(mut reaper) = self.reaper.take() {
            if let Some(pipe) = &mut reaper.stdin {
                let _ = pipe.write_all(b"done\n");
            }
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(self.end_with);
    }
}

fn pid_of(child: &Child) -> Pid {
    // Linux pids fit: pid_max is at most 2^22.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

fn reaper(pid: u32, end_with: Signal, folder: Option<&Path>) -> io::Result<Child> {
    const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r word
[ "$word" = done ] && exit 0
kill -s "$2" "$1" 2>/dev/null
left=50
while [ "$left" -gt 0 ] && kill -0 "$1" 2>/dev/null; do sleep 0.1; left=$((left - 1)); done
kill -s KILL "$1" 2>/dev/null
[ -n "$3" ] && rm -rf -- "$3"
"#;
    let signal = end_with.as_str().trim_start_matches("SIG");
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "reaper", &pid.to_string(), signal])
        .arg(folder.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// The two streams of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// stdout
    Out,
    /// stderr
    Err,
}

/// What a child printed, line by line, with a way to wait for a line.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<(Stream, String)>,
    forgotten: usize,
    open: u8,
}

/// Why a line did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLine {
    /// The child has ended.
    Ended,
    /// Time was up.
    Late,
}

impl Log {
    /// Number of lines so far: a place to wait from.
    #[must_use]
    pub fn mark(&self) -> usize {
        let state = lock(&self.state);
        state.forgotten + state.lines.len()
    }

    /// The lines from `mark` on, as far as they are still kept.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<String> {
        let state = lock(&self.state);
        state.lines.iter().skip(mark.saturating_sub(state.forgotten)).map(|(_, l)| l.clone()).collect()
    }

    /// The lines of one stream.
    #[must_use]
    pub fn of(&self, stream: Stream) -> Vec<String> {
        lock(&self.state).lines.iter().filter(|(s, _)| *s == stream).map(|(_, l)| l.clone()).collect()
    }

    /// Whether the child has closed both streams: it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.state).open == 0
    }

    /// The last lines, for an error message.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let state = lock(&self.state);
        let from = state.lines.len().saturating_sub(lines);
        state.lines.iter().skip(from).map(|(_, l)| format!("    {l}\n")).collect()
    }

    /// Waits for a line from `mark` on that `wanted` accepts, and returns it with the mark behind it.
    ///
    /// # Errors
    /// The child ended or `patience` was over before such a line came.
    pub fn wait_for(
        &self,
        mark: usize,
        patience: Duration,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<(usize, String), NoLine> {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        let mut next = mark;
        loop {
            next = next.max(state.forgotten);
            while let Some((_, line)) = state.lines.get(next - state.forgotten) {
                next += 1;
                if wanted(line) {
                    return Ok((next, line.clone()));
                }
            }
            if state.open == 0 {
                return Err(NoLine::Ended);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Err(NoLine::Late) };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until both streams are closed.
    fn wait_end(&self, patience: Duration) -> bool {
        let state = lock(&self.state);
        let (state, _) =
            self.changed.wait_timeout_while(state, patience, |s| s.open > 0).unwrap_or_else(PoisonError::into_inner);
        state.open == 0
    }
}

fn keep(stream: impl Read + Send + 'static, log: Arc<Log>, which: Stream) {
    // Ends with the stream; a child whose output nobody reads would stand still.
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            let mut state = lock(&log.state);
            if state.lines.len() == KEPT_LINES {
                state.lines.pop_front();
                state.forgotten += 1;
            }
            state.lines.push_back((which, text));
            drop(state);
            log.changed.notify_all();
            line.clear();
        }
        lock(&log.state).open -= 1;
        log.changed.notify_all();
    });
}

/// A reader that panicked has left whole lines behind: the log stays usable.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::spawn("sh", command, Signal::SIGTERM, None).unwrap()
    }

    #[test]
    fn a_line_is_waited_for_and_an_end_is_told_apart_from_a_delay() {
        let mut p = sh("echo one; echo two >&2; exec sleep 60");
        assert_eq!(p.log().wait_for(0, PATIENCE, |l| l == "two").unwrap().1, "two");
        assert_eq!(p.log().wait_for(0, Duration::from_millis(1), |l| l == "three"), Err(NoLine::Late));
        assert!(p.wait(Duration::from_millis(1)).is_none());
        p.stop(Signal::SIGTERM);
        assert_eq!(p.log().wait_for(0, PATIENCE, |l| l == "three"), Err(NoLine::Ended));
        assert_eq!(p.log().of(Stream::Err), ["two"]);
    }

    #[test]
    fn an_exit_status_is_kept() {
        let mut p = sh("exit 3");
        assert_eq!(p.wait(PATIENCE).unwrap().code(), Some(3));
        assert_eq!(p.wait(PATIENCE).unwrap().code(), Some(3));
    }

    #[test]
    fn a_child_ends_and_its_folder_goes_when_we_die_without_dropping_it() {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut p = {
            let mut command = Command::new("/bin/sleep");
            command.arg("60");
            Process::spawn("sleep", command, Signal::SIGTERM, Some(&folder)).unwrap()
        };
        // What our death does: the pipe closes and the word was not said.
        let mut reaper = p.reaper.take().unwrap();
        drop(reaper.stdin.take());
        assert!(p.wait(PATIENCE).is_some());
        reaper.wait().unwrap();
        assert!(!folder.exists());
    }
}
