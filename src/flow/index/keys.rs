//! A sorted set of keys in little memory: blocks of at most 128 keys, each written as what differs from its predecessor.
//!
//! Keys of one cache share most of their bytes, so a key of 27 bytes takes about 10 here (a `BTreeSet<Box<[u8]>>` needs 84,
//! a radix tree 59). A change rewrites one block, which costs about a microsecond.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

/// Keys of a block before it is split; decoding a whole one stays near a microsecond.
const MOST: usize = 128;
/// A block that shrinks below this is joined with its successor, if both fit.
const FEW: usize = 24;
/// What a block costs beside its bytes: its place in the tree, two vectors, an allocation each. An estimate.
const BLOCK_COST: usize = 96;

/// The set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// By a lower bound of what is in the block; the first block's is empty.
    blocks: BTreeMap<Box<[u8]>, Block>,
    count: usize,
    bytes: usize,
}

/// Entries one after the other: length shared with the predecessor, length of the rest, the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Block {
    data: Vec<u8>,
    count: usize,
}

/// Where a key stands in a block, or would.
struct Place {
    /// The first entry that is not smaller begins here.
    at: usize,
    /// What that entry's predecessor shares with the key.
    shared: usize,
    /// The entry there: its full key, and where it ends.
    next: Option<(Vec<u8>, usize)>,
}

impl Keys {
    /// How many keys.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// About how many bytes of memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.blocks.len() * BLOCK_COST
    }

    /// Adds a key; whether it is new.
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        let Some((bound, block)) = self.blocks.range_mut::<[u8], _>((Unbounded, Included(key))).next_back() else {
            self.blocks.insert(Box::default(), Block::default());
            return self.insert(key);
        };
        let before = block.data.capacity();
        if !block.insert(key) {
            return false;
        }
        self.count += 1;
        if block.count > MOST {
            let bound = bound.clone();
            let (first, second, middle) = block.split();
            *block = first;
            self.bytes += block.data.capacity() + second.data.capacity() + middle.len();
            self.bytes -= before;
            debug_assert!(*middle > *bound);
            self.blocks.insert(middle, second);
        } else {
            self.bytes += block.data.capacity();
            self.bytes -= before;
        }
        true
    }

    /// Removes a key; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((bound, block)) = self.blocks.range_mut::<[u8], _>((Unbounded, Included(key))).next_back() else {
            return false;
        };
        let before = block.data.capacity();
        if !block.remove(key) {
            return false;
        }
        self.count -= 1;
        self.bytes += block.data.capacity();
        self.bytes -= before;
        if block.count < FEW {
            let bound = bound.clone();
            self.join(&bound);
        }
        true
    }

    /// Visits the keys that begin with `prefix` and are not smaller than `from`, in order, until `visit` says no.
    pub(super) fn visit(&self, prefix: &[u8], from: &[u8], mut visit: impl FnMut(&[u8]) -> bool) {
        let start = from.max(prefix);
        let first =
            self.blocks.range::<[u8], _>((Unbounded, Included(start))).next_back().map_or(&[][..], |(bound, _)| bound);
        for block in self.blocks.range::<[u8], _>((Included(first), Unbounded)).map(|(_, block)| block) {
            let mut key = Vec::new();
            let mut at = 0;
            while at < block.data.len() {
                at = block.read(at, &mut key);
                if key.as_slice() < start {
                    continue;
                }
                if !key.starts_with(prefix) || !visit(&key) {
                    return;
                }
            }
        }
    }

    /// Joins a small block with its successor, so that blocks do not pile up where keys come and go.
    fn join(&mut self, bound: &[u8]) {
        let mut rest = self.blocks.range::<[u8], _>((Included(bound), Unbounded));
        let (Some((_, small)), Some((after, next))) = (rest.next(), rest.next()) else { return };
        if small.count + next.count > MOST / 2 {
            return;
        }
        let after = after.clone();
        let Some(next) = self.blocks.remove(&after) else { return };
        let Some(small) = self.blocks.get_mut(bound) else { return };
        let before = small.data.capacity() + next.data.capacity() + after.len();
        let mut joined = Writer::default();
        for block in [&*small, &next] {
            block.each(|key| joined.push(key));
        }
        *small = joined.block();
        self.bytes += small.data.capacity();
        self.bytes -= before;
    }
}

impl Block {
    /// Reads the entry at `at` over its predecessor in `key`; returns where the next one begins.
    fn read(&self, at: usize, key: &mut Vec<u8>) -> usize {
        let (shared, at) = number(&self.data, at);
        let (rest, at) = number(&self.data, at);
        key.truncate(shared);
        key.extend_from_slice(&self.data[at..at + rest]);
        at + rest
    }

    fn each(&self, mut visit: impl FnMut(&[u8])) {
        let (mut key, mut at) = (Vec::new(), 0);
        while at < self.data.len() {
            at = self.read(at, &mut key);
            visit(&key);
        }
    }

    fn find(&self, key: &[u8]) -> Place {
        let (mut entry, mut at, mut shared) = (Vec::new(), 0, 0);
        while at < self.data.len() {
            let end = self.read(at, &mut entry);
            if entry.as_slice() >= key {
                return Place { at, shared, next: Some((entry, end)) };
            }
            shared = common(&entry, key);
            at = end;
        }
        Place { at, shared, next: None }
    }

    fn insert(&mut self, key: &[u8]) -> bool {
        let place = self.find(key);
        let mut entry = Vec::with_capacity(key.len() + 8);
        put(&mut entry, place.shared, &key[place.shared..]);
        let mut end = place.at;
        if let Some((next, next_end)) = place.next {
            if next == key {
                return false;
            }
            // The successor is written anew, for it has another predecessor now.
            let shared = common(key, &next);
            put(&mut entry, shared, &next[shared..]);
            end = next_end;
        }
        self.data.reserve_exact(entry.len());
        self.data.splice(place.at..end, entry);
        self.count += 1;
        true
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Place { at, shared, next: Some((found, end)) } = self.find(key) else { return false };
        if found != key {
            return false;
        }
        let (mut entry, mut until) = (Vec::new(), end);
        if end < self.data.len() {
            let mut next = found;
            until = self.read(end, &mut next);
            let shared = shared.min(common(key, &next));
            put(&mut entry, shared, &next[shared..]);
        }
        self.data.splice(at..until, entry);
        self.count -= 1;
        self.data.shrink_to(self.data.len() + 64);
        true
    }

    /// Two halves, and the first key of the second.
    fn split(&self) -> (Self, Self, Box<[u8]>) {
        let (mut first, mut second, mut middle) = (Writer::default(), Writer::default(), Vec::new());
        self.each(|key| {
            if first.count < self.count / 2 {
                first.push(key);
            } else {
                if second.count == 0 {
                    middle = key.to_vec();
                }
                second.push(key);
            }
        });
        (first.block(), second.block(), middle.into_boxed_slice())
    }
}

/// Writes keys that come in order.
#[derive(Default)]
struct Writer {
    data: Vec<u8>,
    last: Vec<u8>,
    count: usize,
}

impl Writer {
    fn push(&mut self, key: &[u8]) {
        debug_assert!(self.count == 0 || self.last.as_slice().cmp(key) == Ordering::Less);
        let shared = common(&self.last, key);
        put(&mut self.data, shared, &key[shared..]);
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
        self.count += 1;
    }

    fn block(mut self) -> Block {
        self.data.shrink_to_fit();
        Block { data: self.data, count: self.count }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn put(out: &mut Vec<u8>, shared: usize, rest: &[u8]) {
    for mut n in [shared, rest.len()] {
        while n >= 0x80 {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    out.extend_from_slice(rest);
}

fn number(data: &[u8], mut at: usize) -> (usize, usize) {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = data[at];
        at += 1;
        n |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (n, at);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn all(keys: &Keys, prefix: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        keys.visit(prefix, b"", |key| {
            out.push(key.to_vec());
            true
        });
        out
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "(user|user_stats):[0-9]{1,2}:[ab]{0,3}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..4),
            Just(vec![b'k'; 300]),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(ops in proptest::collection::vec((any::<bool>(), key()), 0..400), prefix in key()) {
            let (mut keys, mut model) = (Keys::default(), BTreeSet::new());
            for (add, key) in ops {
                if add {
                    prop_assert_eq!(keys.insert(&key), model.insert(key));
                } else {
                    prop_assert_eq!(keys.remove(&key), model.remove(&key));
                }
            }
            prop_assert_eq!(keys.len(), model.len());
            prop_assert_eq!(all(&keys, b""), model.iter().cloned().collect::<Vec<_>>());
            let expected: Vec<_> = model.iter().filter(|k| k.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(all(&keys, &prefix), expected);
            let used: usize = keys.blocks.iter().map(|(b, block)| b.len() + block.data.capacity()).sum();
            prop_assert_eq!(keys.bytes, used);
        }
    }

    #[test]
    fn many_keys_take_little_memory_and_leave_none_behind() {
        let mut keys = Keys::default();
        let name = |i: u64| format!("user_stats:{:07}:week:{}", i.wrapping_mul(7919) % 30_000, i % 7).into_bytes();
        for i in 0..30_000 {
            keys.insert(&name(i));
        }
        let each = keys.bytes() / keys.len();
        assert!(each <= 20, "{each} bytes a key");
        for i in 0..30_000 {
            keys.remove(&name(i));
        }
        assert_eq!(keys.len(), 0);
        assert!(keys.bytes() < 2_000 && keys.blocks.len() <= 2, "{} bytes, {} blocks", keys.bytes(), keys.blocks.len());
    }

    #[test]
    fn a_visit_goes_on_from_where_it_was_left() {
        let mut keys = Keys::default();
        for i in 0..1000 {
            keys.insert(format!("a:{i:03}").as_bytes());
        }
        let mut seen = 0;
        keys.visit(b"a:", b"a:990", |_| {
            seen += 1;
            seen < 5
        });
        assert_eq!(seen, 5);
    }
}
