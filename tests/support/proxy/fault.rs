//! Faults of a network, by name.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

/// What happens to the connections of a [`super::Proxy`] while it is inflicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Every connection is cut with RST, new ones too.
    Cut,
    /// A peer that died without a word: both directions are swallowed, the connections stay open, the kernel still
    /// acknowledges every byte. What lost a byte stays silent for ever, as a dead peer does; new connections after
    /// healing work.
    Silent,
    /// Half-open: requests arrive, replies are swallowed. Afterwards as [`Fault::Silent`].
    Deaf,
    /// Half-open the other way: requests are swallowed, what the server says by itself arrives. Afterwards as
    /// [`Fault::Silent`].
    Mute,
    /// Replies wait until the fault is healed, then arrive complete: a peer that was frozen, a link that was down for a while.
    Held,
    /// The request arrives and has its effect; the reply is swallowed and the connection cut.
    ReplyLost,
    /// Half of a request arrives, then the connection is cut: a pipeline or a long command breaks in its middle.
    TornRequest,
    /// The request has its effect; half of the reply arrives, then the connection is cut.
    TornReply,
    /// One byte at a time, each a packet of its own.
    Trickle,
    /// Every packet comes later by this, both ways.
    Slow(Duration),
    /// Connects succeed (the kernel answers them), but nobody ever speaks; what is connected already goes on.
    HangsAfterAccept,
    /// Connects get no answer at all, as from a host that drops packets: the queue of the listening socket is full. What
    /// is connected already goes on.
    ConnectHangs,
}

impl Fault {
    /// One of each kind; latency as a small network's.
    pub(crate) const ALL: [Self; 12] = [
        Self::Cut,
        Self::Silent,
        Self::Deaf,
        Self::Mute,
        Self::Held,
        Self::ReplyLost,
        Self::TornRequest,
        Self::TornReply,
        Self::Trickle,
        Self::Slow(Duration::from_millis(20)),
        Self::HangsAfterAccept,
        Self::ConnectHangs,
    ];
}

/// Draws faults; its seed is printed, and repeats the same series.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) StdRng);

impl Dice {
    /// With the seed in `$FAULT_SEED`, or a new one.
    pub(crate) fn new() -> Self {
        let given = std::env::var("FAULT_SEED").ok().and_then(|s| s.parse().ok());
        let seed: u64 = given.unwrap_or_else(rand::random);
        println!("faults are drawn with FAULT_SEED={seed}");
        Self::seeded(seed)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A fault; latencies are drawn from 1 to 100 ms.
    pub(crate) fn fault(&mut self) -> Fault {
        match Fault::ALL[self.0.random_range(0..Fault::ALL.len())] {
            Fault::Slow(_) => Fault::Slow(Duration::from_millis(self.0.random_range(1..=100))),
            fault => fault,
        }
    }

    /// A length between two bounds.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0.random_range(least..=most)
    }
}
