//! Bugs on purpose, so that the storm and the tests can be tested: `make storm-mutants` runs the daemon with each of them
//! and wants it caught (docs/reliability.md).
//!
//! Only a build with the feature `planted` has them, never a release; there the variable `PLANTED` names one. Everywhere
//! else the functions here say "no" at compile time.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("the feature `planted` is for tests: a release must not have bugs on purpose");

/// Whether the bug of this name is wanted.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub(crate) use wanted::{first, is, kept, leave_at, left_at, save, saved, script, tombstone};

#[cfg(feature = "planted")]
mod wanted {
    use crate::rules::snapshot::Snapshot;
    use std::any::Any;
    use std::collections::HashSet;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};

    pub(crate) fn is(bug: &str) -> bool {
        static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PLANTED").ok());
        WANTED.as_deref() == Some(bug)
    }

    /// The script that deletes, without what a bug leaves out.
    pub(crate) fn script(text: &'static str) -> &'static str {
        let without = |line: &str, instead: &str| {
            assert!(text.contains(line), "the script has changed: {line}");
            text.replace(line, instead).leak() as &str
        };
        if is("plain-multi") {
            // Out of memory, a transaction with one write that needs memory does nothing at all.
            without("if not KEYS[4] then redis.call('UNLINK', KEYS[2]) end", "redis.call('SET', KEYS[2], '')")
        } else if is("local-file") {
            without("if record ~= ARGV[1] then return {0, record} end", "")
        } else {
            text
        }
    }

    fn file() -> PathBuf {
        std::env::temp_dir().join("planted-position")
    }

    /// The position of the local file.
    pub(crate) fn saved() -> Option<String> {
        if is("local-file") { std::fs::read_to_string(file()).ok() } else { None }
    }

    /// Writes it.
    pub(crate) fn save(record: &str) {
        if is("local-file") {
            let _ = std::fs::write(file(), record);
        }
    }

    static CURSOR: AtomicU64 = AtomicU64::new(0);

    /// Where a SCAN begins: where the last one broke.
    pub(crate) fn left_at() -> u64 {
        if is("scan-resumed") { CURSOR.load(Ordering::Relaxed) } else { 0 }
    }

    /// A SCAN has come this far.
    pub(crate) fn leave_at(cursor: u64) {
        CURSOR.store(cursor, Ordering::Relaxed);
    }

    /// What a session begins with: what the first one began with, as it is by now.
    pub(crate) fn kept<T: Clone + Send + 'static>(fresh: T) -> T {
        static KEPT: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
        if !is("kept-index") {
            return fresh;
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let old = kept.as_ref().and_then(|k| k.downcast_ref::<T>()).cloned();
        old.unwrap_or_else(|| {
            *kept = Some(Box::new(fresh.clone()));
            fresh
        })
    }

    /// What a fill must have seen: beside the floor only the newest transaction of the batch.
    pub(crate) fn tombstone(target: &Snapshot, floor: Option<&Snapshot>) -> Snapshot {
        let newest = (0..target.xmax()).rev().find(|xid| target.sees(*xid));
        let (Some(floor), Some(newest), true) = (floor, newest, is("one-xid-tombstone")) else { return target.clone() };
        if floor.sees(newest) {
            return floor.clone();
        }
        let unseen = (floor.xmin()..newest).filter(|xid| !floor.sees(*xid)).map(|xid| xid.to_string());
        let text = format!("{}:{}:{}", floor.xmin(), newest + 1, unseen.collect::<Vec<_>>().join(","));
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Whether this is the first time that `what` is asked about.
    pub(crate) fn first(what: &str) -> bool {
        static ASKED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
        ASKED.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned())
    }
}

#[cfg(not(feature = "planted"))]
mod harmless {
    use crate::rules::snapshot::Snapshot;

    pub(crate) fn tombstone(target: &Snapshot, _floor: Option<&Snapshot>) -> Snapshot {
        target.clone()
    }

    pub(crate) fn kept<T>(fresh: T) -> T {
        fresh
    }

    pub(crate) const fn script(text: &'static str) -> &'static str {
        text
    }

    pub(crate) const fn saved() -> Option<String> {
        None
    }

    pub(crate) const fn save(_record: &str) {}

    pub(crate) const fn left_at() -> u64 {
        0
    }

    pub(crate) const fn leave_at(_cursor: u64) {}

    pub(crate) const fn first(_what: &str) -> bool {
        false
    }
}
#[cfg(not(feature = "planted"))]
pub(crate) use harmless::{first, kept, leave_at, left_at, save, saved, script, tombstone};
