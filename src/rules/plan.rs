//! What a batch of statements names, merged: a target named twice goes once, a pattern swallows what it covers.
//!
//! Who asked for a target is kept, so that what became of it can be told to every statement. Swallowing only saves
//! work, so it may overlook a cover but must stay cheap: targets are sorted by their literal beginning and compared
//! with a bounded number of patterns, never each with each.

use super::glob;
use super::mapping::{EdgeRef, Target};
use super::template::{Kind, Rendered};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Keys in one command or script: `UNLINK` gains nothing beyond (FACTS), and Redis is blocked no longer than 0.2 ms.
pub const CHUNK: usize = 1_000;

/// Patterns with the same literal beginning that one target is compared with. The shortest come first: `user:*` is
/// what covers, not its thousandth neighbour.
const SAME_BEGINNING: usize = 4;
/// Different literal beginnings, each a beginning of the next, that one target is compared with.
const NESTED: usize = 16;

/// A statement's wish for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// Index of the statement, as given to [`Builder::add`].
    pub statement: usize,
    /// Which edge of the statement's layout.
    pub edge: EdgeRef,
    /// In [`crate::config::model::Config::caches`].
    pub cache: usize,
    /// In [`crate::config::model::Namespace::prefixes`].
    pub prefix: usize,
}

/// Collects targets.
#[derive(Debug, Default)]
pub struct Builder {
    items: HashMap<Rendered, usize>,
    asks: Vec<(usize, Asker)>,
}

/// One key or pattern of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Full Redis key or pattern.
    pub rendered: Rendered,
    /// The pattern (index in [`Plan::items`]) whose deletes include this one; None: it is to be deleted itself.
    pub swallowed_by: Option<usize>,
    askers: std::ops::Range<usize>,
}

/// What is to be deleted, and who asked.
#[derive(Debug, Default)]
pub struct Plan {
    items: Vec<Item>,
    askers: Vec<Asker>,
}

impl Builder {
    /// Adds one target of statement number `statement`.
    pub fn add(&mut self, statement: usize, edge: EdgeRef, target: Target) {
        let next = self.items.len();
        let item = *self.items.entry(target.rendered).or_insert(next);
        self.asks.push((item, Asker { statement, edge, cache: target.cache, prefix: target.prefix }));
    }

    /// Distinct targets so far; bounds a batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Merges.
    #[must_use]
    pub fn finish(mut self) -> Plan {
        let mut in_order: Vec<(usize, Rendered)> = self.items.into_iter().map(|(rendered, i)| (i, rendered)).collect();
        in_order.sort_unstable_by_key(|(i, _)| *i);
        self.asks.sort_unstable();
        self.asks.dedup();
        let mut from = 0;
        let items = in_order
            .into_iter()
            .map(|(i, rendered)| {
                let to = from + self.asks[from..].iter().take_while(|(item, _)| *item == i).count();
                let askers = from..to;
                from = to;
                Item { rendered, swallowed_by: None, askers }
            })
            .collect();
        let mut plan = Plan { items, askers: self.asks.into_iter().map(|(_, asker)| asker).collect() };
        plan.swallow();
        plan
    }
}

impl Plan {
    /// Everything that was named, in the order in which it was first named; swallowed items too.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Who asked for the item of that index: sorted by statement, each once.
    #[must_use]
    pub fn askers(&self, item: usize) -> &[Asker] {
        self.items.get(item).map_or(&[], |i| &self.askers[i.askers.clone()])
    }

    /// Indices of the exact keys that are to be deleted, at most [`CHUNK`] at a time.
    pub fn key_chunks(&self) -> impl Iterator<Item = Vec<usize>> {
        let mut keys = self.remaining(Kind::Key);
        std::iter::from_fn(move || {
            let chunk: Vec<usize> = keys.by_ref().take(CHUNK).collect();
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Indices of the patterns that are to be deleted.
    pub fn patterns(&self) -> impl Iterator<Item = usize> {
        self.remaining(Kind::Pattern)
    }

    fn remaining(&self, kind: Kind) -> impl Iterator<Item = usize> {
        let wanted = move |item: &Item| item.swallowed_by.is_none() && item.rendered.kind() == kind;
        self.items.iter().enumerate().filter(move |(_, item)| wanted(item)).map(|(i, _)| i)
    }

    /// One walk in the order of literal beginnings: all targets that begin with the beginning of a pattern follow it
    /// directly, so the patterns that can cover a target are a stack of nested beginnings.
    fn swallow(&mut self) {
        if self.patterns().next().is_none() {
            return;
        }
        let mut order: Vec<(Cow<'_, [u8]>, usize)> = (self.items.iter().enumerate())
            .map(|(i, item)| match &item.rendered {
                Rendered::Key(key) => (Cow::Borrowed(key.as_slice()), i),
                Rendered::Pattern(pattern) => (Cow::Owned(glob::literal_prefix(pattern)), i),
            })
            .collect();
        let rank = |i: usize| {
            let rendered = &self.items[i].rendered;
            (Reverse(rendered.kind()), rendered.bytes().len())
        };
        order.sort_unstable_by(|(a, i), (b, k)| a.cmp(b).then_with(|| (rank(*i), *i).cmp(&(rank(*k), *k))));
        let mut open: Vec<(&[u8], Vec<usize>)> = Vec::new();
        let mut swallowed: Vec<(usize, usize)> = Vec::new();
        for (beginning, i) in &order {
            while open.last().is_some_and(|(outer, _)| !beginning.starts_with(outer)) {
                open.pop();
            }
            let inner = &self.items[*i].rendered;
            let covers = |outer: &usize| {
                let outer = self.items[*outer].rendered.bytes();
                match inner {
                    Rendered::Key(key) => glob::matches(outer, key),
                    Rendered::Pattern(pattern) => glob::covers(outer, pattern),
                }
            };
            let by = open.iter().flat_map(|(_, patterns)| patterns).copied().find(covers);
            match (by, inner.kind()) {
                (Some(by), _) => swallowed.push((*i, by)),
                (None, Kind::Key) => {}
                (None, Kind::Pattern) => {
                    let beginning = beginning.as_ref();
                    if open.last().is_none_or(|(outer, _)| *outer != beginning) && open.len() < NESTED {
                        open.push((beginning, Vec::new()));
                    }
                    if let Some((outer, patterns)) = open.last_mut()
                        && *outer == beginning
                        && patterns.len() < SAME_BEGINNING
                    {
                        patterns.push(*i);
                    }
                }
            }
        }
        for (i, by) in swallowed {
            self.items[i].swallowed_by = Some(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    const EDGE: EdgeRef = EdgeRef { class: 0, edge: 0 };

    fn target(text: &str) -> Target {
        let bytes = text.strip_prefix('~').unwrap_or(text).as_bytes().to_vec();
        let rendered = if text.starts_with('~') { Rendered::Pattern(bytes) } else { Rendered::Key(bytes) };
        Target { cache: 0, prefix: 0, rendered }
    }

    /// Statement `i` asks for the i-th list; `~` marks patterns.
    fn plan(statements: &[&[&str]]) -> Plan {
        let mut builder = Builder::default();
        for (i, targets) in statements.iter().enumerate() {
            targets.iter().for_each(|t| builder.add(i, EDGE, target(t)));
        }
        builder.finish()
    }

    fn text(plan: &Plan, i: usize) -> &str {
        std::str::from_utf8(plan.items()[i].rendered.bytes()).unwrap()
    }

    fn deleted(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
        let keys = plan.key_chunks().flatten().map(|i| text(plan, i)).collect();
        (keys, plan.patterns().map(|i| text(plan, i)).collect())
    }

    #[test]
    fn a_key_named_twice_goes_once_and_both_who_asked_are_known() {
        let p = plan(&[&["a", "b", "a"], &["b"]]);
        assert_eq!(deleted(&p), (vec!["a", "b"], vec![]));
        let who = |i| p.askers(i).iter().map(|a| a.statement).collect::<Vec<_>>();
        assert_eq!((who(0), who(1)), (vec![0], vec![0, 1]));
    }

    #[test]
    fn a_pattern_swallows_keys_and_narrower_patterns() {
        let p = plan(&[&["user:7:x", "~user:7:*", "~user:*", "user_stats:7", "~user_stats:7:*"]]);
        assert_eq!(deleted(&p), (vec!["user_stats:7"], vec!["user:*", "user_stats:7:*"]));
        assert_eq!(p.items()[0].swallowed_by, Some(2));
        assert_eq!(p.items()[1].swallowed_by, Some(2));
    }

    #[test]
    fn a_key_and_a_pattern_of_the_same_text_are_two_things() {
        let p = plan(&[&["a*", "~a*"], &["~a\\*"]]);
        assert_eq!(deleted(&p), (vec![], vec!["a*"]));
        assert_eq!(p.items()[2].swallowed_by, Some(1));
    }

    #[test]
    fn chunks_hold_a_thousand_keys_at_most() {
        let names: Vec<String> = (0..2_500).map(|i| format!("k{i}")).collect();
        let p = plan(&[&names.iter().map(String::as_str).collect::<Vec<_>>()]);
        assert_eq!(p.key_chunks().map(|c| c.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
    }

    #[test]
    fn a_hundred_thousand_keys_among_ten_thousand_patterns_are_merged_in_bounded_work() {
        let mut builder = Builder::default();
        for i in 0..100_000 {
            builder.add(i, EDGE, target(&format!("user:{}:{i}", i % 20_000)));
        }
        for i in 0..10_000 {
            builder.add(0, EDGE, target(&format!("~user:{i}:*")));
            builder.add(0, EDGE, target(&format!("~*:{i}")));
        }
        let begun = Instant::now();
        let p = builder.finish();
        // Each with each would be 10⁹ comparisons: minutes in a debug build.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(p.items()[0].swallowed_by.map(|i| text(&p, i)), Some("*:0"));
        assert_eq!(p.items()[9_999].swallowed_by.map(|i| text(&p, i)), Some("user:9999:*"));
        assert_eq!(p.items()[10_000].swallowed_by, None);
    }

    proptest! {
        #[test]
        fn what_remains_deletes_all_that_was_named(
            named in prop::collection::vec("~?[ab:]{0,2}[*?]{0,1}[ab*:]{0,3}", 0..24),
            keys in prop::collection::vec("[ab:*]{0,6}", 12),
        ) {
            let p = plan(&[&named.iter().map(String::as_str).collect::<Vec<_>>()]);
            let hit = |i: usize, key: &[u8]| match &p.items()[i].rendered {
                Rendered::Key(k) => k == key,
                Rendered::Pattern(g) => glob::matches(g, key),
            };
            let remaining: Vec<usize> = p.key_chunks().flatten().chain(p.patterns()).collect();
            for (i, item) in p.items().iter().enumerate() {
                prop_assert!(!p.askers(i).is_empty());
                if let Some(by) = item.swallowed_by {
                    prop_assert!(remaining.contains(&by), "swallowed by something that stays");
                }
                let key_itself = item.rendered.bytes().to_vec();
                for key in keys.iter().map(|k| k.as_bytes().to_vec()).chain([key_itself]) {
                    prop_assert!(!hit(i, &key) || remaining.iter().any(|r| hit(*r, &key)));
                }
            }
        }
    }
}
