//! How much a key is wanted: what a change named goes first, then by use, then what nobody has asked for.
//!
//! One scale for all that waits: a key that a flush took and one that is about to expire compare by when they were read.

use super::warm::Want;
use crate::planted;
use std::collections::BTreeMap;
use std::time::Duration;

/// A key that was there a moment ago, and is gone because what it says has changed.
pub const EVICTED: u32 = u32::MAX;
/// A key that was there; when it was read is not known.
pub const UNKNOWN: u32 = 2;
/// What nobody has asked for yet: behind everything else.
pub const STARTUP: u32 = 1;

/// What Redis says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Until it expires.
    pub left: Duration,
    /// How it is used.
    pub used: Used,
}

/// How a key is used, by what Redis counts under its `maxmemory-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// Neither read nor written for this long, in whole seconds.
    Idle(Duration),
    /// The logarithmic counter of an LFU policy, up to 255; it halves and decays by itself.
    Often(u64),
}

/// As hot as what was used when we began to count.
const BEGIN: u32 = 1 << 31;

/// What Redis gives a key that nobody has read yet, under LFU.
pub(super) const UNREAD: u64 = 5;

impl Used {
    /// Between [`UNKNOWN`] and [`EVICTED`]: the second of its last use, or how often it was used. `at`: when Redis said so, since some
    /// moment that is the same for all; a long flush asks for its last keys much later than for its first.
    #[must_use]
    pub fn heat(self, at: Duration) -> u32 {
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let heat = match self {
            Self::Idle(idle) => BEGIN.saturating_add(seconds(at)).saturating_sub(seconds(idle)),
            Self::Often(n) => BEGIN + u32::try_from(n.min(255)).unwrap_or(255),
        };
        heat.clamp(UNKNOWN + 1, EVICTED - 1)
    }
}

/// Whether a key is to be refreshed: `at` thousandths of its time are over, and it was read since it was stored, within `read_within`.
///
/// A write counts as a use for Redis, so a key counts as read only where it was used a second after it was stored. Otherwise what is
/// refreshed would be refreshed for ever.
#[must_use]
pub fn is_due(ttl: Duration, at: u32, read_within: Option<Duration>, life: Life) -> bool {
    let age = ttl.saturating_sub(life.left);
    let read = match life.used {
        Used::Idle(idle) => idle + Duration::from_secs(1) < age && read_within.is_none_or(|within| idle <= within),
        Used::Often(n) => n > UNREAD,
    };
    read && age >= ttl.mul_f64(f64::from(at) / 1000.0)
}

/// The hottest of many keys, and no more of them than may wait.
#[derive(Debug)]
pub struct Hottest {
    most: usize,
    /// The coldest first, of equals the one that came last.
    kept: BTreeMap<(u32, u64), Want>,
    /// Counts down, so that who came later is the smaller.
    next: u64,
}

impl Hottest {
    /// Keeps at most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: BTreeMap::new(), next: u64::MAX }
    }

    /// Adds a key. Returns what is too cold to stay: another one, or itself.
    pub fn push(&mut self, mut want: Want) -> Option<Want> {
        self.next -= 1;
        if planted::is("warm-unsorted") {
            want.heat = UNKNOWN;
        }
        self.kept.insert((want.heat, self.next), want);
        if self.kept.len() > self.most { self.kept.pop_first().map(|(_, cold)| cold) } else { None }
    }

    /// All of them, the hottest first.
    pub fn take(&mut self) -> impl Iterator<Item = Want> + use<> {
        std::mem::take(&mut self.kept).into_values().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::binding::Binding;
    use crate::rules::template::{Fill, Kind, Template};
    use proptest::prelude::*;

    #[test]
    fn a_key_is_refreshed_late_in_its_life_and_only_while_it_is_read() {
        let second = Duration::from_secs;
        let due = |left, used, within| is_due(second(100), 800, within, Life { left: second(left), used });
        let idle = |n| Used::Idle(second(n));
        assert!(due(20, idle(3), None) && due(1, idle(97), None));
        assert!(!due(21, idle(3), None), "too early");
        assert!(!due(20, idle(80), None) && !due(20, idle(79), None), "nobody has read it since it was stored");
        assert!(due(20, idle(10), Some(second(10))) && !due(20, idle(11), Some(second(10))));
        assert!(due(20, Used::Often(6), None) && !due(20, Used::Often(5), None));
        assert!(!due(200, idle(0), None), "the application has stored it for longer");
    }

    #[test]
    fn what_was_read_lately_or_often_is_hotter_and_colder_than_what_a_change_named() {
        let idle = |idle, at| Used::Idle(Duration::from_secs(idle)).heat(Duration::from_secs(at));
        assert!(EVICTED > idle(0, 9) && idle(0, 9) > idle(1, 9) && idle(1, 9) > idle(3_600, 9));
        assert!(idle(5, 9) > idle(2, 1), "used at 4 s, and long before the beginning");
        assert!(EVICTED > idle(0, u64::MAX) && idle(u64::MAX, 0) > UNKNOWN && UNKNOWN > STARTUP);
        let often = |n| Used::Often(n).heat(Duration::ZERO);
        assert!(EVICTED > often(u64::MAX) && often(255) > often(6) && often(6) > often(0) && often(0) > UNKNOWN);
    }

    proptest! {
        #[test]
        fn of_many_keys_the_hottest_stay_and_what_goes_is_said(heats in prop::collection::vec(0u32..50, 0..60), most in 1usize..20) {
            let template = Template::parse("k", Kind::Key).unwrap();
            let binding = Binding::new(&template, |_| Fill::Unknown).unwrap();
            let mut hottest = Hottest::new(most);
            let mut gone = Vec::new();
            for (n, heat) in heats.iter().enumerate() {
                gone.extend(hottest.push(Want::new(0, n.to_string().into_bytes(), binding.clone(), *heat)));
            }
            let kept: Vec<u32> = hottest.take().map(|w| w.heat).collect();
            let mut sorted = heats.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(most);
            prop_assert_eq!(&kept, &sorted);
            prop_assert_eq!(gone.len() + kept.len(), heats.len());
            prop_assert_eq!(hottest.take().count(), 0);
        }
    }
}
