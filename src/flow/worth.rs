//! Whether warming was worth it: was a warmed key read before a change took it again?
//!
//! Redis is asked in the script that deletes the key, the last moment at which it can say so, and only of keys that were warmed.
//! It is statistics: what is forgotten here is not counted, and nothing depends on it.

use super::heat::{UNREAD, Used};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// Warmed keys that are remembered: twice this, 40 bytes each. The older half goes when the newer is full.
const HALF: usize = 50_000;
/// Redis counts idle time in whole seconds of a clock that stands still for up to a tenth of one: a key that nobody has read since it
/// was stored may seem to have been used this much later.
const BLUR: Duration = Duration::from_millis(1_500);
/// A key that goes sooner after it was stored: a read, if there was one, is blurred with the write.
const SHORT: Duration = Duration::from_secs(3);

/// What became of a warmed key until a change took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worth {
    /// Somebody read it.
    Read,
    /// Nobody did: its query was in vain.
    Unread,
    /// It went too soon to tell, or Redis does not say.
    Unknown,
}

impl Worth {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Unread, Self::Unknown];

    /// As metrics spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "yes",
            Self::Unread => "no",
            Self::Unknown => "unknown",
        }
    }

    /// Of a key that was stored `age` ago and is used like this.
    #[must_use]
    pub fn of(age: Duration, used: Used) -> Self {
        match used {
            Used::Often(n) if n > UNREAD => Self::Read,
            Used::Idle(idle) if idle + BLUR < age => Self::Read,
            Used::Idle(_) if age < SHORT => Self::Unknown,
            Used::Often(_) | Used::Idle(_) => Self::Unread,
        }
    }
}

/// The letter of `OBJECT IDLETIME`.
const IDLE: u8 = b'i';
/// The letter of `OBJECT FREQ`.
const OFTEN: u8 = b'f';

/// What Redis is asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ask {
    /// `OBJECT IDLETIME`.
    #[default]
    Idle,
    /// `OBJECT FREQ`, under an LFU policy.
    Often,
    /// Nothing: it refused.
    Nothing,
}

/// The warmed keys that are still there, as far as is known, and what is to be told of those that went.
#[derive(Debug, Default)]
pub struct Worths {
    hasher: RandomState,
    // By hash: two keys of one hash are counted wrong, once in billions.
    young: HashMap<u64, (usize, Instant)>,
    old: HashMap<u64, (usize, Instant)>,
    ask: Ask,
    told: BTreeMap<(usize, Worth), u64>,
}

impl Worths {
    /// A key of this cache was warmed.
    pub fn stored(&mut self, cache: usize, key: &[u8], now: Instant) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        let hash = self.hasher.hash_one(key);
        self.old.remove(&hash);
        self.young.insert(hash, (cache, now));
    }

    /// What Redis is to be asked of these keys before they are deleted, a letter each: `i`dle time, `f`requency, `-` nothing. Empty:
    /// nothing of any.
    #[must_use]
    pub fn ask(&self, keys: &[&[u8]]) -> String {
        let letter = match self.ask {
            Ask::Idle => IDLE,
            Ask::Often => OFTEN,
            Ask::Nothing => return String::new(),
        };
        let letter = char::from(letter);
        if self.young.is_empty() && self.old.is_empty() {
            return String::new();
        }
        let known = |key: &&[u8]| {
            let hash = self.hasher.hash_one(*key);
            self.young.contains_key(&hash) || self.old.contains_key(&hash)
        };
        if keys.iter().any(known) {
            keys.iter().map(|key| if known(key) { letter } else { '-' }).collect()
        } else {
            String::new()
        }
    }

    /// A key is deleted; what was asked of it, by its letter, and what Redis said. None: it was not there, so it had expired or
    /// somebody else deleted it.
    pub fn gone(&mut self, key: &[u8], asked: u8, said: Option<u64>, now: Instant) {
        let hash = self.hasher.hash_one(key);
        let Some((cache, stored)) = self.young.remove(&hash).or_else(|| self.old.remove(&hash)) else { return };
        let Some(n) = said else { return };
        let used = if asked == OFTEN { Used::Often(n) } else { Used::Idle(Duration::from_secs(n)) };
        self.count(cache, Worth::of(now.saturating_duration_since(stored), used));
    }

    /// What was asked of this key was refused, and why. Under the other kind of `maxmemory-policy` it is asked otherwise, without the right
    /// (`+object`) not any more.
    pub fn refused(&mut self, key: &[u8], asked: u8, why: &str) {
        let hash = self.hasher.hash_one(key);
        let Some((cache, _)) = self.young.remove(&hash).or_else(|| self.old.remove(&hash)) else { return };
        self.count(cache, Worth::Unknown);
        self.ask = match asked {
            IDLE if why.contains("LFU") => Ask::Often,
            OFTEN if why.contains("LFU") => Ask::Idle,
            _ => Ask::Nothing,
        };
    }

    fn count(&mut self, cache: usize, worth: Worth) {
        *self.told.entry((cache, worth)).or_default() += 1;
    }

    /// What is to be told since the last time: cache, worth, how many keys.
    pub fn take(&mut self) -> impl Iterator<Item = (usize, Worth, u64)> + use<> {
        std::mem::take(&mut self.told).into_iter().map(|((cache, worth), n)| (cache, worth, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(worths: &mut Worths) -> Vec<(usize, Worth, u64)> {
        worths.take().collect()
    }

    proptest! {
        /// As Redis counts: both moments rounded down to a clock that lags by up to a tenth of a second.
        #[test]
        fn what_nobody_has_read_never_counts_as_read_and_what_was_read_late_always_does(
            stored in 0u64..100_000, age in 0u64..100_000, used in 0u64..100_000, lag in 0u64..100, late in 0u64..100,
        ) {
            let idle = |from: u64, to: u64| {
                Used::Idle(SECOND * u32::try_from((to.saturating_sub(late) / 1000).saturating_sub(from.saturating_sub(lag) / 1000)).unwrap())
            };
            let (end, long) = (stored + age, Duration::from_millis(age));
            prop_assert_ne!(Worth::of(long, idle(stored, end)), Worth::Read);
            let read = stored + used.min(age);
            if read >= stored + 2_700 {
                prop_assert_eq!(Worth::of(long, idle(read, end)), Worth::Read);
            }
        }
    }

    #[test]
    fn only_warmed_keys_are_asked_for_and_each_is_told_once() {
        let (mut w, t) = (Worths::default(), Instant::now());
        assert_eq!(w.ask(&[b"a"]), "", "nothing was warmed");
        for key in [b"a", b"b", b"c", b"d"] {
            w.stored(7, key, t);
        }
        assert_eq!(w.ask(&[b"x", b"a", b"b"]), "-ii");
        assert_eq!(w.ask(&[b"x"]), "");
        let later = t + 60 * SECOND;
        w.gone(b"a", IDLE, Some(10), later);
        w.gone(b"b", IDLE, Some(60), later);
        w.gone(b"c", IDLE, Some(0), t + SECOND);
        w.gone(b"d", IDLE, None, later);
        w.gone(b"x", IDLE, Some(10), later);
        w.gone(b"a", IDLE, Some(10), later);
        assert_eq!(told(&mut w), [(7, Worth::Read, 1), (7, Worth::Unread, 1), (7, Worth::Unknown, 1)]);
        assert_eq!(told(&mut w), []);
        assert_eq!(w.ask(&[b"a", b"d"]), "");
    }

    #[test]
    fn where_redis_counts_otherwise_it_is_asked_otherwise_and_without_the_right_no_more() {
        let (mut w, t) = (Worths::default(), Instant::now());
        for key in [b"a", b"b", b"c", b"d", b"e"] {
            w.stored(0, key, t);
        }
        for key in [b"a", b"e"] {
            w.refused(key, IDLE, "ERR An LFU maxmemory policy is selected, idle time not tracked");
        }
        assert_eq!(w.ask(&[b"b"]), "f");
        w.gone(b"b", OFTEN, Some(6), t);
        w.refused(b"c", OFTEN, "NOPERM this user has no permissions to run the 'object|freq' command");
        assert_eq!(w.ask(&[b"d"]), "");
        assert_eq!(told(&mut w), [(0, Worth::Read, 1), (0, Worth::Unknown, 3)]);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten() {
        let (mut w, t) = (Worths::default(), Instant::now());
        for n in 0..3 * HALF {
            w.stored(0, n.to_string().as_bytes(), t);
        }
        assert!(w.young.len() + w.old.len() <= 2 * HALF);
        assert_eq!(w.ask(&[b"0", (3 * HALF - 1).to_string().as_bytes()]), "-i");
    }
}
