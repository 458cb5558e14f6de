//! Caches that are made from other caches (`warm.after`): what one change evicts of both is warmed in that order.
//!
//! A key waits for those keys of the earlier caches that have the same values in the holes that both have, and only while they are due
//! themselves: stored, empty or given up, they let it go. So nothing waits for a key that nobody warms.

use super::warm::Want;
use crate::rules::binding::Binding;
use std::collections::HashMap;

/// One cache that waits for another one.
#[derive(Debug)]
struct Pair {
    later: usize,
    earlier: usize,
    /// The holes that both have.
    shared: Vec<String>,
}

impl Pair {
    fn values(&self, of: &Binding) -> Vec<String> {
        self.shared.iter().map(|hole| of.get(hole).unwrap_or_default().to_owned()).collect()
    }
}

/// A pair, and the values by which its keys belong together.
type Knot = (usize, Vec<String>);

/// What waits for what.
#[derive(Debug, Default)]
pub struct Order {
    pairs: Vec<Pair>,
    /// Keys of earlier caches that are to be warmed.
    due: HashMap<Vec<u8>, (usize, Binding)>,
    /// How many of them.
    knots: HashMap<Knot, usize>,
    held: HashMap<Knot, Vec<Want>>,
    /// Keys in `held`, and how many there may be.
    count: usize,
    most: usize,
}

impl Order {
    /// `pairs`: later cache, earlier cache, the holes that both have. At most `most` keys are held back; more go at once.
    #[must_use]
    pub fn new(pairs: impl IntoIterator<Item = (usize, usize, Vec<String>)>, most: usize) -> Self {
        let pairs = pairs.into_iter().map(|(later, earlier, shared)| Pair { later, earlier, shared }).collect();
        Self { pairs, most, ..Self::default() }
    }

    /// Whether no cache waits for another one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// A key is going to be warmed, or found not to need it: [`Order::over`] follows in any case. Saying it twice is saying it once.
    pub fn expect(&mut self, cache: usize, key: &[u8], values: &Binding) {
        if !self.pairs.iter().any(|p| p.earlier == cache) || self.due.contains_key(key) {
            return;
        }
        self.due.insert(key.to_vec(), (cache, values.clone()));
        for (i, pair) in self.pairs.iter().enumerate().filter(|(_, p)| p.earlier == cache) {
            *self.knots.entry((i, pair.values(values))).or_default() += 1;
        }
    }

    /// The want, if nothing that it waits for is due; otherwise it is held back.
    pub fn admit(&mut self, want: Want) -> Option<Want> {
        let blocking = self.pairs.iter().enumerate().find_map(|(i, pair)| {
            let knot = || (i, pair.values(&want.values));
            (pair.later == want.cache).then(knot).filter(|knot| self.knots.contains_key(knot))
        });
        let Some(knot) = blocking.filter(|_| self.count < self.most) else { return Some(want) };
        let held = self.held.entry(knot).or_default();
        if let Some(known) = held.iter_mut().find(|w| w.key == want.key) {
            known.heat = known.heat.max(want.heat);
            known.if_absent &= want.if_absent;
        } else {
            held.push(want);
            self.count += 1;
        }
        None
    }

    /// A key is stored, empty, given up, or was not wanted after all. Returns what may go now.
    #[must_use]
    pub fn over(&mut self, key: &[u8]) -> Vec<Want> {
        let Some((cache, values)) = self.due.remove(key) else { return Vec::new() };
        let mut freed = Vec::new();
        for (i, pair) in self.pairs.iter().enumerate().filter(|(_, p)| p.earlier == cache) {
            let knot = (i, pair.values(&values));
            let Some(count) = self.knots.get_mut(&knot) else { continue };
            *count -= 1;
            if *count == 0 {
                self.knots.remove(&knot);
                freed.extend(self.held.remove(&knot).unwrap_or_default());
            }
        }
        self.count -= freed.len();
        // Another cache may still be waited for.
        freed.into_iter().filter_map(|want| self.admit(want)).collect()
    }

    /// The cache is left alone: nothing waits for its keys. Returns what may go now.
    #[must_use]
    pub fn all_over(&mut self, cache: usize) -> Vec<Want> {
        let keys: Vec<Vec<u8>> =
            self.due.iter().filter(|(_, (of, _))| *of == cache).map(|(key, _)| key.clone()).collect();
        keys.iter().flat_map(|key| self.over(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::template::{Fill, Kind, Template};
    use proptest::prelude::*;

    fn values(template: &str, value: &str) -> Binding {
        let template = Template::parse(template, Kind::Key).unwrap();
        Binding::new(&template, |_| Fill::Value(value.as_bytes())).unwrap()
    }

    fn want(cache: usize, template: &str, value: &str) -> Want {
        let key = template.replace("{id}", value).into_bytes();
        Want::new(cache, key, values(template, value), 1)
    }

    fn keys(wants: &[Want]) -> Vec<&str> {
        wants.iter().map(|w| std::str::from_utf8(&w.key).unwrap()).collect()
    }

    /// Cache 1 is made from 0, cache 2 (which has no holes) from both.
    fn order() -> Order {
        Order::new([(1, 0, vec!["id".to_owned()]), (2, 0, vec![]), (2, 1, vec![])], 100)
    }

    #[test]
    fn a_key_waits_for_the_one_with_the_same_values_and_for_no_other() {
        let mut order = order();
        order.expect(0, b"a:7", &values("a:{id}", "7"));
        order.expect(0, b"a:7", &values("a:{id}", "7"));
        assert_eq!(order.admit(want(1, "b:{id}", "7")), None);
        assert_eq!(order.admit(want(1, "b:{id}", "7")), None, "once is enough");
        assert!(order.admit(want(1, "b:{id}", "8")).is_some());
        assert!(order.admit(want(0, "a:{id}", "7")).is_some());
        assert_eq!(keys(&order.over(b"a:7")), ["b:7"]);
        assert!(order.over(b"a:7").is_empty());
        assert!(order.admit(want(1, "b:{id}", "7")).is_some());
    }

    #[test]
    fn what_is_made_from_many_waits_for_the_last_of_them() {
        let mut order = order();
        order.expect(0, b"a:7", &values("a:{id}", "7"));
        order.expect(0, b"a:8", &values("a:{id}", "8"));
        order.expect(1, b"b:7", &values("b:{id}", "7"));
        assert_eq!(order.admit(want(2, "all", "")), None);
        assert!(order.over(b"a:7").is_empty());
        assert!(order.over(b"a:8").is_empty(), "of cache 1 one is due");
        assert_eq!(keys(&order.all_over(1)), ["all"]);
    }

    #[test]
    fn more_than_may_wait_do_not_wait() {
        let mut order = Order::new([(1, 0, vec!["id".to_owned()])], 1);
        order.expect(0, b"a:7", &values("a:{id}", "7"));
        order.expect(0, b"a:8", &values("a:{id}", "8"));
        assert_eq!(order.admit(want(1, "b:{id}", "7")), None);
        assert!(order.admit(want(1, "b:{id}", "8")).is_some());
    }

    proptest! {
        /// Whatever is said in whatever order: when everything that was due is over, nothing is held back, and nothing came twice or
        /// before what it waits for.
        #[test]
        fn nothing_is_held_back_for_ever_nor_let_go_early(steps in prop::collection::vec((0u8..3, 0usize..3, 0u8..3), 0..60)) {
            let mut order = order();
            let templates = ["a:{id}", "b:{id}", "all"];
            let (mut due, mut held) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            let blocked = |due: &std::collections::BTreeSet<(usize, u8)>, cache: usize, id: u8| match cache {
                1 => due.contains(&(0, id)),
                2 => due.iter().any(|(c, _)| *c < 2),
                _ => false,
            };
            for (what, cache, id) in steps {
                let id = if cache == 2 { 0 } else { id };
                let w = want(cache, templates[cache], &id.to_string());
                match what {
                    0 => {
                        order.expect(cache, &w.key, &w.values);
                        due.insert((cache, id));
                    }
                    1 => {
                        let free = order.admit(w).is_some();
                        // What was held before is not let go by saying so again.
                        prop_assert_eq!(free, !blocked(&due, cache, id));
                        if !free {
                            held.insert((cache, id));
                        }
                    }
                    _ => {
                        due.remove(&(cache, id));
                        for freed in order.over(&w.key) {
                            let id = freed.values.get("id").map_or(0, |v| v.parse().unwrap());
                            prop_assert!(held.remove(&(freed.cache, id)), "it was not held");
                            prop_assert!(!blocked(&due, freed.cache, id));
                        }
                    }
                }
                for (cache, id) in &held {
                    prop_assert!(blocked(&due, *cache, *id), "held for nothing");
                }
            }
        }
    }
}
