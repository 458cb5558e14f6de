//! The process around the daemon: its threads, signals, systemd, the admin server, reload.
//!
//! The main thread writes no log line: when nobody reads the log, or the loop hangs for another reason, signals, the
//! watchdog and the admin server are what is left.

use super::control::Control;
use super::pause::Pause;
use super::{Context, End, run, systemd, threads};
use crate::admin;
use crate::config::model::Config;
use crate::observe::event::Observation;
use crate::observe::{LogHandle, Observer};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// Requests that wait for the session; an operator's are few.
const WAITING: usize = 16;
/// What the end of the process waits for whoever reads the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reads the configuration again; Err: the problems, as `check` prints them.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What `pgevict run` starts with.
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// Its file, for the log.
    pub path: String,
    /// What `check` would warn about, a line each.
    pub warnings: Vec<String>,
    /// `--adopt`.
    pub adopt: bool,
    /// Reads the file again.
    pub reload: Reload,
    /// Follows `[log]` on reload.
    pub log: LogHandle,
}

/// Runs until SIGTERM or SIGINT, or until the daemon must refuse. A second signal ends at once.
///
/// # Errors
/// Signal handlers that cannot be installed, threads that cannot be started.
pub async fn supervise(options: Options) -> std::io::Result<End> {
    let observer = Observer::new(&options.config.log);
    observer.set_config(&options.config);
    observer.report(Observation::Started { config: options.path.clone(), mode: options.config.mode });
    for detail in &options.warnings {
        observer.report(Observation::Warning { what: "the configuration", detail: detail.clone() });
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    let (admin_sender, admin_receiver) = mpsc::channel(WAITING);
    let served = CancellationToken::new();
    let beside = {
        let served = served.clone();
        threads::begin("beside", move || served.cancelled_owned())?.handle
    };
    let context = Arc::new(Context {
        observer: observer.clone(),
        stop: CancellationToken::new(),
        control: Mutex::new(receiver),
        adopt: AtomicBool::new(options.adopt),
        warmed: AtomicBool::new(false),
        pause: Arc::default(),
        beside: beside.clone(),
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hang_up = signal(SignalKind::hangup())?;

    let config = Arc::new(options.config.clone());
    let admin_config = options.config.admin.clone();
    let admin = tokio::spawn({
        let (observer, served) = (observer.clone(), served.clone());
        async move { admin::serve(&admin_config, observer, admin_sender, served).await }
    });
    let accompany = tokio::spawn(systemd::accompany(observer.clone(), served.clone()));
    let reloads =
        beside.spawn(reloads(options, observer.clone(), context.pause.clone(), hang_up, admin_receiver, sender));
    beside.spawn(ticks(observer.clone()));
    let mut daemon = {
        let context = context.clone();
        threads::begin("deliver", move || async move { run(&context, config).await })?
    };
    // READY says that the loop runs, not that the servers are there: boot order must not matter. STATUS says what it waits for.
    systemd::ready();

    let mut asked = false;
    let end = loop {
        tokio::select! {
            end = daemon.ended() => break end,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if asked {
            // The second signal: whatever is outstanding is replayed at the next start.
            break End::Stopped;
        }
        asked = true;
        systemd::stopping("draining");
        let why = "a signal came; what is outstanding ends first".into();
        say(&beside, &observer, Observation::Stopping { why }).await;
        context.stop.cancel();
    };
    say(&beside, &observer, Observation::Stopped).await;
    reloads.abort();
    served.cancel();
    // Both end by themselves within their own limits.
    let _ = tokio::join!(admin, accompany);
    Ok(end)
}

/// Reports something, and waits a moment for it to be written.
async fn say(beside: &Handle, observer: &Observer, observation: Observation) {
    let observer = observer.clone();
    let said = beside.spawn(async move { observer.report(observation) });
    let _ = tokio::time::timeout(LAST_WORDS, said).await;
}

/// Makes the observer print what its windows hold back.
async fn ticks(observer: Observer) {
    let mut each = tokio::time::interval(Duration::from_secs(1));
    loop {
        each.tick().await;
        observer.tick();
    }
}

/// Hands on what SIGHUP and the admin socket ask.
async fn reloads(
    options: Options,
    observer: Observer,
    pause: Arc<Pause>,
    mut hang_up: tokio::signal::unix::Signal,
    mut admin: mpsc::Receiver<admin::Control>,
    session: mpsc::Sender<Control>,
) {
    let mut delivery = options.config.postgres.delivery;
    loop {
        let reply = tokio::select! {
            Some(()) = hang_up.recv() => None,
            Some(asked) = admin.recv() => match asked {
                admin::Control::Reload { reply } => Some(reply),
                admin::Control::Dismiss { cache } => {
                    let _ = session.send(Control::Dismiss(cache)).await;
                    continue;
                }
                admin::Control::Warm(asked) => {
                    let _ = session.send(Control::Warm(asked)).await;
                    continue;
                }
                admin::Control::Pause { warming, paused, reply } => {
                    // Whoever asked may have left.
                    let _ = reply.send(pause.ask(warming, paused, delivery, &observer));
                    continue;
                }
            },
            else => return,
        };
        systemd::reloading();
        let outcome = match (options.reload)() {
            Ok(config) => {
                options.log.set(&config.log);
                observer.set_config(&config);
                delivery = config.postgres.delivery;
                let _ = session.send(Control::Reload(Arc::new(config))).await;
                Ok(())
            }
            Err(why) => {
                observer.report(Observation::ReloadRefused { why: why.clone() });
                Err(why)
            }
        };
        systemd::ready();
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
    }
}
