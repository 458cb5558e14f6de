//! What LISTEN brings, on its way from the connection's driver to the daemon: bounded in number and in bytes, and never waited for.

use super::journal::{First, Page};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
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
    armed: Armed,
}

/// What is asked as soon as one comes. The daemon sleeps on until the answer is here: waking it twice takes as long as the answer.
#[derive(Debug, Clone, Default)]
struct Armed(Arc<Mutex<Option<Question>>>);

#[derive(Debug)]
struct Question {
    first: First,
    begun: bool,
    /// Who waits for the answer.
    waits: Option<Waker>,
}

impl Armed {
    fn lock(&self) -> MutexGuard<'_, Option<Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's end: `(process id of the sender, payload)`.
#[derive(Debug)]
pub struct Notifications {
    receiver: Receiver<(i32, String)>,
    waiting: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
    armed: Armed,
}

pub(super) fn channel() -> (Sender, Notifications) {
    let (sender, receiver) = mpsc::channel(MOST);
    let (waiting, overflowed, armed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default(), Armed::default());
    (
        Sender { sender, waiting: waiting.clone(), overflowed: overflowed.clone(), armed: armed.clone() },
        Notifications { receiver, waiting, overflowed, armed },
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

    /// Asks what was armed. The driver does so itself: it is at the connection anyway, and sends it before anybody else has woken. Whether the
    /// notification is dealt with: then it need not be handed on.
    pub(super) fn ask(&self) -> bool {
        let mut armed = self.armed.lock();
        let Some(Question { first, begun, waits: Some(waker) }) = &mut *armed else { return false };
        if !*begun && first.poll(&mut Context::from_waker(waker)).is_ready() {
            // What has an answer before it was sent has failed; whoever reads next meets the same.
            *armed = None;
            return false;
        }
        *begun = true;
        true
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

    /// Whatever rings from now on, this is asked at once, and rings no more.
    pub fn arm(&self, first: First) {
        *self.armed.lock() = Some(Question { first, begun: false, waits: None });
    }

    /// The answer, once it rang. Pends where nothing is armed.
    pub fn answered(&self) -> impl Future<Output = Result<Option<Page>, tokio_postgres::Error>> + use<> {
        let armed = self.armed.clone();
        poll_fn(move |cx| {
            let mut armed = armed.lock();
            let Some(question) = &mut *armed else { return Poll::Pending };
            question.waits = Some(cx.waker().clone());
            if !question.begun {
                return Poll::Pending;
            }
            let answer = question.first.poll(cx);
            if answer.is_ready() {
                *armed = None;
            }
            answer
        })
    }

    /// Awake: what rings from now on is handed on. What was asked meanwhile, and not yet answered.
    #[must_use]
    pub fn disarm(&self) -> Option<First> {
        self.armed.lock().take().filter(|q| q.begun).map(|q| q.first)
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

    /// A question, and what answers it.
    fn question() -> (First, tokio::sync::oneshot::Sender<()>) {
        let (answer, asked) = tokio::sync::oneshot::channel();
        (
            First::new(async move {
                asked.await.map(|()| None).map_err(|_| tokio_postgres::Error::__private_api_timeout())
            }),
            answer,
        )
    }

    fn look<F: Future>(future: F) -> Poll<F::Output> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_armed_is_asked_once_it_is_waited_for_and_rings_are_its_answer_until_it_is_disarmed() {
        let (sender, notifications) = channel();
        assert!(!sender.ask() && look(notifications.answered()).is_pending(), "nothing is armed");
        let (first, answer) = question();
        notifications.arm(first);
        assert!(!sender.ask(), "nobody waits yet: the ring must wake somebody");
        assert!(look(notifications.answered()).is_pending());
        assert!(sender.ask() && sender.ask());
        assert!(look(notifications.answered()).is_pending());
        answer.send(()).unwrap();
        assert!(matches!(look(notifications.answered()), Poll::Ready(Ok(None))));
        assert!(!sender.ask() && notifications.disarm().is_none(), "it was taken");
    }

    #[test]
    fn what_was_asked_outlives_being_disarmed_and_what_was_not_does_not() {
        let (sender, notifications) = channel();
        for rings in [false, true] {
            let (first, _answer) = question();
            notifications.arm(first);
            assert!(look(notifications.answered()).is_pending());
            assert_eq!((rings && sender.ask(), notifications.disarm().is_some()), (rings, rings));
            assert!(!sender.ask());
        }
    }

    #[test]
    fn a_question_that_cannot_be_asked_leaves_the_ring_to_whoever_waits() {
        let (sender, notifications) = channel();
        notifications.arm(question().0);
        assert!(look(notifications.answered()).is_pending());
        assert!(!sender.ask() && notifications.disarm().is_none());
    }
}
