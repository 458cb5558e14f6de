//! The protocol against simulated writers, a simulated lock and simulated delays: a hundred thousand sleeps in a second.
//!
//! What is simulated is what PostgreSQL promises: a commit is visible before its locks are free, a notification arrives some time after
//! its commit, and a snapshot is taken at one moment between a poll's question and its answer.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What happens at a moment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// A statement's trigger runs, in a transaction that takes that long from then on.
    Trigger { commits_in: u64 },
    /// Its commit is visible.
    Commits { rings: bool, shared: bool },
    /// Its locks are free.
    Frees,
    /// A notification arrives.
    Arrives,
    /// The daemon is free for its next step.
    Daemon,
    /// What it waited for is due, unless a ring came first.
    Due,
    /// The poll's snapshot is taken.
    Looks,
    /// The poll's answer is here.
    Answer { found: bool },
    /// The server decides about the lock.
    Locks,
    /// The lock's answer is here.
    Locked { got: bool },
    /// The lock goes back, beside the delivery.
    Unlocks,
}

/// How writers behave.
struct Load {
    /// Transactions of a burst, the microseconds within which they begin, and between two bursts.
    burst: u64,
    within: u64,
    pause: u64,
    /// The longest transaction.
    longest: u64,
}

#[derive(Debug, Default)]
struct Outcome {
    sleeps: u64,
    rings: u64,
    bursts: u64,
    /// Between a commit and the poll that saw it, at most.
    latest: u64,
}

/// Runs until the daemon has slept `sleeps` times. `confirms`: whether it looks once more once it has the lock.
fn run(load: &Load, seed: u64, sleeps: u64, confirms: bool) -> Outcome {
    run_until(load, seed, sleeps, u64::MAX, confirms)
}

/// The same, but no longer than to this microsecond.
fn run_until(load: &Load, seed: u64, sleeps: u64, end: u64, confirms: bool) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let at = |t: u64| start + Duration::from_micros(t);
    let mut bell = Bell::new(start, true);
    let mut heap = BinaryHeap::from([Reverse((0, Happens::Daemon))]);
    let (mut shared, mut exclusive) = (0u32, false);
    let mut unseen: VecDeque<u64> = VecDeque::new();
    let mut out = Outcome::default();
    // The daemon waits until then; None: a step is under way.
    let mut waits: Option<u64> = None;
    let (mut next_burst, mut was_asleep, mut unheard) = (0, false, false);
    while out.sleeps < sleeps {
        if next_burst <= heap.peek().map_or(u64::MAX, |Reverse((t, _))| *t) {
            for _ in 0..load.burst {
                let commits_in = random.random_range(50..load.longest);
                heap.push(Reverse((next_burst + random.random_range(0..load.within), Happens::Trigger { commits_in })));
            }
            out.bursts += 1;
            next_burst += load.pause + random.random_range(0..load.pause);
        }
        let Some(Reverse((now, what))) = heap.pop().filter(|Reverse((now, _))| *now < end) else { break };
        let mut delay = |most: u64| now + random.random_range(1..most);
        match what {
            Happens::Trigger { commits_in } => {
                shared += u32::from(!exclusive);
                heap.push(Reverse((now + commits_in, Happens::Commits { rings: exclusive, shared: !exclusive })));
            }
            Happens::Commits { rings, shared } => {
                unseen.push_back(now);
                if rings {
                    out.rings += 1;
                    heap.push(Reverse((delay(400), Happens::Arrives)));
                }
                if shared {
                    heap.push(Reverse((delay(50), Happens::Frees)));
                }
            }
            Happens::Frees => shared -= 1,
            // Heard between two steps only: what arrives during one waits for its end.
            Happens::Arrives if waits.take().is_some() => {
                bell.rang();
                heap.push(Reverse((now, Happens::Daemon)));
            }
            Happens::Arrives => unheard = true,
            Happens::Due => {
                if waits.take_if(|until| *until == now).is_some() {
                    heap.push(Reverse((now, Happens::Daemon)));
                }
            }
            Happens::Daemon if std::mem::take(&mut unheard) => {
                bell.rang();
                heap.push(Reverse((now, Happens::Daemon)));
            }
            Happens::Daemon => match bell.next(at(now)) {
                Next::Poll => heap.push(Reverse((delay(300), Happens::Looks))),
                Next::TryLock => heap.push(Reverse((delay(200), Happens::Locks))),
                Next::Wait(until) => {
                    let until = u64::try_from((until - start).as_micros()).unwrap() + 1;
                    waits = Some(until);
                    heap.push(Reverse((until, Happens::Due)));
                }
            },
            Happens::Looks => {
                let found = !unseen.is_empty();
                for commit in unseen.drain(..) {
                    out.latest = out.latest.max(now.saturating_sub(commit));
                }
                heap.push(Reverse((delay(300), Happens::Answer { found })));
            }
            Happens::Answer { found } => {
                if bell.polled(found, at(now)) {
                    heap.push(Reverse((delay(300), Happens::Unlocks)));
                }
                // A delivery takes its time; the lock is back by then.
                heap.push(Reverse((if found { delay(500) + 300 } else { now }, Happens::Daemon)));
            }
            Happens::Locks => {
                let got = shared == 0;
                exclusive |= got;
                heap.push(Reverse((delay(200), Happens::Locked { got })));
            }
            Happens::Locked { got } => {
                bell.locked(got, at(now));
                if got && !confirms {
                    bell.polled(false, at(now));
                }
                heap.push(Reverse((now, Happens::Daemon)));
            }
            Happens::Unlocks => exclusive = false,
        }
        out.sleeps += u64::from(bell.asleep() && !was_asleep);
        was_asleep = bell.asleep();
    }
    out
}

/// Changes about as far from each other as the silence after which the daemon goes to sleep; then none for long, so that nobody else
/// wakes a daemon that missed one.
const QUIET: Load = Load { burst: 3, within: 80_000, pause: 600_000, longest: 3_000 };

#[test]
fn no_wake_up_is_lost_in_a_hundred_thousand_sleeps() {
    for seed in 0..10 {
        let out = run(&QUIET, seed, 10_000, true);
        // A transaction that is open keeps the lock from the daemon, which then polls ten times a second at least.
        assert!(out.latest < 150_000, "seed {seed}: {out:?}");
        assert!(out.rings <= out.bursts * QUIET.burst, "{out:?}");
        assert!(out.rings > 0, "nobody rang: nothing was tried");
    }
}

#[test]
fn without_the_confirming_poll_wake_ups_are_lost() {
    let out = run(&QUIET, 0, 10_000, false);
    assert!(out.latest > 400_000, "{out:?}");
}

#[test]
fn at_saturation_nobody_rings_and_when_idle_a_burst_rings_about_once() {
    // Every poll finds something: the silence that leads to sleep never comes, the lock is not even tried, so nobody rings.
    let start = Instant::now();
    let mut bell = Bell::new(start, true);
    let mut polls = 0;
    for ms in 0..60_000u64 {
        let now = start + Duration::from_millis(ms);
        match bell.next(now) {
            Next::Poll => {
                polls += 1;
                assert!(!bell.polled(true, now));
            }
            Next::TryLock => panic!("the lock is tried while changes come, {ms} ms"),
            Next::Wait(_) => {}
        }
    }
    assert!((1_000..13_000).contains(&polls), "{polls} polls in a minute");
    // The same with writers: two thousand transactions a second for a minute, some of them half a second long.
    let crowded = Load { burst: 2_000, within: 1_000_000, pause: 500_000, longest: 500_000 };
    let out = run_until(&crowded, 7, 1, 60_000_000, true);
    assert_eq!((out.sleeps, out.rings), (0, 0), "{out:?}");
    assert!(out.bursts > 70 && out.latest < 20_000, "{out:?}");
    // Many transactions in three milliseconds: those that begin before the daemon has taken its lock back ring, the others do not.
    let bursts = Load { burst: 50, within: 3_000, pause: 100_000, longest: 500 };
    let out = run(&bursts, 7, 5_000, true);
    println!("{} rings of {} bursts of {}", out.rings, out.bursts, bursts.burst);
    assert!(out.rings < out.bursts * bursts.burst / 2, "{out:?}");
    // One statement at a time: each burst wakes a sleeper once.
    let lonely = Load { burst: 1, within: 2, pause: 60_000, longest: 100 };
    let out = run(&lonely, 7, 5_000, true);
    assert!(out.rings <= out.bursts && out.rings * 10 > out.bursts * 9, "{out:?}");
}
