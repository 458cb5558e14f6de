//! What the service manager is told: READY, RELOADING, STOPPING, STATUS, WATCHDOG. Nothing where there is none.

use crate::observe::Observer;
use crate::observe::event::Condition;
use crate::observe::notices::condition_code;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The daemon runs. It says so when its loop begins, not when it is ready: a start must not fail because Redis is
/// away, and what it waits for stands in STATUS.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it. The time lets systemd tell which reload a READY belongs to.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// The stop has begun.
pub fn stopping(why: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&format!("stopping: {}", line(why)))]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&line(text))]);
}

/// The interval of the watchdog, where the unit has one for this process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|d| !d.is_zero())
}

/// Until `stop`: pings the watchdog well within half its interval while the loop lives (so that a stuck daemon is restarted,
/// and a waiting one is not), and keeps STATUS on what the daemon waits for.
pub async fn accompany(observer: Observer, stop: CancellationToken) {
    let watchdog = watchdog();
    let mut ticks = tokio::time::interval(pace(watchdog));
    let mut told = Told::default();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        told.tick(watchdog.is_some(), &observer);
    }
}

/// STATUS follows within a second. A third of the watchdog's interval, where that is less: systemd advises half, and a timer that is late
/// must not pass that.
fn pace(watchdog: Option<Duration>) -> Duration {
    watchdog.map_or(Duration::from_secs(1), |w| (w / 3).min(Duration::from_secs(1)))
}

/// What was told, so that STATUS is sent when it changes only.
#[derive(Default)]
struct Told(String);

impl Told {
    fn tick(&mut self, watchdog: bool, observer: &Observer) {
        if watchdog && observer.is_alive() {
            send(&[NotifyState::Watchdog]);
        }
        let text = summary(observer);
        if text != self.0 {
            status(&text);
            self.0 = text;
        }
    }
}

/// One line: ready, or what is waited for.
fn summary(observer: &Observer) -> String {
    let mut reasons = observer.status().reasons;
    // A start that takes long has another reason, which says more.
    if reasons.len() > 1 {
        reasons.retain(|r| r.condition != condition_code(&Condition::Starting));
    }
    match reasons.as_slice() {
        [] => "ready".to_owned(),
        [only] => format!("not ready: {}: {}", only.what, only.why),
        [first, rest @ ..] => format!("not ready: {}: {} (and {} more)", first.what, first.why, rest.len()),
    }
}

/// A line break would begin another assignment.
fn line(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn send(state: &[NotifyState<'_>]) {
    // The manager may have gone away; the daemon works without it.
    let _ = sd_notify::notify(state);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Log, LogFormat, LogKeys, LogLevel};
    use crate::observe::event::Condition;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    const CHILD: &str = "PGEVICT_TEST_SYSTEMD_CHILD";

    /// Variables of the environment cannot be changed safely inside a process with threads, so each test runs itself
    /// again with the socket set, and reads what the child sent.
    fn sent_by(test: &str, watchdog_usec: Option<&str>) -> Option<Vec<String>> {
        if std::env::var_os(CHILD).is_some() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", &format!("daemon::systemd::tests::{test}")]);
        child.env(CHILD, "1").env("NOTIFY_SOCKET", &path).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        if let Some(usec) = watchdog_usec {
            child.env("WATCHDOG_USEC", usec);
        }
        let status = child.stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "the child failed");
        socket.set_nonblocking(true).unwrap();
        let mut buf = [0; 4096];
        Some(
            std::iter::from_fn(|| socket.recv(&mut buf).ok().map(|n| String::from_utf8_lossy(&buf[..n]).into_owned()))
                .collect(),
        )
    }

    fn observer() -> Observer {
        Observer::new(&Log { format: LogFormat::Text, keys: LogKeys::Full, level: LogLevel::Info })
    }

    #[test]
    fn each_state_is_told() {
        let Some(sent) = sent_by("each_state_is_told", None) else {
            ready();
            reloading();
            status("waits for\nREADY=1");
            stopping("SIGTERM");
            return;
        };
        assert_eq!(sent[0], "READY=1\n");
        assert!(sent[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", sent[1]);
        assert_eq!(sent[2], "STATUS=waits for READY=1\n");
        assert_eq!(sent[3], "STOPPING=1\nSTATUS=stopping: SIGTERM\n");
        assert_eq!(sent.len(), 4);
    }

    #[test]
    fn the_watchdog_is_pinged_and_status_says_what_is_waited_for() {
        let name = "the_watchdog_is_pinged_and_status_says_what_is_waited_for";
        let Some(sent) = sent_by(name, Some("3000000")) else {
            assert_eq!(watchdog(), Some(Duration::from_secs(3)));
            let (observer, mut told) = (observer(), Told::default());
            told.tick(true, &observer);
            told.tick(true, &observer);
            observer.condition(Condition::Starting, None);
            told.tick(true, &observer);
            told.tick(false, &observer);
            return;
        };
        assert_eq!(sent.iter().filter(|s| *s == "WATCHDOG=1\n").count(), 3, "{sent:?}");
        let statuses: Vec<&String> = sent.iter().filter(|s| s.starts_with("STATUS=")).collect();
        assert_eq!(statuses.len(), 2, "{sent:?}");
        assert!(statuses[0].starts_with("STATUS=not ready: starting: "), "{sent:?}");
        assert_eq!(statuses[1], "STATUS=ready\n");
    }

    #[test]
    fn a_stuck_loop_is_not_pinged_for() {
        let Some(sent) = sent_by("a_stuck_loop_is_not_pinged_for", Some("3000000")) else {
            let observer = observer();
            let long_ago = std::time::Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
            observer.beat_at(crate::observe::clock::Now { instant: long_ago, wall: std::time::SystemTime::now() });
            Told::default().tick(true, &observer);
            return;
        };
        assert!(sent.iter().any(|s| s.starts_with("STATUS=")), "{sent:?}");
        assert!(!sent.iter().any(|s| s.contains("WATCHDOG")), "{sent:?}");
    }

    #[test]
    fn the_watchdog_is_pinged_within_half_its_interval() {
        let check = |watchdog: Option<u64>, expected| {
            assert_eq!(pace(watchdog.map(Duration::from_millis)), Duration::from_millis(expected), "{watchdog:?}");
        };
        check(None, 1_000);
        check(Some(30_000), 1_000);
        check(Some(1_500), 500);
        check(Some(600), 200);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            ready();
            stopping("end");
        }
        assert_eq!(summary(&observer()), "not ready: starting: no session has begun yet; this takes a moment");
    }
}
