//! Floor 2: the admin socket and listener.
//!
//! `GET /livez /readyz /metrics /status` on both; `GET /tail` and every POST on the unix socket only, whose file
//! mode (0660) says who may. The TCP listener is read-only, sends no CORS headers, and answers only requests whose
//! `Host` cannot be a rebound DNS name.

mod host;
mod limited;
mod routes;
mod socket;

use crate::config::model;
use crate::observe::Observer;
use crate::observe::event::Observation;
use limited::Limited;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Connections at a time, each on socket and listener; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// A request on TCP, connection included, is over by then: no client can hold a connection by being slow.
const TCP_DEADLINE: Duration = Duration::from_secs(10);
/// The series of waits before an address is tried again: doubled from the first up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What is given to open connections after the stop.
const DRAIN: Duration = Duration::from_secs(1);

/// What the admin socket asks of the daemon.
#[derive(Debug)]
#[non_exhaustive]
pub enum Control {
    /// Read the configuration again.
    Reload {
        /// Err: why it was refused, as `check` prints it; the old configuration stays live then.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Pause, or go on.
    Pause {
        /// Only warming, or delivery.
        warming: bool,
        /// Whether to pause.
        paused: bool,
        /// Ok: whether that is new. Err: why it is not done.
        reply: oneshot::Sender<Result<bool, String>>,
    },
    /// The operator has dealt with the refused edges of a cache.
    Dismiss {
        /// The cache.
        cache: String,
    },
    /// Fill an entry.
    Warm(Asked),
}

/// An entry that somebody wants filled.
#[derive(Debug)]
pub struct Asked {
    /// The cache.
    pub cache: String,
    /// Its holes and their values.
    pub values: BTreeMap<String, String>,
    /// The key, once it is queued.
    pub reply: oneshot::Sender<Result<String, Unwarmed>>,
}

impl Asked {
    /// It cannot be queued at the moment.
    pub fn not_now(self, why: &str) {
        // Whoever asked may have left.
        let _ = self.reply.send(Err(Unwarmed::NotNow(why.to_owned())));
    }
}

/// Why an entry is not filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwarmed {
    /// There is no such entry.
    Unknown(String),
    /// Later, or by another daemon.
    NotNow(String),
}

/// Serves until `stop`. An address that cannot be bound is reported as a warning and tried again: evictions do not
/// depend on being watched.
pub async fn serve(admin: &model::Admin, observer: Observer, control: mpsc::Sender<Control>, stop: CancellationToken) {
    let unix = serve_socket(&admin.socket, &observer, &control, &stop);
    let tcp = async {
        if let Some(address) = admin.listen {
            serve_tcp(address, &observer, &stop).await;
        }
    };
    tokio::join!(unix, tcp);
}

async fn serve_socket(path: &Path, observer: &Observer, control: &mpsc::Sender<Control>, stop: &CancellationToken) {
    let bind = || socket::Bound::new(path);
    let what = "admin socket";
    let Some(mut bound) = until_bound(what, bind, observer, stop).await else { return };
    let Some(listener) = bound.take_listener() else { return };
    let routes = routes::socket(observer.clone(), control.clone(), stop.clone());
    let listener = Limited::new(listener, MAX_CONNECTIONS, None);
    run(listener, routes, what, observer, stop).await;
}

async fn serve_tcp(address: SocketAddr, observer: &Observer, stop: &CancellationToken) {
    let what = "admin listener";
    let bind = || async move {
        TcpListener::bind(address).await.map_err(|e| {
            let remedy = match e.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; choose another admin.listen",
                io::ErrorKind::AddrNotAvailable => "this machine does not have the address; mend admin.listen",
                io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another admin.listen",
                _ => "see admin.listen",
            };
            format!("{address} cannot be bound: {e}: {remedy}")
        })
    };
    let Some(listener) = until_bound(what, bind, observer, stop).await else { return };
    let listener = Limited::new(listener, MAX_CONNECTIONS, Some(TCP_DEADLINE));
    run(listener, routes::tcp(observer.clone()), what, observer, stop).await;
}

async fn run<L>(listener: L, routes: axum::Router, what: &'static str, observer: &Observer, stop: &CancellationToken)
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    let server = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let ended = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => if let Err(e) = result {
            observer.report(Observation::Warning { what, detail: format!("ended: {e}; restart the daemon to have it back") });
        },
        () = ended => {}
    }
}

/// Binds, again and again until it works; None when the stop comes first.
async fn until_bound<T, F: Future<Output = Result<T, String>>>(
    what: &'static str,
    bind: impl Fn() -> F,
    observer: &Observer,
    stop: &CancellationToken,
) -> Option<T> {
    let (mut wait, longest) = RETRY;
    loop {
        match bind().await {
            Ok(bound) => return Some(bound),
            Err(detail) => observer.report(Observation::Warning { what, detail }),
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
        wait = (wait * 2).min(longest);
    }
}
