//! What changes mean to keys, also those of the page that is read ahead: they are mapped while Redis works for the page before it.

use super::poison::all;
use crate::config::model::Config;
use crate::rules::layout::Layout;
use crate::rules::mapping::{Lengths, Mapped, Mapper, Misfit, Parts};
use crate::rules::payload::RowKind;
use crate::source::journal::{Change, What};
use std::collections::HashMap;
use std::sync::Arc;
use std::vec;

/// Changes that are mapped without a pause: about a tenth of a millisecond, for which an answer of Redis or a question to PostgreSQL may have
/// to wait.
pub(super) const SLICE: usize = 128;
/// Bytes of keys that are mapped ahead: many times what a page of ordinary keys has. The rest of a page waits for its turn.
const MOST_BYTES: usize = 4 << 20;

/// What changes are mapped with. It is replaced and never altered, so that what was mapped with another one is known by its address.
#[derive(Debug)]
pub(super) struct Meaning {
    mapper: Mapper<Arc<Config>>,
    layouts: HashMap<i64, Arc<Layout>>,
}

impl Meaning {
    /// Of this configuration, its own layouts, and those that the database remembers.
    pub(super) fn new(config: &Arc<Config>, layouts: impl IntoIterator<Item = (i64, Arc<Layout>)>) -> Arc<Self> {
        Arc::new(Self { mapper: Mapper::new(config.clone()), layouts: layouts.into_iter().collect() })
    }

    /// All layouts, by id.
    pub(super) fn layouts(&self) -> &HashMap<i64, Arc<Layout>> {
        &self.layouts
    }

    /// Maps what a change says; what does not fit its layout is an error, and then everything the table's caches can hold is mapped.
    pub(super) fn map(&self, layout: &Layout, what: &What, out: &mut Mapped) -> Result<(), Misfit> {
        let fits = self.add(layout, what, out);
        if fits.is_err() {
            *out = Mapped::default();
            let _ = self.mapper.whole(layout, what.op, Some(&all(layout)), out);
        }
        fits
    }

    fn add(&self, layout: &Layout, what: &What, out: &mut Mapped) -> Result<(), Misfit> {
        match what.kind {
            RowKind::Rows => what.tuples.iter().try_for_each(|tuple| self.mapper.tuple(layout, tuple, out)),
            RowKind::Whole | RowKind::Degraded => self.mapper.whole(layout, what.op, what.classes.as_deref(), out),
        }
    }

    /// Adds what a change comes to, before its turn. False: it needs a closer look then, and nothing was added.
    fn ahead(&self, change: &Change, out: &mut Mapped) -> bool {
        let (Some(layout), Ok(what)) = (self.layouts.get(&change.layout), &change.what) else { return false };
        let before = out.lengths();
        let fits = self.add(layout, what, out).is_ok();
        if !fits {
            out.truncate(before);
        }
        fits
    }
}

/// What the changes of a page were mapped to before their turn, in their order: all of them, or the first.
#[derive(Debug)]
pub(super) struct Ahead {
    with: Arc<Meaning>,
    all: Mapped,
    /// For each change how far the lists go; None: it was not mapped.
    ends: Vec<Option<Lengths>>,
}

impl Ahead {
    /// Maps the changes of a page, a few at a time: whatever else the task waits for goes first. Ends when nothing else is to be waited for:
    /// their turn has come.
    pub(super) async fn map(with: Arc<Meaning>, changes: &[Change], turn: impl Fn() -> bool) -> Self {
        let (mut all, mut ends, mut bytes) = (Mapped::default(), Vec::with_capacity(changes.len()), 0);
        for slice in changes.chunks(SLICE) {
            tokio::task::yield_now().await;
            if turn() {
                break;
            }
            for change in slice {
                let from = all.targets.len();
                ends.push(with.ahead(change, &mut all).then(|| all.lengths()));
                bytes += all.targets[from..].iter().map(|(_, target)| target.rendered.bytes().len()).sum::<usize>();
                if bytes > MOST_BYTES {
                    return Self { with, all, ends };
                }
            }
        }
        Self { with, all, ends }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Their turn has come. Nothing of it counts where they would be mapped with something else by now.
    pub(super) fn with(self, meaning: &Arc<Meaning>) -> Ready {
        let same = Arc::ptr_eq(&self.with, meaning);
        Ready { parts: self.all.into(), ends: if same { self.ends } else { Vec::new() }.into_iter() }
    }
}

/// The same, change by change.
#[derive(Debug)]
pub(super) struct Ready {
    parts: Parts,
    ends: vec::IntoIter<Option<Lengths>>,
}

impl Ready {
    /// Moves what the next change came to into `out`; false: it was not mapped.
    pub(super) fn next(&mut self, out: &mut Mapped) -> bool {
        let Some(end) = self.ends.next().flatten() else { return false };
        self.parts.next(end, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::rules::layout::layouts;
    use crate::rules::payload::Tuple;
    use std::time::{Duration, Instant};

    fn meaning() -> Arc<Meaning> {
        let text = "[postgres]\nurl = \"postgresql://a@localhost/app\"\n[redis]\nurl = \"redis://localhost/0\"\n\
                    [cache.item]\nkey = \"item:{id}\"\n[table.items]\nevict = [\"item\"]";
        let config = Arc::new(config::parse(text, "config.toml", &Environment::empty()).unwrap().0);
        let layouts: Vec<Arc<Layout>> = layouts(&config).into_iter().map(Arc::new).collect();
        Meaning::new(&config, layouts.into_iter().map(|layout| (layout.id(), layout)))
    }

    fn change(meaning: &Meaning, class: i32, id: &[u8]) -> Change {
        let tuples = vec![Tuple { class, values: vec![Some(id.to_vec())] }];
        let what =
            What { kind: RowKind::Rows, op: crate::config::model::Op::Update, classes: None, tuples, note: None };
        Change {
            layout: *meaning.layouts().keys().next().unwrap(),
            table: "items".into(),
            place: None,
            what: Ok(what),
            age: Duration::ZERO,
            read: Instant::now(),
        }
    }

    /// The keys of each change; None: it was not mapped.
    async fn keys(changes: &[Change], before: &Arc<Meaning>, then: &Arc<Meaning>) -> Vec<Option<Vec<String>>> {
        let mut ready = Ahead::map(before.clone(), changes, || false).await.with(then);
        let mut next = || {
            let mut out = Mapped::default();
            let keys =
                |t: &(_, crate::rules::mapping::Target)| String::from_utf8_lossy(t.1.rendered.bytes()).into_owned();
            ready.next(&mut out).then(|| out.targets.iter().map(keys).collect())
        };
        changes.iter().map(|_| next()).collect()
    }

    #[tokio::test]
    async fn every_change_is_at_its_place_and_what_needs_a_closer_look_is_left_to_its_turn() {
        let meaning = meaning();
        let mut changes: Vec<Change> = (0..3 * SLICE).map(|n| change(&meaning, 0, n.to_string().as_bytes())).collect();
        changes[1].layout += 1;
        changes[2].what = Err("unreadable".into());
        changes[3] = change(&meaning, 7, b"misfit");
        for (n, keys) in keys(&changes, &meaning, &meaning).await.into_iter().enumerate() {
            assert_eq!(keys, (!(1..=3).contains(&n)).then(|| vec![format!("item:{n}")]));
        }
    }

    #[tokio::test]
    async fn what_was_mapped_with_something_else_is_mapped_again() {
        let (old, new) = (meaning(), meaning());
        let changes = [change(&old, 0, b"1")];
        assert_eq!(keys(&changes, &old, &new).await, [None]);
        assert_eq!(keys(&changes, &old, &old).await, [Some(vec!["item:1".to_owned()])]);
    }

    #[tokio::test]
    async fn long_values_are_mapped_ahead_up_to_a_bound() {
        let meaning = meaning();
        let long = vec![b'x'; MOST_BYTES / 4];
        let changes: Vec<Change> = (0..10).map(|_| change(&meaning, 0, &long)).collect();
        let ahead = Ahead::map(meaning, &changes, || false).await;
        assert_eq!(ahead.len(), 4, "four are already a little more than the bound");
    }

    #[tokio::test]
    async fn mapping_ahead_ends_when_its_turn_comes() {
        let (meaning, asked) = (meaning(), std::cell::Cell::new(0));
        let changes: Vec<Change> = (0..5 * SLICE).map(|_| change(&meaning, 0, b"1")).collect();
        let turn = || asked.replace(asked.get() + 1) == 2;
        assert_eq!(Ahead::map(meaning, &changes, turn).await.len(), 2 * SLICE);
    }
}
