//! Reading the journal: one page a turn of the loop, the next one asked for while this one's keys go.

use super::Ended;
use super::live::{Live, Step, postgres};
use super::meaning::Ahead;
use super::statements::Turn;
use crate::flow::ledger::Ticket;
use crate::observe::event::Server;
use crate::planted;
use crate::rules::snapshot::Snapshot;
use crate::source::journal::Page;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the lock of the bell waits for the deletes of a ring: they take some tenths of a millisecond.
const ALONE: Duration = Duration::from_millis(2);

/// A batch of which pages are left.
#[derive(Debug)]
pub(super) struct Batch {
    target: Snapshot,
    ticket: Ticket,
    /// The last row that was delivered.
    done: (i64, i64),
    left: Left,
}

/// What is left of it.
#[derive(Debug)]
enum Left {
    /// The next page was read, and mapped as far as could be, while the keys of the last one went. Nothing else is done before its turn.
    Ahead(Box<Page>, Ahead),
    /// It was not read yet.
    Unread,
}

impl Batch {
    /// What is held to be true whenever the other buffer's turn comes: it goes on where the last page ended, in the same difference of
    /// snapshots. Otherwise changes would be left out.
    fn holds(&self) -> bool {
        match &self.left {
            Left::Ahead(page, ahead) => {
                let first = page.changes.first().and_then(|change| change.place);
                page.target == self.target
                    && first.is_none_or(|place| place > self.done)
                    && page.next.is_none_or(|next| next > self.done)
                    && ahead.len() <= page.changes.len()
            }
            Left::Unread => true,
        }
    }
}

impl Live<'_> {
    /// While the daemon sleeps, a ring is answered before it is woken: the driver of the connection asks what for. Not where it may be for a
    /// probe, which moves nothing: no other poll would come.
    pub(super) fn arm(&mut self) {
        let alone = self.bell.asleep() && self.batch.is_none() && !self.probe.is_under_way();
        if alone
            && self.reads()
            && !self.paused()
            && let Some(first) = self.journal.as_ref().and_then(|journal| journal.first(&self.seen))
        {
            self.session.connected.notifications.arm(first);
            self.position.prepare();
        }
    }

    /// Awake, for whatever reason. Where it rang just before, the answer is on its way.
    pub(super) fn disarm(&mut self) {
        if let Some(asked) = self.session.connected.notifications.disarm() {
            self.rung = Some(asked);
            self.bell.rang();
        }
    }

    /// Reads one page: the next of the batch under way, or the first of a new one. One page a turn, so that a long batch
    /// starves nothing else that is due, and so that the limits of [`Live::reads`] hold within a batch too.
    pub(super) async fn poll(&mut self) -> Step {
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        let begun = Instant::now();
        let rung = self.rung.take();
        debug_assert!(self.batch.as_ref().is_none_or(Batch::holds), "{:?}", self.batch);
        let (under_way, left) = match self.batch.take() {
            Some(Batch { target, ticket, done, left }) => (Some((target, ticket)), Some((done, left))),
            None => (None, None),
        };
        let target = under_way.as_ref().map(|(target, _)| target);
        let rows = self.paging.rows();
        let mut mapped = None;
        let mut page = match left {
            Some((_, Left::Ahead(page, ahead))) => {
                mapped = Some(ahead);
                *page
            }
            Some((after, Left::Unread)) => {
                journal.page(&self.seen, target, after, rows).await.map_err(|e| postgres(&e))?
            }
            None => {
                let first = match rung {
                    Some(first) => first.await.map_err(|e| postgres(&e))?,
                    None => None,
                };
                // What rang after the page was read may have been taken for one ring with it: where it found nothing, it says nothing.
                match first.filter(|page| !page.changes.iter().all(|c| self.probe.wrote(c))) {
                    Some(page) => page,
                    None => journal.page(&self.seen, None, (0, 0), rows).await.map_err(|e| postgres(&e))?,
                }
            }
        };
        self.context.observer.beat();
        if page.kept.as_ref().is_some_and(|kept| kept.file != self.session.identity.journal_file) {
            // What was in it and not yet read is unknown; the next session finds that, too, and flushes.
            return Err(Ended::Down(Server::Postgres, "the journal was dropped, emptied or rewritten".into()));
        }
        if let Some(kept) = &page.kept {
            self.unretired(kept.floor.as_ref())?;
        }
        self.position.tombstones.read_by(&page.target);
        self.trust.read(&page.target);
        if let Some(kept) = &page.kept {
            self.lost(kept.lost, &page.target).await?;
        }
        // A probe is no change: it neither wakes the daemon nor moves the position, or an idle database would never be left alone.
        let found = !page.changes.iter().all(|c| self.probe.wrote(c));
        let wakes = self.bell.polled(found || under_way.is_some(), Instant::now());
        let changes = std::mem::take(&mut page.changes);
        if !found && under_way.is_none() && page.next.is_none() {
            if planted::is("idle-move") && self.proven && self.ledger.is_idle() {
                self.position.step(&[], &[], |r| r.pos = Some(page.target.clone())).await.map_err(|f| self.fault(f))?;
            }
            self.deliver(changes, None, Turn::First).await?;
            self.ledger.pass_over(&page.target);
            self.seen = page.target;
            return Ok(());
        }
        self.dirty = true;
        if planted::is("position-first") && self.proven {
            self.position.step(&[], &[], |r| r.pos = Some(page.target.clone())).await.map_err(|f| self.fault(f))?;
        }
        let ticket = under_way.map_or_else(|| self.ledger.open(page.target.clone()), |(_, ticket)| ticket);
        // All three work at the same time: while Redis deletes this page's keys, PostgreSQL takes the bell's lock back and reads the next
        // page, and what is read is mapped. No more than one page is read ahead, and none while memory has no room.
        let (unlock, seen, room) = (self.session.bell_unlock(wakes), self.seen.clone(), self.roomy());
        let (meaning, is_delivered) = (self.meaning.clone(), AtomicBool::new(false));
        let (delivered, ahead, behind) = {
            let ahead = async {
                match page.next {
                    Some(after) if room => {
                        let next = journal.page(&seen, Some(&page.target), after, rows).await?;
                        let turn = || is_delivered.load(Ordering::Relaxed);
                        let ahead = Ahead::map(meaning, &next.changes, turn).await;
                        Ok(Some(Left::Ahead(Box::new(next), ahead)))
                    }
                    _ => Ok(None),
                }
            };
            // The page of a ring has not read the floor: whatever that lacks, a floor that is read later has.
            let behind = async {
                match page.kept {
                    Some(_) => unlock.await.map(|()| None),
                    None => tokio::try_join!(unlock, journal.floor()).map(|((), floor)| floor),
                }
            };
            let mut delivery = std::pin::pin!(async {
                let done = self.deliver_page(changes, mapped, Some(ticket), Turn::First).await;
                is_delivered.store(true, Ordering::Relaxed);
                done
            });
            // What a ring was for goes before anything else wants the cores; writers ring on meanwhile, but not for long.
            let early = if wakes && page.next.is_none() { within(ALONE, &mut delivery).await } else { None };
            match early {
                Some(delivered) => (delivered, Ok(None), behind.await),
                // PostgreSQL first: it takes the longest, and its answer is waited for by the next turn.
                None => {
                    let (ahead, delivered, behind) = tokio::join!(biased; ahead, delivery, behind);
                    (delivered, ahead, behind)
                }
            }
        };
        delivered?;
        self.unretired(behind.map_err(|e| postgres(&e))?.as_ref())?;
        let ahead = ahead.map_err(|e| postgres(&e))?;
        let now = Instant::now();
        match page.next {
            Some(after) => {
                self.paging.full(now.saturating_duration_since(begun));
                let left = ahead.unwrap_or(Left::Unread);
                self.batch = Some(Batch { target: page.target, ticket, done: after, left });
            }
            None => {
                self.seen = page.target;
                self.release(ticket, now);
            }
        }
        self.bell.hurry(now);
        Ok(())
    }

    /// Whether everything that retention may have deleted was read before the page that is under way.
    fn unretired(&self, floor: Option<&Snapshot>) -> Step {
        match floor {
            // Retention went past us, which it never should between two polls: what was deleted is unknown.
            Some(floor) if !self.seen.contains(floor) => Err(Ended::TooOld),
            // Nothing was ever retired, or nothing that is not known.
            _ => Ok(()),
        }
    }
}

/// What `work` comes to within that time. The time begins when it first has to wait and others had their turn, so that it delays nothing.
async fn within<T>(limit: Duration, work: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let late = async {
        // Setting a timer that is the next to end costs a system call, which is for later than the delete.
        tokio::task::yield_now().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = late => None,
    }
}
