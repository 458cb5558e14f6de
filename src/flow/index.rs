//! The live key index: which keys Redis holds under the prefixes of pattern caches, so that a pattern is answered without
//! a walk over the keyspace.
//!
//! Redis reports every key under a tracked prefix that is written, deleted or expires, without saying which of these, so
//! the index may hold keys that are gone, and never lacks one that is there. Before it answers, a PING must have come
//! back on the connection that carries the reports (HAZARDS B8): what was written and acknowledged before is in then.
//! Keys that are gone are found by asking for some of them every second.

mod keys;

use crate::planted;
use crate::rules::glob;
use keys::Keys;
use std::collections::HashSet;

/// Prefixes that are tracked at most: each costs Redis with every write (HAZARDS B17).
const MOST_PREFIXES: usize = 4;
/// Keys that are asked for in a second at least, so that an index of which nothing is reported is cleaned up too.
const LEAST_CHECKS: usize = 20;
/// And at most: 2 000 questions take Redis about a millisecond.
const MOST_CHECKS: usize = 2_000;

/// What the index can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Live,
    /// A walk over the keyspace fills it; reports are taken in already.
    Filling,
    /// Redis reported something that no key stands for; a walk must fill it again.
    Broken,
    /// The keys need more memory than they may have.
    Full,
}

impl State {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Filling => "filling",
            Self::Broken => "broken",
            Self::Full => "full",
        }
    }
}

/// The index.
#[derive(Debug, PartialEq, Eq)]
pub struct Index {
    state: State,
    keys: Keys,
    /// No prefix begins with another one.
    prefixes: Vec<Vec<u8>>,
    limit: usize,
    /// Keys that were asked for and not reported since.
    asked: HashSet<Vec<u8>>,
    /// Keys that are being deleted and were not reported since.
    leaving: HashSet<Vec<u8>>,
    /// Where the next question begins.
    sweep: Vec<u8>,
    /// Questions that are owed: two for each report, since each may be of a key that is gone. So what was asked for about as
    /// many keys as there are is the whole index.
    owed: usize,
    /// Many of the last questions were about keys that are gone: more of them are next to these.
    haunted: bool,
}

impl Index {
    /// An empty one for `prefixes` (see [`cover`]), within `limit` bytes of memory.
    #[must_use]
    pub fn new(prefixes: Vec<Vec<u8>>, limit: usize) -> Self {
        Self {
            state: State::Broken,
            keys: Keys::default(),
            prefixes,
            limit,
            asked: HashSet::new(),
            leaving: HashSet::new(),
            sweep: Vec::new(),
            owed: 0,
            haunted: false,
        }
    }

    /// What it can do.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How many keys it holds, and about how many bytes they take.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.keys.len(), self.keys.bytes())
    }

    /// The tracked prefixes.
    #[must_use]
    pub fn prefixes(&self) -> &[Vec<u8>] {
        &self.prefixes
    }

    /// Whether all matches of `pattern` are under a tracked prefix.
    #[must_use]
    pub fn covers(&self, pattern: &[u8]) -> bool {
        let literal = glob::literal_prefix(pattern);
        self.prefixes.iter().any(|p| literal.starts_with(p))
    }

    /// A walk over the keyspace begins, reports are coming in. What was known goes: after somebody's FLUSHALL it would be
    /// millions of keys that are gone, and whatever is there is found by the walk or reported during it.
    pub fn filling(&mut self) {
        self.state = State::Filling;
        self.keys = Keys::default();
        self.asked.clear();
        self.leaving.clear();
        self.sweep.clear();
        (self.owed, self.haunted) = (0, false);
    }

    /// The walk is over: every key that was there all the time was found by it, every other one was reported.
    pub fn filled(&mut self) {
        if self.state == State::Filling {
            self.state = State::Live;
        }
    }

    /// Redis reported something that stands for any number of keys.
    pub fn broken(&mut self) {
        if self.state != State::Full && !planted::is("kept-index") {
            self.state = State::Broken;
        }
    }

    /// A key was reported.
    pub fn add(&mut self, key: &[u8]) {
        self.owed = self.owed.saturating_add(2);
        self.found(key);
    }

    /// A walk has found a key.
    pub fn found(&mut self, key: &[u8]) {
        self.asked.remove(key);
        self.leaving.remove(key);
        if self.state == State::Full || !self.prefixes.iter().any(|p| key.starts_with(p)) {
            return;
        }
        self.keys.insert(key);
        if self.keys.bytes() > self.limit {
            self.state = State::Full;
            self.keys = Keys::default();
            self.asked.clear();
            self.leaving.clear();
        }
    }

    /// These keys are about to be deleted by us.
    pub fn leaving<'k>(&mut self, keys: impl IntoIterator<Item = &'k [u8]>) {
        self.leaving = keys.into_iter().map(<[u8]>::to_vec).collect();
    }

    /// They were deleted. One that was reported meanwhile may have been written again right after, and stays; so does,
    /// until it is asked for, one whose report is of the very delete.
    pub fn left(&mut self) {
        for key in self.leaving.drain() {
            self.keys.remove(&key);
        }
    }

    /// The first `most` keys from `from` on that match `pattern`, and perhaps some that are gone; where there may be more,
    /// also where to go on. Looks at no more keys than `looks`, and counts them off: reports wait meanwhile.
    #[must_use]
    pub fn matches(
        &self,
        pattern: &[u8],
        from: &[u8],
        most: usize,
        looks: &mut usize,
    ) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let literal = glob::literal_prefix(pattern);
        let (mut found, mut next): (Vec<Vec<u8>>, _) = (Vec::new(), None);
        self.keys.visit(&literal, from, |key| {
            *looks = looks.saturating_sub(1);
            if glob::matches(pattern, key) {
                found.push(key.to_vec());
            }
            let goes_on = found.len() < most && *looks > 0;
            if !goes_on {
                next = Some([key, &[0]].concat());
            }
            goes_on
        });
        (found, next)
    }

    /// The next keys to ask Redis for, so that what is gone does not pile up.
    pub fn questions(&mut self) -> Vec<Vec<u8>> {
        if self.state != State::Live {
            return Vec::new();
        }
        let most = if self.haunted { MOST_CHECKS } else { self.owed.clamp(LEAST_CHECKS, MOST_CHECKS) };
        let most = most.min(self.keys.len());
        // Once round is enough.
        self.owed = self.owed.min(self.keys.len()).saturating_sub(most);
        let mut out: Vec<Vec<u8>> = Vec::with_capacity(most);
        for from in [std::mem::take(&mut self.sweep), Vec::new()] {
            // The second round begins at the start and ends where the first one began, or sooner.
            let seen: HashSet<Vec<u8>> = out.iter().cloned().collect();
            self.keys.visit(b"", &from, |key| {
                if out.len() < most && !seen.contains(key) {
                    out.push(key.to_vec());
                }
                out.len() < most
            });
        }
        self.sweep = out.last().map_or_else(Vec::new, |last| [last.as_slice(), &[0]].concat());
        self.asked = out.iter().cloned().collect();
        out
    }

    /// The answers: those that are not there go, unless they were reported since they were asked for.
    pub fn answers(&mut self, questions: &[Vec<u8>], there: &[bool]) {
        for (key, there) in questions.iter().zip(there) {
            if !there && self.asked.contains(key) {
                self.keys.remove(key);
            }
        }
        self.asked.clear();
        let gone = there.iter().filter(|there| !**there).count();
        self.haunted = gone > 0 && 4 * gone >= questions.len();
    }

    /// Whether the next questions should come soon.
    #[must_use]
    pub fn is_haunted(&self) -> bool {
        self.haunted
    }
}

/// The prefixes to track for these beginnings of patterns: none begins with another (Redis refuses that), at most four.
/// Beginnings that have nothing in common with one of these are left out; patterns under them are found by SCAN.
#[must_use]
pub fn cover(beginnings: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut prefixes: Vec<Vec<u8>> = beginnings.iter().filter(|b| !b.is_empty()).cloned().collect();
    loop {
        prefixes.sort();
        // Sorted, so whatever begins with another one stands behind it.
        prefixes.dedup_by(|long, short| long.starts_with(short));
        if prefixes.len() <= MOST_PREFIXES {
            return prefixes;
        }
        let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        // Neighbours share the most. Of equal ones the shorter beginning loses less.
        let best = (1..prefixes.len()).max_by_key(|i| common(&prefixes[i - 1], &prefixes[*i]));
        let Some(i) = best else { return prefixes };
        match common(&prefixes[i - 1], &prefixes[i]) {
            0 => prefixes.truncate(MOST_PREFIXES),
            shared => {
                prefixes[i - 1].truncate(shared);
                prefixes.remove(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(prefixes: &[&str], keys: &[&str]) -> Index {
        let mut index = Index::new(prefixes.iter().map(|p| p.as_bytes().to_vec()).collect(), 1 << 20);
        index.filling();
        keys.iter().for_each(|k| index.add(k.as_bytes()));
        index.filled();
        index
    }

    fn matches(index: &Index, pattern: &str) -> Vec<String> {
        let (mut out, mut from) = (Vec::new(), Some(Vec::new()));
        while let Some(at) = from {
            let (found, next) = index.matches(pattern.as_bytes(), &at, 2, &mut 3);
            out.extend(found.into_iter().map(|key| String::from_utf8(key).unwrap()));
            from = next;
        }
        out
    }

    #[test]
    fn a_pattern_is_answered_with_its_matches_alone() {
        let index = live(&["s:"], &["s:1:a", "s:1:b", "s:10:a", "s:2:a", "other"]);
        assert_eq!(matches(&index, "s:1:*"), ["s:1:a", "s:1:b"]);
        assert_eq!(matches(&index, "s:*:a"), ["s:10:a", "s:1:a", "s:2:a"]);
        assert_eq!(matches(&index, "other"), [""; 0], "not under a tracked prefix");
        assert!(index.covers(b"s:1:*") && !index.covers(b"t:*") && !index.covers(b"*"));
    }

    #[test]
    fn a_key_that_is_gone_is_found_by_asking_and_one_that_came_back_stays() {
        let mut index = live(&["s:"], &["s:1", "s:2", "s:3"]);
        let asked = index.questions();
        assert_eq!(asked.len(), 3);
        index.add(b"s:2");
        index.answers(&asked, &[false, false, true]);
        assert_eq!(matches(&index, "s:*"), ["s:2", "s:3"], "s:2 was written after the question");
    }

    #[test]
    fn a_key_that_is_written_again_while_it_is_deleted_stays() {
        let mut index = live(&["s:"], &["s:1", "s:2"]);
        index.leaving([b"s:1".as_slice(), b"s:2"]);
        index.add(b"s:1");
        index.left();
        assert_eq!(matches(&index, "s:*"), ["s:1"]);
    }

    #[test]
    fn questions_go_round() {
        let names: Vec<String> = (0..50).map(|i| format!("s:{i:03}")).collect();
        let mut index = live(&["s:"], &names.iter().map(String::as_str).collect::<Vec<_>>());
        index.owed = 0;
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let asked = index.questions();
            assert_eq!(asked.len(), LEAST_CHECKS);
            index.answers(&asked, &vec![true; asked.len()]);
            seen.extend(asked);
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn what_is_owed_in_questions_is_paid_in_later_rounds_and_faster_where_keys_are_gone() {
        let names: Vec<String> = (0..10_000).map(|i| format!("s:{i:05}")).collect();
        let mut index = live(&["s:"], &names.iter().map(String::as_str).collect::<Vec<_>>());
        let rounds = |index: &mut Index, there: bool| {
            let mut rounds = 0;
            while index.owed > 0 || index.is_haunted() {
                let asked = index.questions();
                assert!(asked.len() <= MOST_CHECKS);
                index.answers(&asked, &vec![there; asked.len()]);
                rounds += 1;
            }
            rounds
        };
        assert_eq!(rounds(&mut index, true), 5, "once round");
        let asked = index.questions();
        assert_eq!(asked.len(), LEAST_CHECKS);
        index.answers(&asked, &vec![false; asked.len()]);
        assert!(index.is_haunted());
        assert_eq!(rounds(&mut index, false), 6);
        assert_eq!(index.size().0, 0);
    }

    #[test]
    fn a_walk_begins_with_nothing_and_what_is_reported_during_it_stays() {
        let mut index = live(&["s:"], &["s:gone"]);
        index.broken();
        index.filling();
        index.add(b"s:new");
        index.found(b"s:old");
        index.filled();
        assert_eq!(matches(&index, "s:*"), ["s:new", "s:old"]);
    }

    #[test]
    fn it_answers_only_after_a_whole_walk_and_not_after_a_report_without_a_key() {
        let mut index = Index::new(vec![b"s:".to_vec()], 1 << 20);
        assert_eq!(index.state(), State::Broken);
        index.filling();
        index.broken();
        index.filled();
        assert_eq!(index.state(), State::Broken, "the walk may have passed what came without a report");
        index.filling();
        index.filled();
        assert_eq!(index.state(), State::Live);
    }

    #[test]
    fn memory_is_bounded() {
        let mut index = Index::new(vec![b"s:".to_vec()], 10_000);
        index.filling();
        (0..10_000u64).for_each(|i| index.add(format!("s:{:x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes()));
        assert_eq!((index.state(), index.size().0), (State::Full, 0));
        index.filled();
        index.broken();
        assert_eq!(index.state(), State::Full);
    }

    #[test]
    fn the_cover_is_free_of_prefixes_and_small() {
        let check = |given: &[&str], expected: &[&str]| {
            let given: Vec<_> = given.iter().map(|p| p.as_bytes().to_vec()).collect();
            let found: Vec<_> = cover(&given).into_iter().map(|p| String::from_utf8(p).unwrap()).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&["", "b:", "a:", "a:x:", "a:"], &["a:", "b:"]);
        check(
            &["app:v1:s:", "app:v1:t:", "app:v2:s:", "app:v2:t:", "x:"],
            &["app:v1:s:", "app:v1:t:", "app:v2:", "x:"],
        );
        check(&["a", "b", "c", "d", "e"], &["a", "b", "c", "d"]);
        check(&["aa1", "ab1", "aa2", "ab2", "aa3", "ab3", "c"], &["aa", "ab", "c"]);
    }
}
