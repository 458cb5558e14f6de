//! PostgreSQL snapshots (`pg_snapshot`): which transactions' effects are seen.
//!
//! The position of pgevict is a snapshot, never an id, a time or an LSN: ids of a sequence become visible out of
//! order, and a cursor over them loses rows (HAZARDS 3.2).

use std::fmt;
use std::str::FromStr;
use tokio_postgres::types::{FromSql, Type};

/// `xmin:xmax:xip,…` — everything below `xmax` is seen, except what stands in `xip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted, each once, all in `xmin..xmax`.
    xip: Vec<u64>,
}

/// Text that is not a `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASnapshot(pub String);

impl fmt::Display for NotASnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a PostgreSQL snapshot (xmin:xmax:xip,…)", self.0.escape_debug())
    }
}

impl std::error::Error for NotASnapshot {}

impl Snapshot {
    /// What PostgreSQL holds for one; None for anything else.
    fn of(xmin: u64, xmax: u64, xip: Vec<u64>) -> Option<Self> {
        let ordered = xip.windows(2).all(|w| w[0] < w[1]);
        let inside = xip.iter().all(|x| (xmin..xmax).contains(x));
        (xmin > 0 && xmin <= xmax && ordered && inside).then_some(Self { xmin, xmax, xip })
    }

    /// First transaction id that was not yet assigned when the snapshot was taken.
    #[must_use]
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// The oldest transaction that may still have been running: every one below had ended.
    #[must_use]
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Transactions below `xmax` that were running.
    #[must_use]
    pub fn running(&self) -> &[u64] {
        &self.xip
    }

    /// Whether the effects of transaction `xid` are in the snapshot. Takes top-level ids only.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.xip.binary_search(&xid).is_err()
    }

    /// Whether everything that `other` sees is seen by `self` too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        // Ids in self.xmax..other.xmax are unseen here, so `other` must not see them either. `other.xip` is sorted
        // and distinct: it holds the whole range exactly when it holds as many ids as the range has.
        if other.xmax > self.xmax {
            let running = other.xip.iter().filter(|x| **x >= self.xmax).count() as u64;
            if running < other.xmax - self.xmax {
                return false;
            }
        }
        self.xip.iter().all(|x| !other.sees(*x))
    }
}

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(s: &str) -> Result<Self, NotASnapshot> {
        let bad = || NotASnapshot(s.chars().take(80).collect());
        let mut parts = s.splitn(3, ':');
        let mut number = || -> Option<u64> { parts.next()?.parse().ok() };
        let (xmin, xmax) = (number().ok_or_else(bad)?, number().ok_or_else(bad)?);
        let list = parts.next().ok_or_else(bad)?;
        let mut xip = Vec::new();
        for part in list.split(',').filter(|_| !list.is_empty()) {
            xip.push(part.parse::<u64>().map_err(|_| bad())?);
        }
        Self::of(xmin, xmax, xip).ok_or_else(bad)
    }
}

/// As the server sends it in binary: how many are running, the two bounds, the list.
impl<'a> FromSql<'a> for Snapshot {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let bad = || NotASnapshot(format!("{raw:02x?}").chars().take(80).collect());
        let (count, numbers) = raw.split_first_chunk::<4>().ok_or_else(bad)?;
        let mut numbers = numbers.chunks(8).map(|n| n.try_into().map(u64::from_be_bytes));
        let mut number = || numbers.next().ok_or_else(bad)?.map_err(|_| bad());
        let (xmin, xmax) = (number()?, number()?);
        let xip = numbers.collect::<Result<Vec<u64>, _>>().map_err(|_| bad())?;
        let whole = usize::try_from(u32::from_be_bytes(*count)) == Ok(xip.len());
        Ok(Self::of(xmin, xmax, xip).filter(|_| whole).ok_or_else(bad)?)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::PG_SNAPSHOT
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, x) in self.xip.iter().enumerate() {
            write!(f, "{}{x}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn arbitrary() -> impl Strategy<Value = Snapshot> {
        (1u64..12, 0u64..12, prop::collection::btree_set(0u64..12, 0..6)).prop_map(|(xmin, span, xip)| {
            let xmax = xmin + span;
            let xip = xip.into_iter().map(|x| xmin + x).filter(|x| *x < xmax).collect();
            Snapshot { xmin, xmax, xip }
        })
    }

    fn seen(s: &Snapshot) -> BTreeSet<u64> {
        (0..40).filter(|x| s.sees(*x)).collect()
    }

    proptest! {
        #[test]
        fn contains_is_inclusion_of_what_is_seen(a in arbitrary(), b in arbitrary()) {
            prop_assert_eq!(a.contains(&b), seen(&b).is_subset(&seen(&a)));
        }

        #[test]
        fn text_round_trips(a in arbitrary()) {
            prop_assert_eq!(a.to_string().parse::<Snapshot>(), Ok(a));
        }

        #[test]
        fn binary_is_read_and_no_bytes_panic(a in arbitrary(), cut in 0usize..60, any in any::<Vec<u8>>()) {
            let count = u32::try_from(a.xip.len()).unwrap().to_be_bytes().to_vec();
            let numbers = [a.xmin, a.xmax].into_iter().chain(a.xip.iter().copied()).flat_map(u64::to_be_bytes);
            let raw: Vec<u8> = count.into_iter().chain(numbers).collect();
            let read = |raw: &[u8]| Snapshot::from_sql(&Type::PG_SNAPSHOT, raw).ok();
            if cut < raw.len() {
                prop_assert_eq!(read(&raw[..cut]), None);
            }
            prop_assert_eq!(read(&raw), Some(a));
            let _ = read(&any);
        }

        #[test]
        fn parsing_never_panics(s in "\\PC{0,20}", t in "[0-9:,]{0,20}") {
            let _ = s.parse::<Snapshot>();
            let _ = t.parse::<Snapshot>();
        }
    }

    /// Transactions begin and end in any order; snapshots are taken in between, as a primary takes them.
    fn history() -> impl Strategy<Value = Vec<Snapshot>> {
        prop::collection::vec(0u8..4, 1..60).prop_map(|events| {
            let (mut next, mut running, mut taken) = (1u64, BTreeSet::new(), Vec::new());
            for (i, event) in events.into_iter().enumerate() {
                match event {
                    0 => {
                        running.insert(next);
                        next += 1;
                    }
                    1 => {
                        let ending = running.iter().nth(i % running.len().max(1)).copied();
                        ending.map(|x| running.remove(&x));
                    }
                    _ => {
                        let xmin = running.first().copied().unwrap_or(next);
                        taken.push(Snapshot { xmin, xmax: next, xip: running.iter().copied().collect() });
                    }
                }
            }
            taken
        })
    }

    proptest! {
        /// The algebra that delivery stands on: of a primary's snapshots the later contains the earlier, and so every transaction
        /// that the last one sees is in exactly one of the differences between neighbours.
        #[test]
        fn every_transaction_enters_exactly_one_difference(snapshots in history()) {
            for (i, later) in snapshots.iter().enumerate() {
                prop_assert!(snapshots[..=i].iter().all(|earlier| later.contains(earlier)));
                prop_assert_eq!(later.to_string().parse(), Ok(later.clone()));
            }
            for xid in 1..40 {
                let enters = snapshots.windows(2).filter(|w| w[1].sees(xid) && !w[0].sees(xid)).count();
                let leaves = snapshots.windows(2).filter(|w| w[0].sees(xid) && !w[1].sees(xid)).count();
                let (first, last) = (snapshots.first(), snapshots.last());
                let inside = last.is_some_and(|s| s.sees(xid)) && first.is_some_and(|s| !s.sees(xid));
                prop_assert_eq!((enters, leaves), (usize::from(inside), 0), "transaction {}", xid);
            }
        }

        #[test]
        fn containment_is_an_order(a in arbitrary(), b in arbitrary(), c in arbitrary()) {
            prop_assert!(a.contains(&a));
            prop_assert!(!(a.contains(&b) && b.contains(&c)) || a.contains(&c));
            prop_assert!(!(a.contains(&b) && b.contains(&a)) || seen(&a) == seen(&b));
        }

        /// Text that is nearly a snapshot: what is read says what was written, whatever the numbers.
        #[test]
        fn what_is_read_is_what_was_written(s in "[0-9]{1,3}:[0-9]{1,3}:([0-9]{1,3}(,[0-9]{1,3}){0,3})?", big in any::<u64>()) {
            for text in [s, format!("1:{big}:"), format!("{big}:{big}:"), format!("1:{big}:{}", big / 2), format!("1:{big}0:")] {
                let Ok(snapshot) = text.parse::<Snapshot>() else { continue };
                let numbers = |t: &str| t.split([':', ',']).filter(|n| !n.is_empty()).map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
                prop_assert_eq!(numbers(&snapshot.to_string()), numbers(&text));
                prop_assert!(snapshot.contains(&snapshot) && !snapshot.sees(snapshot.xmax()) && snapshot.sees(snapshot.xmin() - 1));
            }
        }
    }

    #[test]
    fn what_postgresql_would_refuse_is_refused() {
        for bad in ["", "1", "1:2", "2:1:", "0:1:", "1:5:5", "1:5:3,2", "1:5:2,2", "1:5:,", "a:b:", "1:2:3:4"] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
        assert!("10:20:10,14".parse::<Snapshot>().unwrap().sees(12));
    }
}
