//! What happened when: enough to tell the story of one key, and to measure how stale readers saw it.

use super::stage::lock;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events that are kept: a few minutes of a storm. An older event cannot explain what is stale now.
const KEPT: usize = 400_000;
/// A reader's finding counts for a fault this long after its end.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Counters of the report.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) transactions: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) fills: AtomicU64,
    /// By the script of guarded caches.
    pub(crate) fills_refused: AtomicU64,
    pub(crate) taken_back: AtomicU64,
    pub(crate) reads: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A version of a row: its value in the caches, and when it was surely committed.
#[derive(Debug, Clone, Copy)]
struct Version {
    v: i64,
    committed: Instant,
}

pub(crate) struct Trace {
    begun: Instant,
    events: Mutex<VecDeque<(Instant, String, String)>>,
    versions: Mutex<HashMap<(&'static str, i64), Vec<Version>>>,
    /// `v.tag` of everything that was ever committed, as far as the writers know.
    committed: Mutex<HashSet<String>>,
    faults: Mutex<Vec<(Instant, Option<Instant>, &'static str)>>,
    /// Milliseconds that a reader's value was behind, by fault.
    behind: Mutex<BTreeMap<&'static str, Vec<f64>>>,
    /// What pgevict did to the application; each is a failure.
    pub(crate) harm: Mutex<Vec<String>>,
    pub(crate) counts: Counts,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            events: Mutex::default(),
            versions: Mutex::default(),
            committed: Mutex::default(),
            faults: Mutex::default(),
            behind: Mutex::default(),
            harm: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Something happened to `subject`: a key, a row, or a server.
    pub(crate) fn event(&self, subject: &str, what: String) {
        let mut events = lock(&self.events);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back((Instant::now(), subject.to_owned(), what));
    }

    pub(crate) fn harm(&self, what: String) {
        self.event("harm", what.clone());
        lock(&self.harm).push(what);
    }

    /// A transaction is committed that wrote these versions: `(table, id, v, tag)`.
    pub(crate) fn committed(&self, rows: &[(&'static str, i64, i64, i64)]) {
        let now = Instant::now();
        let (mut versions, mut committed) = (lock(&self.versions), lock(&self.committed));
        for (table, id, v, tag) in rows {
            versions.entry((table, *id)).or_default().push(Version { v: *v, committed: now });
            committed.insert(format!("{v}.{tag}"));
        }
        drop((versions, committed));
        for (table, id, v, tag) in rows {
            self.event(&format!("{table} {id}"), format!("committed {v}.{tag}"));
        }
    }

    /// Whether some transaction that was acknowledged wrote `v.tag`.
    pub(crate) fn was_committed(&self, value: &str) -> bool {
        lock(&self.committed).contains(value)
    }

    /// A reader who asked at `asked` saw version `v` of a row: notes how long a newer one was committed by then.
    pub(crate) fn read(&self, row: (&'static str, i64), v: i64, asked: Instant) {
        Counts::add(&self.counts.reads);
        let versions = lock(&self.versions);
        let newer = versions.get(&row).into_iter().flatten().filter(|n| n.v > v && n.committed < asked);
        let Some(first) = newer.map(|n| n.committed).min() else { return };
        drop(versions);
        let late = asked.saturating_duration_since(first);
        let faults = lock(&self.faults);
        // The fault that was on, or had just been, while the value was stale; the latest of them.
        let class = faults
            .iter()
            .rev()
            .find(|(from, to, _)| *from <= asked && to.is_none_or(|to| to + AFTERMATH >= first))
            .map_or("none", |(_, _, name)| name);
        lock(&self.behind).entry(class).or_default().push(late.as_secs_f64() * 1000.0);
    }

    /// A server has lost commits: whoever reads an older version may be right, so readers are not measured by those before.
    pub(crate) fn commits_lost(&self) {
        lock(&self.versions).clear();
    }

    pub(crate) fn fault_begins(&self, name: &'static str, detail: &str) {
        self.event("fault", format!("{name} {detail}"));
        lock(&self.faults).push((Instant::now(), None, name));
    }

    pub(crate) fn fault_ends(&self) {
        self.event("fault", "over".into());
        if let Some((_, to @ None, _)) = lock(&self.faults).last_mut() {
            *to = Some(Instant::now());
        }
    }

    /// The story of a key: what happened to it and to its row, and the faults. `row` as `table id`.
    pub(crate) fn story(&self, key: &str, row: Option<&str>, most: usize) -> String {
        let events = lock(&self.events);
        let own = |subject: &str| subject == key || row == Some(subject);
        let mut picked: Vec<usize> = (0..events.len()).rev().filter(|i| own(&events[*i].1)).take(most).collect();
        let from = picked.last().map(|i| events[*i].0);
        picked.extend((0..events.len()).filter(|i| events[*i].1 == "fault" && from.is_none_or(|f| events[*i].0 >= f)));
        picked.sort_unstable();
        let line = |i: &usize| {
            let (at, subject, what) = &events[*i];
            let at = at.saturating_duration_since(self.begun).as_secs_f64();
            format!("    {at:9.4} {:<16} {what}\n", subject.chars().take(40).collect::<String>())
        };
        picked.iter().map(line).collect()
    }

    /// How far behind readers saw values, by fault: a table.
    pub(crate) fn staleness(&self) -> String {
        let mut out = String::from("  fault                 stale reads    p50 ms    p99 ms  p99.99 ms    max ms\n");
        for (name, late) in lock(&self.behind).iter_mut() {
            late.sort_by(f64::total_cmp);
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index below the length, which is far below 2^52"
            )]
            let quantile = |q: f64| late[((late.len() - 1) as f64 * q).round() as usize];
            let [p50, p99, p9999, max] = [0.5, 0.99, 0.9999, 1.0].map(quantile);
            let line = format!("  {name:<22} {:>10} {p50:>9.1} {p99:>9.1} {p9999:>10.1} {max:>9.1}\n", late.len());
            out.push_str(&line);
        }
        out
    }

    /// The same, a line a stale read, for a table over several storms.
    pub(crate) fn stale_reads(&self) -> String {
        let behind = lock(&self.behind);
        let of =
            |(name, late): (&&str, &Vec<f64>)| late.iter().map(|ms| format!("{name}\t{ms:.1}\n")).collect::<String>();
        behind.iter().map(of).collect()
    }

    /// How often each fault was drawn.
    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u32> {
        let mut all = BTreeMap::new();
        lock(&self.faults).iter().for_each(|(_, _, name)| *all.entry(*name).or_default() += 1);
        all
    }
}
