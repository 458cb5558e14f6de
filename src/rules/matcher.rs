//! Many patterns against one key at a time.
//!
//! A pattern is filed under the literal bytes that all its matches begin with. A key is looked up once for every
//! distinct length of these, so thousands of patterns that differ in their first hole cost as much as a handful.
//! Patterns that share their literal beginning are tried one after the other.

use super::glob;
use std::collections::HashMap;

/// A set of patterns, indexed.
#[derive(Debug, Clone)]
pub struct Matcher {
    patterns: Vec<Vec<u8>>,
    /// By length of the literal beginning, shortest first.
    filed: Vec<(usize, Drawer)>,
}

/// Literal beginnings of one length → their patterns.
type Drawer = HashMap<Vec<u8>, Vec<usize>>;

impl Matcher {
    /// Files the patterns; they keep their indices.
    #[must_use]
    pub fn new(patterns: Vec<Vec<u8>>) -> Self {
        let mut filed: HashMap<usize, Drawer> = HashMap::new();
        for (i, pattern) in patterns.iter().enumerate() {
            let prefix = glob::literal_prefix(pattern);
            filed.entry(prefix.len()).or_default().entry(prefix).or_default().push(i);
        }
        let mut filed: Vec<_> = filed.into_iter().collect();
        filed.sort_unstable_by_key(|(length, _)| *length);
        Self { patterns, filed }
    }

    /// The patterns, as they were given.
    #[must_use]
    pub fn patterns(&self) -> &[Vec<u8>] {
        &self.patterns
    }

    /// Indices of all patterns that match `key`, ascending.
    #[must_use]
    pub fn matching(&self, key: &[u8]) -> Vec<usize> {
        let mut out = Vec::new();
        for (length, beginnings) in &self.filed {
            let Some(beginning) = key.get(..*length) else { break };
            let candidates = beginnings.get(beginning).into_iter().flatten().copied();
            out.extend(candidates.filter(|i| glob::matches(&self.patterns[*i], key)));
        }
        out.sort_unstable();
        out
    }

    /// The narrowest argument of `SCAN … MATCH` that lets every match of every pattern through: the pattern itself
    /// where there is one, otherwise what all have in common and `*`.
    #[must_use]
    pub fn scan_match(&self) -> Vec<u8> {
        if let [only] = self.patterns.as_slice() {
            return only.clone();
        }
        let mut beginnings = self.filed.iter().flat_map(|(_, b)| b.keys());
        let Some(first) = beginnings.next() else { return Vec::new() };
        let common =
            beginnings.fold(first.len(), |n, other| first[..n].iter().zip(other).take_while(|(a, b)| a == b).count());
        let mut out = glob::escape(&first[..common]);
        out.push(b'*');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(patterns: &[&str]) -> Matcher {
        Matcher::new(patterns.iter().map(|p| p.as_bytes().to_vec()).collect())
    }

    fn scan(patterns: &[&str]) -> String {
        String::from_utf8(matcher(patterns).scan_match()).unwrap()
    }

    #[test]
    fn one_walk_serves_what_the_patterns_have_in_common() {
        assert_eq!(scan(&["user:7:*"]), "user:7:*");
        assert_eq!(scan(&["user:7:*", "user_stats:*"]), "user*");
        assert_eq!(scan(&["u:\\*:a*", "u:\\*:b*"]), "u:\\*:*");
        assert_eq!(scan(&["user:*", "*"]), "*");
        assert_eq!(scan(&[]), "");
    }

    #[test]
    fn a_key_finds_every_pattern_that_matches_it() {
        let m = matcher(&["user:7:*", "other:*", "user:*", "*:7:x", "user:7:x"]);
        assert_eq!(m.matching(b"user:7:x"), [0, 2, 3, 4]);
        assert_eq!(m.matching(b"user:8:y"), [2]);
        assert!(m.matching(b"nobody").is_empty());
    }

    proptest! {
        #[test]
        fn the_index_answers_as_asking_each_pattern_would(
            patterns in prop::collection::vec("[ab:]{0,3}[*?]{0,1}[]ab*?:^\\\\\\[-]{0,5}", 0..12),
            keys in prop::collection::vec("[]ab:*^-]{0,7}", 1..12),
        ) {
            let patterns: Vec<Vec<u8>> = patterns.into_iter().map(String::into_bytes).collect();
            let m = Matcher::new(patterns.clone());
            let through = m.scan_match();
            for key in keys {
                let each: Vec<usize> =
                    (0..patterns.len()).filter(|i| glob::matches(&patterns[*i], key.as_bytes())).collect();
                prop_assert!(each.is_empty() || glob::matches(&through, key.as_bytes()));
                prop_assert_eq!(m.matching(key.as_bytes()), each);
            }
        }

        #[test]
        fn no_bytes_panic(patterns in any::<Vec<Vec<u8>>>(), key in any::<Vec<u8>>()) {
            let m = Matcher::new(patterns);
            let _ = (m.matching(&key), m.scan_match());
        }
    }
}
