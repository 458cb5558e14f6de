//! What a service manager hears of `pgevict run`: a socket stands for systemd, which need not run here.

use crate::support::{PATIENCE, Setup, World, pgevict};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgevict::cli::demo::servers::Down;
use pgevict::observe::observer::BEAT_LIMIT;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `WatchdogSec` of these tests: several times a moment in which a loaded machine gives nobody a core.
const WATCHDOG: Duration = Duration::from_secs(8);

const SCHEMA: &str = "CREATE TABLE users (id int PRIMARY KEY)";
const CONFIG: &str = "[cache.user]\nkey = \"user:{id}\"\n[table.users]\nevict = [\"user\"]";

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgevict-").tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { socket, folder }
    }

    fn env(&self) -> [(&'static str, String); 2] {
        let path = self.folder.path().join("notify");
        [("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())]
    }

    /// The next message, if one comes in time.
    fn next(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 8192];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..n].to_vec()).unwrap().trim_end().to_owned())
    }

    /// Waits for a message that begins so. Until then the watchdog must be fed: returns what else was heard.
    #[track_caller]
    fn wait_fed(&self, start: &str) -> (String, Vec<String>) {
        let (began, mut fed, mut heard) = (Instant::now(), Instant::now(), Vec::new());
        while began.elapsed() < PATIENCE {
            let message = self.next(WATCHDOG).unwrap_or_else(|| panic!("nothing for {WATCHDOG:?}; heard: {heard:?}"));
            assert!(fed.elapsed() < WATCHDOG, "the watchdog would have struck; heard: {heard:?}");
            if message.starts_with(start) {
                return (message, heard);
            }
            if message == "WATCHDOG=1" {
                fed = Instant::now();
            }
            heard.push(message);
        }
        panic!("no {start}; heard: {heard:?}");
    }

    /// Listens for a while; the longest time between two feedings, and how many there were.
    fn longest_gap(&self, while_: Duration) -> (Duration, u32) {
        let (began, mut fed, mut longest, mut count) = (Instant::now(), None, Duration::ZERO, 0);
        while began.elapsed() < while_ {
            if self.next(WATCHDOG).as_deref() == Some("WATCHDOG=1") {
                longest = longest.max(fed.map_or(Duration::ZERO, |at: Instant| at.elapsed()));
                (fed, count) = (Some(Instant::now()), count + 1);
            }
        }
        (longest, count)
    }
}

fn world(manager: &Manager) -> World {
    let mut w = World::new(&Setup { config: CONFIG, schema: SCHEMA, own_postgres: Some(&[]), ..Setup::default() });
    w.apply();
    for (name, value) in manager.env() {
        w.set_env(name, &value);
    }
    w
}

#[test]
fn boot_order_does_not_matter_and_status_says_what_is_waited_for() {
    let manager = Manager::new();
    let w = world(&manager);
    w.redis.borrow_mut().kill();
    w.pg.server().down(Down::Clean);
    w.start_unready(&[]);
    let (_, before) = manager.wait_fed("READY=1");
    assert!(!before.iter().any(|m| m.starts_with("STATUS=ready")), "{before:?}");
    let (status, _) = manager.wait_fed("STATUS=not ready: Redis down: cannot use Redis at");
    assert!(status.contains("is the server running there?"), "{status}");
    // The loop turns, so the watchdog is content, however long the servers are away.
    let (gap, fed) = manager.longest_gap(WATCHDOG);
    assert!(fed >= 3 && gap < WATCHDOG / 2, "{fed} times, longest gap {gap:?}");
    w.redis.borrow_mut().up().unwrap();
    manager.wait_fed("STATUS=not ready: PostgreSQL down: cannot use PostgreSQL at");
    w.pg.server().up().unwrap();
    manager.wait_fed("STATUS=ready");
    w.stop();
    manager.wait_fed("STOPPING=1\nSTATUS=stopping: ");
}

#[test]
fn a_reload_is_announced_and_ended_also_when_the_file_is_refused() {
    let manager = Manager::new();
    let w = world(&manager);
    w.start_unready(&[]);
    manager.wait_fed("READY=1");
    manager.wait_fed("STATUS=ready");
    for file in [CONFIG, "[cache.user]\nkey = \"user:{id\""] {
        w.write_config(file);
        w.daemon(|d| d.signal(Signal::SIGHUP));
        let (reloading, _) = manager.wait_fed("RELOADING=1");
        let since_boot = reloading.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC=")).map(str::parse::<u64>);
        assert!(matches!(since_boot, Some(Ok(1..))), "Type=notify-reload wants the time: {reloading}");
        manager.wait_fed("READY=1");
    }
    w.stop();
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The loop writes its log lines itself, so a log that nobody reads holds it up for good: a real hang, with every
/// other thread alive.
#[test]
fn a_loop_that_hangs_holds_up_neither_a_question_nor_the_second_signal() {
    let manager = Manager::new();
    let w = world(&manager);
    let (mut daemon, reader) = unread(&w);
    manager.wait_fed("STATUS=ready");
    hang(&w);
    let pid = Pid::from_raw(i32::try_from(daemon.0.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    // Said by the thread that feeds the watchdog, which feeds it on: the loop counts as alive for a while.
    manager.wait_fed("STOPPING=1");
    manager.wait_fed("WATCHDOG=1");
    manager.wait_fed("WATCHDOG=1");
    assert!(daemon.0.try_wait().unwrap().is_none(), "the loop does not hang: it has drained");
    w.pgevict(&["status"]).exits(0);
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
    drop(reader);
}

/// A daemon whose log nobody reads.
fn unread(w: &World) -> (Killed, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    // A page is the smallest pipe there is: some twenty lines fill it.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let config = w.config_path();
    let mut command = pgevict(&["run", "-c", config.to_str().unwrap()], &w.env);
    let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    (Killed(daemon), reader)
}

/// Makes its loop write more than fits: a line a statement, all at once, since it counts as alive only for a while from then on.
/// Deletes come before their lines, so it is about to write them when the last key is gone; a stop before that would read nothing.
fn hang(w: &World) {
    w.fill(&["user:99"]);
    w.sql("DO $$ BEGIN FOR n IN 0 .. 99 LOOP INSERT INTO users VALUES (n); END LOOP; END $$");
    w.wait_gone(&["user:99"]);
}

#[test]
fn a_loop_that_hangs_is_not_fed_for_and_one_that_turns_again_is() {
    let manager = Manager::new();
    let w = world(&manager);
    let (mut daemon, mut reader) = unread(&w);
    manager.wait_fed("STATUS=ready");
    // From before it hangs: what is fed for longer than half the limit from here on is fed for a loop that hangs.
    let began = Instant::now();
    hang(&w);
    let mut fed = Instant::now();
    while fed.elapsed() < WATCHDOG {
        assert!(began.elapsed() < BEAT_LIMIT * 3, "the loop hangs, and the watchdog is still fed");
        if manager.next(Duration::from_millis(100)).as_deref() == Some("WATCHDOG=1") {
            fed = Instant::now();
        }
    }
    assert!(fed - began > BEAT_LIMIT / 2, "a loop that is merely slow must be fed for");
    w.pgevict(&["ready"]).exits(1);
    // Somebody reads again: nothing was lost but time.
    std::thread::spawn(move || while matches!(reader.read(&mut [0; 4096]), Ok(1..)) {});
    manager.wait_fed("STATUS=ready");
    manager.wait_fed("WATCHDOG=1");
    kill(Pid::from_raw(i32::try_from(daemon.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    manager.wait_fed("STOPPING=1");
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}
