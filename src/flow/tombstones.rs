//! What late fills must have seen: the tombstones of guarded caches, and the floor under them (HAZARDS 3.7, B3 to B5).
//!
//! A tombstone names what was evicted, a key or a rendered pattern, and the batch that evicted it; the batch names its
//! snapshot. A fill is refused unless its own snapshot contains that one. What no tombstone can name (a cache that
//! went whole) raises the floor, which every fill must contain. Tombstones go when the floor passes them, by age or by
//! size, so that they are bounded in Redis and here. All of it are fields of the position's hash: lost together or not
//! at all.

use crate::planted;
use crate::rules::snapshot::Snapshot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A fill that takes longer than this from its statement to its script is refused.
pub const LONGEST_FILL: Duration = Duration::from_secs(60);
/// More tombstones than this raise the floor. With keys of 30 bytes they are 9 MB in Redis (measured), and about as much here.
const MOST: usize = 100_000;
/// So do more bytes than this, counted as Redis holds them.
const MOST_BYTES: usize = 24 << 20;
/// What a field of a large hash costs Redis beside its name: the entry, two headers, the batch's number; 60 measured.
const OVERHEAD: usize = 64;

/// Field of the floor's snapshot.
pub const FLOOR: &str = "floor";
/// Field of the history that tokens must be of.
pub const HISTORY: &str = "history";
/// What the fields of guarded caches begin with; the value is `key` or `pattern`.
pub const GUARDED: &str = "g:";
/// What the fields of tombstones begin with; the value is the batch's number.
pub const TOMBSTONE: &str = "t:";
/// What the fields of batches begin with; the value is the snapshot.
pub const BATCH: &str = "b:";

/// Fields to write and fields to drop, in one script: first the drops, then the writes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writes {
    /// Field and value.
    pub set: Vec<(Vec<u8>, Vec<u8>)>,
    /// Fields that go.
    pub drop: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    snapshot: Snapshot,
    begun: Instant,
    names: Vec<Arc<[u8]>>,
    bytes: usize,
}

/// The tombstones of one session. Inactive until [`Tombstones::begin`].
#[derive(Debug, Default)]
pub struct Tombstones {
    /// Every fill must contain it; None: nothing is guarded.
    floor: Option<Snapshot>,
    /// The floor in Redis is older than `floor`.
    raised: bool,
    /// The newest snapshot that changes were read by.
    target: Option<Snapshot>,
    number: u64,
    /// Named, but not written yet; all of the newest batch.
    pending: VecDeque<Arc<[u8]>>,
    /// Written or pending, the oldest first. The last is the newest batch's when its number is `number`.
    batches: VecDeque<Batch>,
    /// The newest batch of each name.
    owner: HashMap<Arc<[u8]>, u64>,
    /// Passed by the floor, not yet dropped.
    passed: VecDeque<(u64, Vec<Arc<[u8]>>)>,
    /// Names and bytes of `batches`.
    count: usize,
    bytes: usize,
}

impl Tombstones {
    /// Guards from now on, with this floor; what was there before has been dropped.
    pub fn begin(&mut self, floor: Snapshot) {
        // Numbers go on: a batch of before must not be taken for one of after.
        *self = Self { number: self.number + 1, floor: Some(floor), raised: true, ..Self::default() };
    }

    /// Guards nothing from now on.
    pub fn end(&mut self) {
        *self = Self { number: self.number + 1, ..Self::default() };
    }

    /// Whether anything is guarded.
    #[must_use]
    pub fn guards(&self) -> bool {
        self.floor.is_some()
    }

    /// Changes are read by this snapshot from now on.
    pub fn read_by(&mut self, target: &Snapshot) {
        // A batch under way goes on below a floor that a flush has raised meanwhile: the floor says more.
        let newer = self.target.as_ref().is_none_or(|t| t != target && target.contains(t));
        if self.guards() && newer {
            self.target = Some(target.clone());
            // A batch that named nothing needs no number of its own.
            if self.batches.back().is_some_and(|b| b.number == self.number) {
                self.number += 1;
            }
        }
    }

    /// What whoever reads again must see: the snapshot that the newest changes were read by.
    #[must_use]
    pub fn newest(&self) -> Option<&Snapshot> {
        self.target.as_ref()
    }

    /// `name` is evicted by the batch under way.
    pub fn bury(&mut self, name: &[u8], now: Instant) {
        let Some(target) = self.target.as_ref().or(self.floor.as_ref()) else { return };
        if self.floor.as_ref().is_some_and(|f| f.contains(target)) || self.owner.get(name) == Some(&self.number) {
            return;
        }
        let name: Arc<[u8]> = name.into();
        let size = name.len() + OVERHEAD;
        if self.batches.back().is_none_or(|b| b.number != self.number) {
            let (number, snapshot) = (self.number, planted::tombstone(target, self.floor.as_ref()));
            let bytes = snapshot.to_string().len() + OVERHEAD;
            self.bytes += bytes;
            self.batches.push_back(Batch { number, snapshot, begun: now, names: Vec::new(), bytes });
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.names.push(name.clone());
            batch.bytes += size;
            self.bytes += size;
            self.count += 1;
        }
        self.owner.insert(name.clone(), self.number);
        self.pending.push_back(name);
        while self.count > MOST || self.bytes > MOST_BYTES {
            self.pass_oldest();
        }
    }

    /// The batch under way evicts what no fill names: fills must contain its snapshot whatever they name.
    pub fn widen(&mut self) {
        if let Some(target) = self.target.clone() {
            self.raise(target);
        }
    }

    /// Every fill must contain `floor` from now on.
    pub fn raise(&mut self, floor: Snapshot) {
        if self.floor.as_ref().is_none_or(|f| f.contains(&floor)) {
            return;
        }
        while self.batches.front().is_some_and(|b| floor.contains(&b.snapshot)) {
            self.pass_oldest();
        }
        self.floor = Some(floor);
        self.raised = true;
    }

    /// The floor passes what is older than [`LONGEST_FILL`].
    pub fn age(&mut self, now: Instant) {
        while self.batches.front().is_some_and(|b| now.saturating_duration_since(b.begun) >= LONGEST_FILL) {
            self.pass_oldest();
        }
    }

    /// Names that are not written yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether Redis lacks something that refuses fills.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.raised || !self.pending.is_empty()
    }

    /// Whether anything is to be written or dropped.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.owes() && self.passed.is_empty()
    }

    /// What the next script writes and drops, at most `most` names each.
    pub fn next(&mut self, most: usize) -> Writes {
        let mut out = Writes::default();
        if std::mem::take(&mut self.raised)
            && let Some(floor) = &self.floor
        {
            out.set.push((FLOOR.into(), floor.to_string().into_bytes()));
        }
        while out.drop.len() < most
            && let Some((number, names)) = self.passed.front_mut()
        {
            let Some(name) = names.pop() else {
                out.drop.push(field(BATCH, number.to_string().as_bytes()));
                self.passed.pop_front();
                continue;
            };
            // A newer batch may have named it again since: that tombstone stays.
            if self.owner.get(&name) == Some(number) {
                self.owner.remove(&name);
                out.drop.push(field(TOMBSTONE, &name));
            }
        }
        // A batch's snapshot goes with its first names, before or with any of them.
        if let Some(batch) = self.batches.back().filter(|_| !self.pending.is_empty()) {
            let number = batch.number.to_string().into_bytes();
            out.set.push((field(BATCH, &number), batch.snapshot.to_string().into_bytes()));
            for name in self.pending.drain(..most.min(self.pending.len())) {
                if self.owner.contains_key(&name) {
                    out.set.push((field(TOMBSTONE, &name), number.clone()));
                }
            }
        }
        out
    }

    fn pass_oldest(&mut self) {
        let Some(batch) = self.batches.pop_front() else { return };
        self.bytes -= batch.bytes;
        self.count -= batch.names.len();
        if self.batches.is_empty() {
            // What it named needs no tombstone under this floor.
            self.pending.clear();
            self.number += 1;
        }
        self.passed.push_back((batch.number, batch.names));
        if self.floor.as_ref().is_some_and(|f| !f.contains(&batch.snapshot)) {
            self.floor = Some(batch.snapshot);
            self.raised = true;
        }
    }
}

fn field(prefix: &str, name: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(x: u64) -> Snapshot {
        format!("{x}:{x}:").parse().unwrap()
    }

    /// What Redis holds after some writes.
    #[derive(Default)]
    struct Hash(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Hash {
        fn apply(&mut self, writes: Writes) {
            writes.drop.iter().for_each(|f| drop(self.0.remove(f)));
            self.0.extend(writes.set);
        }

        fn text(&self, field: &str) -> Option<String> {
            Some(String::from_utf8(self.0.get(field.as_bytes())?.clone()).unwrap())
        }

        /// What a fill of `name` must contain.
        fn accepts(&self, name: &str, fill: &Snapshot) -> bool {
            let batch = self.text(&format!("t:{name}")).and_then(|n| self.text(&format!("b:{n}")));
            let floor = self.text("floor").unwrap();
            batch.into_iter().chain([floor]).all(|s| fill.contains(&s.parse().unwrap()))
        }
    }

    fn flush(t: &mut Tombstones, hash: &mut Hash) {
        while !t.is_settled() {
            hash.apply(t.next(2));
        }
    }

    #[test]
    fn a_name_is_refused_to_fills_that_lack_its_newest_batch_and_to_nobody_else() {
        let (mut t, mut hash, now) = (Tombstones::default(), Hash::default(), Instant::now());
        t.bury(b"ignored", now);
        assert!(t.is_settled(), "nothing is guarded yet");
        t.begin(at(10));
        t.read_by(&at(11));
        ["a", "b", "c"].iter().for_each(|n| t.bury(n.as_bytes(), now));
        flush(&mut t, &mut hash);
        t.read_by(&at(12));
        t.bury(b"a", now);
        flush(&mut t, &mut hash);
        assert!(!hash.accepts("a", &at(11)) && hash.accepts("a", &at(12)));
        assert!(!hash.accepts("b", &at(10)) && hash.accepts("b", &at(11)));
        assert!(hash.accepts("other", &at(10)) && !hash.accepts("other", &at(9)));
    }

    #[test]
    fn age_raises_the_floor_over_what_it_drops_and_keeps_what_was_named_again() {
        let (mut t, mut hash, now) = (Tombstones::default(), Hash::default(), Instant::now());
        t.begin(at(10));
        t.read_by(&at(11));
        t.bury(b"a", now);
        t.bury(b"b", now);
        t.read_by(&at(12));
        t.bury(b"a", now + LONGEST_FILL / 2);
        flush(&mut t, &mut hash);
        t.age(now + LONGEST_FILL);
        flush(&mut t, &mut hash);
        assert_eq!(hash.text("floor").unwrap(), "11:11:");
        assert_eq!((hash.text("t:b"), hash.text("b:1")), (None, None));
        assert!(!hash.accepts("a", &at(11)), "its newer tombstone went with the older one");
        t.age(now + 2 * LONGEST_FILL);
        flush(&mut t, &mut hash);
        assert_eq!(hash.0.len(), 1, "{:?}", hash.0);
    }

    #[test]
    fn a_whole_form_raises_the_floor_and_it_never_sinks_again() {
        let (mut t, mut hash, now) = (Tombstones::default(), Hash::default(), Instant::now());
        t.begin(at(10));
        t.read_by(&at(11));
        t.bury(b"a", now);
        t.widen();
        assert_eq!(t.pending(), 0);
        t.raise(at(15));
        // A batch that was begun before the flush goes on.
        t.read_by(&at(12));
        t.bury(b"b", now);
        t.age(now + LONGEST_FILL);
        flush(&mut t, &mut hash);
        assert_eq!(hash.text("floor").unwrap(), "15:15:");
        assert_eq!(hash.0.len(), 1);
    }

    #[test]
    fn too_many_raise_the_floor_and_are_bounded() {
        let (mut t, now) = (Tombstones::default(), Instant::now());
        t.begin(at(1));
        for batch in 2..10u64 {
            t.read_by(&at(batch));
            (0..30_000u32).for_each(|n| t.bury(format!("{batch} {n}").as_bytes(), now));
            while !t.is_settled() {
                t.next(1_000);
            }
        }
        assert!(t.owner.len() <= MOST + 30_000 && t.bytes <= MOST_BYTES, "{} {}", t.owner.len(), t.bytes);
        assert_eq!(t.floor, Some(at(6)));
        t.read_by(&at(11));
        (0..=MOST).for_each(|n| t.bury(format!("{n}").as_bytes(), now));
        assert_eq!(t.floor, Some(at(11)), "one batch alone is too many");
    }

    proptest! {
        /// Whatever happens in whatever order and however it is cut into scripts: what was evicted by a batch is never
        /// accepted from a fill that lacks that batch.
        #[test]
        fn nothing_evicted_is_ever_accepted_from_before(steps in prop::collection::vec((0u8..8, 0u8..6), 1..60)) {
            let (mut t, mut hash, now) = (Tombstones::default(), Hash::default(), Instant::now());
            t.begin(at(10));
            t.read_by(&at(11));
            let (mut target, mut clock) = (11, now);
            let mut evicted: BTreeMap<String, u64> = BTreeMap::new();
            let mut all = 10;
            for (what, n) in steps {
                match what {
                    0..=2 => {
                        t.bury(n.to_string().as_bytes(), clock);
                        evicted.insert(n.to_string(), target);
                    }
                    3 => { target += 1; t.read_by(&at(target)); }
                    4 => { t.widen(); all = target; }
                    5 => { clock += LONGEST_FILL / 3; t.age(clock); }
                    _ => hash.apply(t.next(2)),
                }
            }
            while t.owes() { hash.apply(t.next(2)); }
            for (name, since) in &evicted {
                prop_assert!(!hash.accepts(name, &at(since - 1)), "{name} {since}");
            }
            prop_assert!(!hash.accepts("never named", &at(all - 1)));
            prop_assert!(hash.accepts("0", &at(target)));
            flush(&mut t, &mut hash);
            for (name, since) in &evicted {
                prop_assert!(!hash.accepts(name, &at(since - 1)), "{name} {since}");
            }
        }
    }
}
