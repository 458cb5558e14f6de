//! What LISTEN brings, on its way from the connection's driver to the daemon: bounded in number and in bytes, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc::{self, Receiver, error::TryRecvError};

/// Notifications that wait. In journal delivery one is as good as many; in notify delivery an overflow is a gap, and
/// says so: at 5 000 a second, which is what PostgreSQL can do, 13 s of a Redis that does not answer.
const MOST: usize = 1 << 16;
/// Bytes of payload that wait. With a page in work and what a session holds it stays within the 100 MB that the daemon may use.
const MOST_BYTES: usize = 24 << 20;

/// The driver's end.
#[derive(Debug)]
pub(super) struct Sender {
    sender: mpsc::Sender<(i32, String)>,
    waiting: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

/// The daemon's end: `(process id of the sender, payload)`.
#[derive(Debug)]
pub struct Notifications {
    receiver: Receiver<(i32, String)>,
    waiting: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

pub(super) fn channel() -> (Sender, Notifications) {
    let (sender, receiver) = mpsc::channel(MOST);
    let (waiting, overflowed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    (
        Sender { sender, waiting: waiting.clone(), overflowed: overflowed.clone() },
        Notifications { receiver, waiting, overflowed },
    )
}

impl Sender {
    /// Hands a notification on, or throws it away and remembers that. Never waits: a listener that stops reading holds
    /// back vacuum.
    pub(super) fn hand_on(&self, process: i32, payload: &str) {
        let fits = self.waiting.load(Ordering::Acquire) + payload.len() <= MOST_BYTES;
        self.waiting.fetch_add(payload.len(), Ordering::AcqRel);
        if !fits || self.sender.try_send((process, payload.to_owned())).is_err() {
            self.waiting.fetch_sub(payload.len(), Ordering::AcqRel);
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

impl Notifications {
    /// The next one; None when the connection has ended.
    pub async fn recv(&mut self) -> Option<(i32, String)> {
        let received = self.receiver.recv().await;
        received.inspect(|(_, payload)| self.taken(payload))
    }

    /// The next one, if it is there already.
    ///
    /// # Errors
    /// None waits, or the connection has ended.
    pub fn try_recv(&mut self) -> Result<(i32, String), TryRecvError> {
        let received = self.receiver.try_recv();
        received.inspect(|(_, payload)| self.taken(payload))
    }

    fn taken(&self, payload: &str) {
        self.waiting.fetch_sub(payload.len(), Ordering::AcqRel);
    }

    /// Whether some had to be thrown away: in notify delivery that is a gap.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_or_too_long_ones_are_thrown_away_and_remembered() {
        for (payload, fit) in [(String::new(), MOST), ("x".repeat(8000), MOST_BYTES / 8000)] {
            let (sender, mut notifications) = channel();
            (0..fit).for_each(|n| sender.hand_on(i32::try_from(n).unwrap(), &payload));
            assert!(!notifications.overflowed());
            // Room that was made is used again.
            notifications.try_recv().unwrap();
            sender.hand_on(1, &payload);
            assert!(!notifications.overflowed());
            sender.hand_on(2, &payload);
            assert!(notifications.overflowed());
            let left = std::iter::from_fn(|| notifications.try_recv().ok()).count();
            assert_eq!(left, fit);
            assert_eq!(notifications.waiting.load(Ordering::Acquire), 0);
        }
    }
}
