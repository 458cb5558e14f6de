//! The application's writers: transactions of every shape. Each statement that changes a versioned row returns
//! `table, id, v, tag`, so that the harness knows what was committed when the commit is acknowledged.

use super::client::{Db, Refused};
use super::shop::{self, BUCKETS, CHILDREN, DOCS, ITEMS, OWNERS, PARTS, literal};
use super::stage::Stage;
use super::trace::{Counts, Trace};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a writer's session may have set: none of it may change a key.
const SESSIONS: [&str; 5] = [
    "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German, DMY'; SET bytea_output = 'escape'",
    "SET default_transaction_isolation = 'repeatable read'; SET synchronous_commit = off",
    "SET default_transaction_isolation = 'serializable'; SET timezone = 'America/New_York'",
    "SET synchronous_commit = off; SET extra_float_digits = 0; SET intervalstyle = 'iso_8601'",
    "SET plan_cache_mode = force_generic_plan; SET quote_all_identifiers = on",
];
/// A writer that waits longer for a lock gives way, so that nothing stands still behind a lost transaction.
const LIMITS: &str =
    "SET lock_timeout = '3s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'";

/// One transaction, ready to be sent.
enum Work {
    /// One message.
    Plain(String),
    /// Prepared under that name, then committed or rolled back.
    Prepared(String, bool),
}

struct Writer<'a> {
    rng: StdRng,
    words: Vec<String>,
    instants: Vec<String>,
    prepared: bool,
    merges: bool,
    copy: String,
    trace: &'a Trace,
}

/// Writes until `stop`.
pub(crate) fn write(stage: &Stage, trace: &Trace, seed: u64, prepared: bool, stop: &AtomicBool) {
    let rng = StdRng::seed_from_u64(seed);
    let copy = literal(&stage.copy_file().display().to_string());
    let (words, instants, merges) = (shop::words(), shop::instants(), stage.merges);
    let mut writer = Writer { rng, words, instants, prepared, merges, copy, trace };
    while !stop.load(Ordering::Relaxed) {
        let Ok(db) = Db::connect(&stage.pg_url()) else {
            // The server is away; asking it a thousand times a second would take the time it needs to come back.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let session = SESSIONS[writer.rng.random_range(0..SESSIONS.len())];
        if db.rows(&format!("{LIMITS}; {session}")).is_err() {
            continue;
        }
        while !stop.load(Ordering::Relaxed) {
            let work = writer.work();
            if let Err(refused) = writer.perform(&db, work) {
                Counts::add(&trace.counts.refused);
                if refused.by_pgevict {
                    trace.harm(format!("a writer was refused: {} {}", refused.code, refused.message));
                }
                if refused.code.is_empty() || db.rows("ROLLBACK").is_err() {
                    break;
                }
            }
            writer.rest();
        }
    }
}

impl Writer<'_> {
    /// Between two transactions: mostly nothing, so that writers and the daemon meet in every order; at times long
    /// enough for the daemon to fall asleep.
    fn rest(&mut self) {
        let ms = match self.rng.random_range(0..100) {
            0 => self.rng.random_range(20..150),
            1..40 => self.rng.random_range(1..8),
            _ => return,
        };
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn word(&mut self) -> String {
        literal(&self.words[self.rng.random_range(0..self.words.len())])
    }

    fn ids(&mut self, below: u32) -> String {
        let count = self.rng.random_range(1..=5);
        let mut ids: Vec<u32> = (0..count).map(|_| self.rng.random_range(1..=below)).collect();
        ids.sort_unstable();
        ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }

    /// An UPDATE that gives rows new versions.
    fn renew(&mut self, table: &str, id: &str, also: &str) -> String {
        let tag = self.rng.random_range(0..1_000_000_000);
        // A partition is named for itself here, its rows belong to the table.
        let of = if table.starts_with("part") { "part" } else { table };
        format!(
            "UPDATE {table} SET v = nextval('versions'), tag = {tag}{also} WHERE id IN ({id}) RETURNING '{of}', id, v, tag; "
        )
    }

    /// One statement, or a few that belong together.
    fn statement(&mut self) -> String {
        let item = self.rng.random_range(1..=ITEMS);
        let tag = self.rng.random_range(0..1_000_000_000);
        match self.rng.random_range(0..100) {
            0..30 => {
                let ids = self.ids(ITEMS);
                self.renew("items", &ids, "")
            }
            30..36 => {
                let also = format!(", grp = {}", self.word());
                self.renew("items", &item.to_string(), &also)
            }
            36..40 => {
                let also = format!(", name = {}", self.word());
                self.renew("items", &item.to_string(), &also)
            }
            40..44 => format!("DELETE FROM items WHERE id = {item}; "),
            44..47 if self.merges => self.merge(item),
            44..50 => {
                let (grp, name) = (self.word(), self.word());
                format!(
                    "INSERT INTO items (id, grp, name, tag) VALUES ({item}, {grp}, {name}, {tag}) ON CONFLICT (id) DO UPDATE \
                     SET v = nextval('versions'), tag = {tag} RETURNING 'items', id, v, tag; "
                )
            }
            50..66 => self.part(),
            66..80 => self.family(),
            80..86 => self.bulk(),
            86..93 => {
                let doc = self.rng.random_range(1..=DOCS).to_string();
                let also = match self.rng.random_range(0..3) {
                    0 => format!(", shelf = {}", self.word()),
                    1 => {
                        let at = self.rng.random_range(0..self.instants.len());
                        format!(", at = {}", literal(&self.instants[at]))
                    }
                    _ => String::new(),
                };
                // Its caches have no second delete, so a filler holds the table: the same order of locks for all.
                self.renew("docs", &doc, &also)
            }
            93..98 => {
                let (id, word) = (self.rng.random_range(1..=200), self.word());
                // The column has one of two names; the other statement changes no row.
                format!(
                    "DO $do$ BEGIN UPDATE held SET owner = {word}, v = nextval('versions') WHERE id = {id}; \
                     EXCEPTION WHEN undefined_column THEN \
                     UPDATE held SET holder = {word}, v = nextval('versions') WHERE id = {id}; END $do$; "
                )
            }
            98 => self.poison(),
            _ => {
                let ids = self.ids(ITEMS);
                self.renew("items", &ids, "")
            }
        }
    }

    /// One statement that inserts, updates or deletes. It returns nothing before PostgreSQL 17, so the rows are asked for.
    fn merge(&mut self, item: u32) -> String {
        let (word, tag) = (self.word(), self.rng.random_range(0..1_000_000_000));
        let until = item + self.rng.random_range(0..4);
        let matched = if self.rng.random_bool(0.2) {
            "WHEN MATCHED AND i.id % 2 = 0 THEN DELETE WHEN MATCHED THEN DO NOTHING"
        } else {
            "WHEN MATCHED THEN UPDATE SET v = nextval('versions'), tag = new.tag"
        };
        format!(
            "MERGE INTO items i USING (SELECT n AS id, {tag} AS tag FROM generate_series({item}, least({until}, {ITEMS})) n) new \
             ON i.id = new.id {matched} \
             WHEN NOT MATCHED THEN INSERT (id, grp, name, tag) VALUES (new.id, {word}, {word}, new.tag); \
             SELECT 'items', id, v, tag FROM items WHERE id BETWEEN {item} AND {until} AND tag = {tag}; "
        )
    }

    /// Rarely, a journal row that nobody can read: it stands for its whole table (HAZARDS P9), and so hides what went wrong
    /// with single rows before.
    fn poison(&mut self) -> String {
        let doc = self.rng.random_range(1..=DOCS);
        let change = self.renew("docs", &doc.to_string(), "");
        if doc % 4 > 0 {
            return change;
        }
        let spoil = ["layout = -1", "kind = '?'", "op = '?'", "classes = '{99}', kind = 'w'"][doc as usize / 4 % 4];
        format!("{change}UPDATE pgevict.journal SET {spoil} WHERE xid = pg_current_xact_id(); ")
    }

    fn part(&mut self) -> String {
        let id = self.rng.random_range(1..=PARTS);
        let k = self.rng.random_range(0..300);
        let tag = self.rng.random_range(0..1_000_000_000);
        let leaf = ["part_a", "part_b", "part_c"][self.rng.random_range(0..3)];
        match self.rng.random_range(0..20) {
            0..6 => self.renew("part", &id.to_string(), ""),
            6..11 => self.renew(leaf, &id.to_string(), ""),
            11..15 => self.renew("part", &id.to_string(), &format!(", k = {k}")),
            15..17 => format!("DELETE FROM part WHERE id = {id}; "),
            17 => format!("TRUNCATE {leaf}; "),
            _ => format!(
                "DELETE FROM part WHERE id = {id}; \
                 INSERT INTO part (id, k, tag) VALUES ({id}, {k}, {tag}) RETURNING 'part', id, v, tag; "
            ),
        }
    }

    /// Parents and children: cascades and lookups.
    fn family(&mut self) -> String {
        let owner = self.rng.random_range(1..=OWNERS);
        let child = self.rng.random_range(1..=CHILDREN);
        let tag = self.rng.random_range(0..1_000_000_000);
        let word = self.word();
        match self.rng.random_range(0..20) {
            0..9 => {
                let ids = self.ids(CHILDREN);
                self.renew("children", &ids, "")
            }
            9..12 => format!(
                "INSERT INTO owners VALUES ({owner}, {word}) ON CONFLICT DO NOTHING; \
                 INSERT INTO children (id, owner_id, tag) VALUES ({child}, {owner}, {tag}) ON CONFLICT (id) DO UPDATE \
                 SET owner_id = {owner}, v = nextval('versions'), tag = {tag} RETURNING 'children', id, v, tag; "
            ),
            12..15 => format!("UPDATE owners SET team = {word} WHERE id = {owner}; "),
            15..17 => format!("UPDATE owners SET id = {} WHERE id = {owner}; ", owner + 1000),
            17 => format!("UPDATE owners SET id = {owner} WHERE id = {}; ", owner + 1000),
            18 => format!("DELETE FROM owners WHERE id IN ({owner}, {}); ", owner + 1000),
            _ => format!("DELETE FROM children WHERE id = {child}; "),
        }
    }

    fn bulk(&mut self) -> String {
        let bucket = self.rng.random_range(0..BUCKETS);
        match self.rng.random_range(0..10) {
            0..4 => format!("UPDATE bulk SET v = v + 1 WHERE bucket = {bucket}; "),
            4 => "UPDATE bulk SET v = v + 1; ".into(),
            5 => format!("UPDATE bulk SET bucket = (bucket + 1) % {BUCKETS} WHERE id % 50 = {bucket}; "),
            6 => format!("DELETE FROM bulk WHERE id > 2000; COPY bulk FROM {} CSV; ", self.copy),
            7 => "TRUNCATE bulk; ".into(),
            _ => format!(
                "INSERT INTO bulk SELECT n, n % {BUCKETS} FROM generate_series(1, 2000) n ON CONFLICT (id) DO UPDATE SET v = bulk.v + 1; "
            ),
        }
    }

    fn work(&mut self) -> Work {
        let first = self.statement();
        let one = |s: &str| s.matches("; ").count() == 1;
        match self.rng.random_range(0..20) {
            // A COPY or TRUNCATE in a transaction of several is as good as any other.
            0..10 if one(&first) => Work::Plain(first),
            10..12 => {
                let (second, third) = (self.statement(), self.statement());
                Work::Plain(format!("BEGIN; {first}{second}{third}COMMIT"))
            }
            12 | 13 => {
                // What the savepoint takes back returns no version.
                let undone = undone(&self.statement());
                let last = self.statement();
                Work::Plain(format!("BEGIN; {first}SAVEPOINT s; {undone}ROLLBACK TO s; {last}COMMIT"))
            }
            14 => Work::Plain(format!("BEGIN; {}ROLLBACK", undone(&first))),
            15 | 16 => {
                let pause = self.rng.random_range(5..200);
                Work::Plain(format!("BEGIN; {first}SELECT pg_sleep(0.{pause:03}); COMMIT"))
            }
            17 | 18 if self.prepared => Work::Prepared(first, self.rng.random_bool(0.8)),
            _ => Work::Plain(format!("BEGIN; {first}COMMIT")),
        }
    }

    fn perform(&mut self, db: &Db, work: Work) -> Result<(), Refused> {
        let (rows, kept) = match work {
            Work::Plain(sql) => (db.rows(&sql)?, true),
            Work::Prepared(sql, commit) => {
                let name = format!("storm{}", self.rng.random::<u64>());
                let rows = db.rows(&format!("BEGIN; {sql}PREPARE TRANSACTION '{name}'"))?;
                std::thread::sleep(Duration::from_millis(self.rng.random_range(0..60)));
                let end = if commit { "COMMIT" } else { "ROLLBACK" };
                db.rows(&format!("{end} PREPARED '{name}'"))?;
                (rows, commit)
            }
        };
        if kept {
            let versions: Vec<_> = rows.iter().filter_map(|row| version(row)).collect();
            self.trace.committed(&versions);
            Counts::add(&self.trace.counts.transactions);
        }
        Ok(())
    }
}

/// The statement, but the rows that it returns are no committed versions.
fn undone(statement: &str) -> String {
    statement.replace("RETURNING", "RETURNING NULL,").replace("SELECT 'items'", "SELECT NULL, 'items'")
}

fn version(row: &[Option<String>]) -> Option<(&'static str, i64, i64, i64)> {
    let [Some(table), Some(id), Some(v), Some(tag)] = row else { return None };
    let table = ["items", "part", "children", "docs"].into_iter().find(|t| t == table)?;
    Some((table, id.parse().ok()?, v.parse().ok()?, tag.parse().ok()?))
}

/// Transactions that were prepared and whose writer is gone: commits them, as an operator would.
pub(crate) fn finish_prepared(db: &Db) -> Result<(), Refused> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(name) = db.value("SELECT gid FROM pg_prepared_xacts LIMIT 1")? {
        // Its writer may be faster.
        let ended = db.rows(&format!("COMMIT PREPARED '{name}'"));
        if Instant::now() > deadline {
            return ended.map(drop);
        }
    }
    Ok(())
}
