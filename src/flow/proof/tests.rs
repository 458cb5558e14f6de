use super::*;
use crate::config::model::{Edge, Lookup, Ops, When};
use crate::rules::fixture;
use crate::rules::layout::layouts;
use proptest::prelude::*;

/// What of an edge a configuration may say.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    columns: Option<Vec<&'static str>>,
    ops: Ops,
    with: Option<&'static str>,
    when: Option<Vec<&'static str>>,
}

/// A configuration of two caches, two tables that may evict both, and a parent through which hole `b` may come.
#[derive(Debug, Clone)]
struct Spec {
    templates: [&'static str; 2],
    versions: Vec<(&'static str, &'static str)>,
    edges: [[Option<Said>; 2]; 2],
    columns: [Option<Vec<&'static str>>; 2],
    lookups: [Option<(&'static str, Option<&'static str>)>; 2],
    modes: [Mode; 2],
    live: [bool; 2],
    turned: bool,
}

const TABLES: [&str; 2] = ["t", "u>x"];
const CACHES: [&str; 2] = ["c", "d@v1"];

fn said() -> impl Strategy<Value = Said> {
    let ops = (any::<bool>(), any::<bool>()).prop_map(|(insert, delete)| Ops { insert, update: true, delete });
    let one_of = |all: &[&'static str]| prop::sample::select(all.to_vec());
    (
        prop::option::of(prop::collection::vec(one_of(&["a", "n", "m"]), 1..3)),
        ops,
        prop::option::of(one_of(&["x", "y"])),
        prop::option::of(prop::collection::vec(one_of(&["on", "off"]), 1..3)),
    )
        .prop_map(|(columns, ops, with, when)| Said { columns, ops, with, when })
}

fn spec() -> impl Strategy<Value = Spec> {
    let one_of = |all: &[&'static str]| prop::sample::select(all.to_vec());
    let templates = || one_of(&["k:{a}", "k:{a|lower}", "k:{b}", "k:{a}:{b}", "p:{a}:*", "p:{b}:*", "q:{a}:{b}:*"]);
    let versions = prop::sample::select(vec![
        vec![("", "")],
        vec![("v1", "app:v1:")],
        vec![("v1", "svc:v1:")],
        vec![("v1", "app:v1:"), ("v2", "app:v2:")],
    ]);
    let columns = || prop::option::of(prop::collection::vec(one_of(&["a", "n"]), 1..2));
    let lookup = || prop::option::of((one_of(&["p1", "p2"]), prop::option::of(Just("code"))));
    let mode = || prop::sample::select(vec![Mode::Enforce, Mode::Enforce, Mode::Observe]);
    let edge = || prop::option::weighted(0.8, said());
    (
        [templates(), templates()],
        versions,
        [[edge(), edge()], [edge(), edge()]],
        [columns(), columns()],
        [lookup(), lookup()],
        [mode(), mode()],
        [prop::bool::weighted(0.8), prop::bool::weighted(0.8)],
        any::<bool>(),
    )
        .prop_map(|(templates, versions, edges, columns, lookups, modes, live, turned)| Spec {
            templates,
            versions,
            edges,
            columns,
            lookups,
            modes,
            live,
            turned,
        })
}

/// A configuration, and one that differs from it in a few settings, or in none.
fn pair() -> impl Strategy<Value = (Spec, Spec)> {
    (spec(), spec(), prop::collection::vec(prop::bool::weighted(0.12), 16)).prop_map(|(before, other, take)| {
        let mut after = before.clone();
        let mut take = take.into_iter();
        let mut next = || take.next().unwrap_or_default();
        for i in 0..2 {
            if next() {
                after.templates[i] = other.templates[i];
            }
            if next() {
                after.columns[i].clone_from(&other.columns[i]);
            }
            if next() {
                after.lookups[i] = other.lookups[i];
            }
            if next() {
                (after.modes[i], after.live[i]) = (other.modes[i], other.live[i]);
            }
            for j in 0..2 {
                if next() {
                    after.edges[i][j].clone_from(&other.edges[i][j]);
                }
            }
        }
        if next() {
            after.versions = other.versions;
        }
        after.turned = other.turned;
        (before, after)
    })
}

impl Spec {
    fn config(&self) -> Config {
        let texts = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let mut config = fixture::config();
        config.caches = (0..2).map(|j| fixture::cache(CACHES[j], self.templates[j])).collect();
        config.namespace.prefixes =
            self.versions.iter().map(|(name, text)| (Some((*name).to_owned()), (*text).to_owned())).collect();
        for (i, name) in TABLES.iter().enumerate() {
            let mut table = fixture::table(name, &[]);
            table.columns = self.columns[i].as_deref().map(texts);
            table.mode = Some(self.modes[i]);
            table.lookups = self.lookups[i]
                .iter()
                .map(|(take, by)| Lookup { by: by.map(str::to_owned), ..fixture::lookup("b", "f", "parents", take) })
                .collect();
            for (j, said) in self.edges[i].iter().enumerate() {
                let Some(said) = said else { continue };
                table.edges.push(Edge {
                    columns: said.columns.as_deref().map(texts),
                    ops: said.ops,
                    with: said.with.iter().map(|c| ("a".to_owned(), (*c).to_owned())).collect(),
                    when: said.when.iter().map(|v| When { column: "s".into(), values: texts(v) }).collect(),
                    ..fixture::edge(CACHES[j])
                });
            }
            config.tables.push(table);
        }
        if self.turned {
            config.tables.reverse();
        }
        config
    }

    /// Each edge that is evicted, in each version, and everything that decides what it evicts for which rows.
    fn meaning(&self) -> BTreeMap<(String, usize, &'static str), BTreeSet<String>> {
        let mut out: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for (i, (version, prefix)) in (0..2).flat_map(|i| self.versions.iter().map(move |v| (i, v))) {
            if self.modes[i] != Mode::Enforce {
                continue;
            }
            for (j, said) in self.edges[i].iter().enumerate() {
                let Some(said) = said else { continue };
                let template = self.templates[j];
                let a = template.contains("{a").then(|| said.with.unwrap_or("a"));
                let b = template.contains("{b");
                let b_column = b.then(|| if self.lookups[i].is_some() { "f" } else { "b" });
                let counted = said
                    .columns
                    .as_ref()
                    .or(self.columns[i].as_ref())
                    .map(|listed| listed.iter().copied().chain(a).chain(b_column).collect::<BTreeSet<_>>());
                let way = self.lookups[i].filter(|_| b);
                let key = (TABLES[i].to_owned(), j, *version);
                let text = format!("{prefix} {template} {:?} {counted:?} {a:?} {way:?} {:?}", said.ops, said.when);
                if self.live[i] {
                    out.entry(key).or_default().insert(text);
                }
                if let Some((take, by)) = way {
                    let key = ("parents".to_owned(), j, *version);
                    out.entry(key).or_default().insert(format!("{prefix} {template} {take} {by:?} {i}"));
                }
            }
        }
        out
    }

    fn unproven(&self, stored: &Proven) -> (Proven, BTreeSet<Form>) {
        let config = self.config();
        let live = |table: &TableName, _: &str| {
            TABLES.iter().position(|name| **name == *table.name).is_none_or(|i| self.live[i])
        };
        unproven(&config, &layouts(&config), live, stored)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_an_edge_evicts_otherwise_than_before_is_flushed_and_nothing_else((before, after) in pair()) {
        let (proven, everything) = before.unproven(&Proven::new());
        let all: BTreeSet<Form> = before.forms(before.meaning().into_keys());
        prop_assert_eq!(everything, all, "nothing is proven at first");
        let (known, new) = (before.meaning(), after.meaning());
        let changed = new.into_iter().filter(|(edge, meaning)| known.get(edge) != Some(meaning)).map(|(edge, _)| edge);
        let (_, flushed) = after.unproven(&proven);
        prop_assert_eq!(flushed, after.forms(changed));
        let (again, nothing) = before.unproven(&proven);
        prop_assert_eq!((again, nothing), (proven, BTreeSet::new()), "what is proven stays proven");
    }
}

impl Spec {
    fn forms(&self, edges: impl Iterator<Item = (String, usize, &'static str)>) -> BTreeSet<Form> {
        edges.filter_map(|(_, j, v)| Some((j, self.versions.iter().position(|(name, _)| *name == v)?))).collect()
    }
}

#[test]
fn no_two_edges_share_a_name() {
    let names = [named("t", "c@v1", ""), named("t", "c", "v1@"), named("t>c", "d", ""), named("t", "c>d", "")];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}
