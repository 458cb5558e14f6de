//! A TCP proxy that breaks connections in named ways: it stands between the daemon and a server.

mod carry;
mod fault;

pub(crate) use fault::{Dice, Fault};

use super::PATIENCE;
use redis::io::tcp::socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connections that wait to be accepted; more than any test opens at once.
const BACKLOG: i32 = 128;
/// A connect on one machine takes well under a millisecond: one that takes longer found the queue full.
const QUEUE_FULL: Duration = Duration::from_millis(50);

/// What the connections of a proxy look at.
#[derive(Debug, Clone)]
struct State {
    target: SocketAddr,
    fault: Option<Fault>,
    /// Only requests that hold this are hit; empty: all.
    needle: Vec<u8>,
    /// The fault is over when it has hit once.
    once: bool,
    /// How often [`Proxy::cut`] was called.
    cuts: u64,
}

/// A proxy before one server; its connections end with it.
pub(crate) struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    counts: watch::Receiver<Counts>,
    /// The proxy and its connections end with it.
    _end: DropGuard,
}

/// What has happened so far.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    dialed: u64,
    hits: u64,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

impl Proxy {
    /// A proxy before the server that this URL names as `127.0.0.1:PORT`.
    pub(crate) fn before(url: &str) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(url).1));
        let (state, _) = watch::channel(State { target, fault: None, needle: Vec::new(), once: false, cuts: 0 });
        let (counter, counts) = watch::channel(Counts::default());
        let _inside = runtime().enter();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(BACKLOG.unsigned_abs()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let token = CancellationToken::new();
        let link = Link { state: state.clone(), counter, end: token.clone() };
        runtime().spawn(async move {
            tokio::select! {
                () = link.end.clone().cancelled_owned() => {}
                () = accept(listener, link) => {}
            }
        });
        Self { port, state, counts, _end: token.drop_guard() }
    }

    /// The same URL, through the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (at, old) = port_of(url);
        format!("{}{}{}", &url[..at], self.port, &url[at + old.to_string().len()..])
    }

    /// Other connections from now on lead to the server that this URL names; those that are open stay where they are.
    pub(crate) fn lead_to(&self, url: &str) {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(url).1));
        self.state.send_modify(|s| s.target = target);
    }

    /// Begins a fault; the one before is over. Under [`Fault::ConnectHangs`] no connect gets through once this returns.
    #[track_caller]
    pub(crate) fn inflict(&self, fault: Fault) {
        let before = self.hits();
        self.set(Some(fault), b"", false);
        if fault == Fault::ConnectHangs {
            self.wait_hit(before);
        }
    }

    /// The same for the next request that holds `needle` (one reply or request is hit, then the fault is over).
    /// For [`Fault::ReplyLost`], [`Fault::TornRequest`] and [`Fault::TornReply`].
    pub(crate) fn inflict_once(&self, fault: Fault, needle: &str) {
        assert!(matches!(fault, Fault::ReplyLost | Fault::TornRequest | Fault::TornReply), "{fault:?} hits no request");
        self.set(Some(fault), needle.as_bytes(), true);
    }

    /// Ends the fault.
    pub(crate) fn heal(&self) {
        self.set(None, b"", false);
    }

    fn set(&self, fault: Option<Fault>, needle: &[u8], once: bool) {
        self.state.send_modify(|s| {
            (s.fault, s.once) = (fault, once);
            s.needle = needle.to_vec();
        });
    }

    /// Cuts every open connection with RST, once; new ones work.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|s| s.cuts += 1);
    }

    /// Connections that were accepted so far.
    pub(crate) fn dialed(&self) -> u64 {
        self.counts.borrow().dialed
    }

    /// Packets, requests or connections that a fault has hit so far.
    pub(crate) fn hits(&self) -> u64 {
        self.counts.borrow().hits
    }

    /// Waits until a fault has hit more often than `before`.
    #[track_caller]
    pub(crate) fn wait_hit(&self, before: u64) {
        self.wait("a fault to hit", |c| c.hits > before);
    }

    /// Waits until more than `before` connections were accepted.
    #[track_caller]
    pub(crate) fn wait_dialed(&self, before: u64) {
        self.wait("somebody to connect", |c| c.dialed > before);
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl FnMut(&Counts) -> bool) {
        let mut counts = self.counts.clone();
        let found = runtime().block_on(async { tokio::time::timeout(PATIENCE, counts.wait_for(done)).await.is_ok() });
        assert!(found, "waited {PATIENCE:?} for {what}: {:?}", self.state.borrow());
    }
}

/// Where the port stands in `…127.0.0.1:PORT…`, and the port.
#[track_caller]
fn port_of(url: &str) -> (usize, u16) {
    let host = "127.0.0.1:";
    let at = url.find(host).unwrap_or_else(|| panic!("{url} names no port of {host}")) + host.len();
    let digits: String = url[at..].chars().take_while(char::is_ascii_digit).collect();
    (at, digits.parse().unwrap_or_else(|e| panic!("{url}: {e}")))
}

/// What every task of a proxy holds.
#[derive(Clone)]
struct Link {
    state: watch::Sender<State>,
    counter: watch::Sender<Counts>,
    end: CancellationToken,
}

async fn accept(listener: TcpListener, link: Link) {
    let mut state = link.state.subscribe();
    loop {
        if state.borrow_and_update().fault == Some(Fault::ConnectHangs) {
            let filled = fill(&listener).await.unwrap();
            link.hit();
            let _ = state.wait_for(|s| s.fault != Some(Fault::ConnectHangs)).await;
            SockRef::from(&listener).listen(BACKLOG).unwrap();
            drop(filled);
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                link.counter.send_modify(|c| c.dialed += 1);
                tokio::spawn(carry::carry(client, link.clone()));
            }
            _ = state.changed() => {}
        }
    }
}

/// Fills the queue of a listening socket, so that the kernel lets further connects wait.
async fn fill(listener: &TcpListener) -> io::Result<Vec<TcpStream>> {
    SockRef::from(listener).listen(0)?;
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(QUEUE_FULL, TcpStream::connect(listener.local_addr()?)).await {
        waiting.push(connected?);
    }
    Ok(waiting)
}
