//! One connection of a proxy: two directions, and what a fault does to each.

use super::{Fault, Link, State};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// What is read at once: a request or a reply of the daemon mostly fits.
const CHUNK: usize = 64 << 10;
/// Bytes of a trickling packet that come a millisecond apart, so that the reader sees each alone; the rest follows without
/// a pause, or a page of 64 kB would take a minute.
const APART: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a direction ended.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// Its sender closed it, or its receiver has gone.
    Closed,
    /// A fault cuts the connection.
    Cut,
}

impl Link {
    pub(super) fn hit(&self) {
        self.counter.send_modify(|c| c.hits += 1);
    }

    /// A fault hits a request or its reply; one that hits once is over with it, and somebody else may have been first.
    fn strike(&self, fault: Fault) -> bool {
        let mut struck = false;
        self.state.send_if_modified(|s| {
            struck = s.fault == Some(fault);
            let ends = struck && s.once;
            if ends {
                s.fault = None;
            }
            ends
        });
        if struck {
            self.hit();
        }
        struck
    }
}

/// Carries a connection until it ends.
pub(super) async fn carry(client: TcpStream, link: Link) {
    let state = link.state.subscribe();
    let (fault, target) = {
        let now = state.borrow();
        (now.fault, now.target)
    };
    if fault == Some(Fault::HangsAfterAccept) {
        link.hit();
        // Kept open for as long as the test runs: healing concerns those who dial anew.
        link.end.cancelled().await;
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        // The client sees what it would see without the proxy, one step later.
        return reset(client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let shared = Shared { link: &link, silent: AtomicBool::new(false), asked: AtomicBool::new(false) };
    let cut = {
        let mut up = Pump { way: Way::Up, from: from_client, to: to_server, shared: &shared, state: state.clone() };
        let mut down = Pump { way: Way::Down, from: from_server, to: to_client, shared: &shared, state: state.clone() };
        let over = tokio::select! {
            () = link.end.cancelled() => Over::Cut,
            () = cut(state) => { link.hit(); Over::Cut }
            over = up.run() => over,
            over = down.run() => over,
        };
        (over == Over::Cut).then(|| (up.from.reunite(down.to), down.from.reunite(up.to)))
    };
    if let Some((Ok(client), Ok(server))) = cut {
        reset(client);
        reset(server);
    }
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Waits until the connection is to be cut.
async fn cut(mut state: watch::Receiver<State>) {
    let before = state.borrow().cuts;
    let _ = state.wait_for(|s| s.cuts > before || s.fault == Some(Fault::Cut)).await;
}

/// What both directions know.
struct Shared<'l> {
    link: &'l Link,
    /// A byte was swallowed: nothing may pass any more, or the two ends would disagree about the stream.
    silent: AtomicBool,
    /// The request whose reply is to be lost or torn has been passed on.
    asked: AtomicBool,
}

struct Pump<'s, 'l> {
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    shared: &'s Shared<'l>,
    state: watch::Receiver<State>,
}

impl Pump<'_, '_> {
    async fn run(&mut self) -> Over {
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = self.from.read(&mut buffer).await;
            if self.way == Way::Down {
                let _ = self.state.wait_for(|s| s.fault != Some(Fault::Held)).await;
            }
            let Some(n) = read.ok().filter(|n| *n > 0) else {
                if self.shared.silent.load(Ordering::Acquire) && self.way == Way::Down {
                    // Nor does a dead link tell that the server has closed.
                    std::future::pending::<()>().await;
                }
                return Over::Closed;
            };
            match self.pass(&buffer[..n]).await {
                Ok(None) => {}
                Ok(Some(over)) => return over,
                Err(_) => return Over::Closed,
            }
        }
    }

    /// Passes on what was read, or does to it what the fault says.
    async fn pass(&mut self, bytes: &[u8]) -> std::io::Result<Option<Over>> {
        let (fault, chosen) = {
            let now = self.state.borrow();
            let chosen = now.needle.is_empty() || bytes.windows(now.needle.len()).any(|w| w == now.needle);
            (now.fault, chosen)
        };
        let (way, shared) = (self.way, self.shared);
        let swallows = match fault {
            Some(Fault::Silent) => true,
            Some(Fault::Deaf) => way == Way::Down,
            Some(Fault::Mute) => way == Way::Up,
            _ => false,
        };
        if swallows {
            shared.silent.store(true, Ordering::Release);
            shared.link.hit();
        }
        if shared.silent.load(Ordering::Acquire) {
            // Half-open connections still carry the other direction.
            let half = matches!((fault, way), (Some(Fault::Deaf), Way::Up) | (Some(Fault::Mute), Way::Down));
            if half {
                self.to.write_all(bytes).await?;
            }
            return Ok(None);
        }
        if way == Way::Down
            && shared.asked.swap(false, Ordering::AcqRel)
            && let Some(lost @ (Fault::ReplyLost | Fault::TornReply)) = fault
            && shared.link.strike(lost)
        {
            let arrives = if lost == Fault::TornReply { bytes.len() / 2 } else { 0 };
            self.to.write_all(&bytes[..arrives]).await?;
            return Ok(Some(Over::Cut));
        }
        match fault {
            Some(Fault::ReplyLost | Fault::TornReply) if way == Way::Up && chosen => {
                shared.asked.store(true, Ordering::Release);
            }
            Some(Fault::TornRequest) if way == Way::Up && chosen && shared.link.strike(Fault::TornRequest) => {
                self.to.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(Some(Over::Cut));
            }
            Some(Fault::Trickle) => {
                shared.link.hit();
                for (n, byte) in bytes.iter().enumerate() {
                    self.to.write_all(std::slice::from_ref(byte)).await?;
                    if n < APART {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                return Ok(None);
            }
            Some(Fault::Slow(latency)) => {
                shared.link.hit();
                tokio::time::sleep(latency).await;
            }
            _ => {}
        }
        self.to.write_all(bytes).await?;
        Ok(None)
    }
}
