//! Faults that are DDL: what migrations, and people in a hurry, do to watched tables.

use super::nemesis::{Nemesis, PATIENCE};
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two audits.
const AUDIT: Duration = Duration::from_secs(30);

impl Nemesis<'_> {
    /// Rows leave and come back without a trigger; meanwhile direct DML goes to the detached table.
    pub(crate) fn detach_partition(&self, lasts: Duration) {
        let attached = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'part_c'::regclass)";
        self.insist("ALTER TABLE part DETACH PARTITION part_c", attached, "f");
        std::thread::sleep(lasts);
        self.insist("ALTER TABLE part ATTACH PARTITION part_c FOR VALUES FROM (200) TO (300)", attached, "t");
    }

    /// DDL as a migration does it: with a lock timeout, again and again until `question` is answered as it should be.
    fn insist(&self, ddl: &str, question: &str, answer: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.stage.db().and_then(|db| db.value(question).ok()).flatten().as_deref() == Some(answer) {
                return;
            }
            self.sql(&format!("SET lock_timeout = '500ms'; {ddl}"));
            // A transaction that was prepared by a writer that died holds its locks until somebody ends it.
            let left = "SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '2 s' LIMIT 1";
            if let Some(db) = self.stage.db()
                && let Ok(Some(name)) = db.value(left)
            {
                let _ = db.rows(&format!("COMMIT PREPARED '{name}'"));
            }
        }
        self.trace.event("fault", format!("gave up: {ddl}"));
    }

    fn apply(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stage.apply() {
                Ok(()) => return Ok(()),
                Err(said) if Instant::now() > deadline => return Err(format!("sql apply: {said}")),
                Err(_) => {}
            }
        }
    }

    /// Until `sql apply`, each statement of the table evicts its caches whole.
    pub(crate) fn rename_column(&mut self) -> Result<(), String> {
        let new = if self.owner == "owner" { "holder" } else { "owner" };
        let there =
            format!("SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'held'::regclass AND attname = '{new}')");
        self.insist(&format!("ALTER TABLE held RENAME COLUMN {} TO {new}", self.owner), &there, "t");
        self.owner = new;
        self.stage.write_config(new);
        self.apply()?;
        self.stage.signal(0, Signal::SIGHUP);
        self.stage.signal(1, Signal::SIGHUP);
        Ok(())
    }

    /// json has no equality: a trigger that compares rows must not trip over it (HAZARDS C3).
    pub(crate) fn add_json_column(&mut self) -> Result<(), String> {
        self.columns += 1;
        let name = format!("extra{}", self.columns);
        let there = format!(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = '{name}')"
        );
        self.insist(&format!("ALTER TABLE items ADD COLUMN {name} json DEFAULT '[1]'"), &there, "t");
        self.apply()
    }

    /// Nothing is captured until the daemon has noticed (an audit, at most 30 s) and the trigger is back.
    pub(crate) fn disable_trigger(&self) -> Result<(), String> {
        let enabled =
            "SELECT bool_or(tgenabled <> 'D') FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND NOT tgisinternal";
        let enable = || self.insist("ALTER TABLE docs ENABLE TRIGGER USER", enabled, "t");
        self.insist("ALTER TABLE docs DISABLE TRIGGER USER", enabled, "f");
        let deadline = Instant::now() + PATIENCE;
        while !self.stage.unready().is_some_and(|why| why.contains("not_live")) {
            if Instant::now() > deadline {
                enable();
                return Err("a disabled trigger was not noticed".into());
            }
            self.audit();
        }
        enable();
        Ok(())
    }

    /// A table that is built anew beside the old one and takes its place, as a nightly job does it; `applied`: it has its
    /// triggers at once. The daemon must find that by itself: what was cached of the old table goes, with triggers or without.
    pub(crate) fn swap_table(&self, applied: bool) -> Result<(), String> {
        let Some(old) = self.stage.db().and_then(|db| db.value("SELECT 'daily'::regclass::oid").ok()).flatten() else {
            return Ok(());
        };
        let names: Vec<String> = (1..=super::shop::DAILY).map(|id| format!("daily:{id}")).collect();
        let cached = || -> HashMap<&String, String> {
            let values = self.stage.cache().and_then(|mut redis| redis.mget::<_, Vec<Option<String>>>(&names).ok());
            names.iter().zip(values.unwrap_or_default()).filter_map(|(name, value)| Some((name, value?))).collect()
        };
        let before = cached();
        let swap = "BEGIN; CREATE TABLE daily_new (LIKE daily INCLUDING ALL); \
                    INSERT INTO daily_new SELECT id, nextval('versions'), tag + 1 FROM daily; \
                    ALTER TABLE daily RENAME TO daily_old; ALTER TABLE daily_new RENAME TO daily; DROP TABLE daily_old; COMMIT";
        self.insist(swap, &format!("SELECT 'daily'::regclass::oid <> {old}"), "t");
        if applied {
            self.apply()?;
        }
        let deadline = Instant::now() + PATIENCE + AUDIT;
        while cached().iter().any(|(name, value)| before.get(name) == Some(value)) {
            if Instant::now() > deadline {
                return Err(format!("values of a table that was swapped (triggers: {applied}) are still served"));
            }
            self.audit();
        }
        if applied { Ok(()) } else { self.apply() }
    }

    /// An audit comes within 30 s by itself; a storm has no 30 s for one fault, and a daemon that is told to read its
    /// configuration audits at once.
    fn audit(&self) {
        self.stage.signal(0, Signal::SIGHUP);
        self.stage.signal(1, Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(500));
    }
}
