//! What bounds the daemon while a server is away or changes flood it: its memory, the writers' time, and what a poll costs.

use super::{fill, setup};
use crate::support::{Db, Delivery, Setup, World};
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::time::{Duration, Instant};

/// Memory that the daemon may use, in kB; it is measured at its peak, of an unoptimised build.
const MOST_KB: u64 = 100_000;

/// The peak of the daemon's resident memory so far, in kB.
fn peak(w: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", w.daemon(|d| d.pid()))).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Changes of one statement.
const ROWS: u32 = 1_000;
/// Statements: 200 000 changes, in a few seconds. `BOUNDS_STATEMENTS=6000` makes a minute of 100 000 changes a second of them.
const STATEMENTS: u32 = 200;

fn statements() -> u32 {
    std::env::var("BOUNDS_STATEMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(STATEMENTS)
}

/// Runs the statements of the flood, and beside each the same of a table that nobody watches: what else goes on on the machine slows
/// down both. Returns the medians.
fn flood(db: &Db) -> (Duration, Duration) {
    let one = |table: &str, n: u32| {
        let from = n % 200 * ROWS;
        let before = Instant::now();
        db.sql(&format!("UPDATE {table} SET v = v + 1 WHERE id > {from} AND id <= {}", from + ROWS));
        before.elapsed()
    };
    let (watched, plain) = (0..statements()).map(|n| (one("items", n), one("plain", n))).unzip();
    (median(watched), median(plain))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Waits until the flood is delivered: a probe waits behind it, and nothing is ready before one has arrived.
fn wait_caught_up(w: &World) {
    let deadline = Instant::now() + Duration::from_secs(30) + Duration::from_millis(100) * statements();
    while w.pgevict(&["ready"]).code != Some(0) {
        assert!(Instant::now() < deadline, "not caught up");
    }
    w.drain();
}

#[test]
fn a_flood_of_changes_while_redis_is_down_costs_no_memory_and_no_writer_and_is_caught_up() {
    let schema = "CREATE TABLE items (id int PRIMARY KEY, v bigint NOT NULL DEFAULT 0);
         INSERT INTO items SELECT n FROM generate_series(1, 200000) n;
         CREATE TABLE plain AS TABLE items;
         ALTER TABLE plain ADD PRIMARY KEY (id)";
    let config = "[cache.item]\nkey = \"item:{id}\"\n[table.items]\nevict = [\"item\"]\n";
    let w = World::running(&Setup { config, schema, ..setup() });
    w.wait_position();
    w.stop();
    let writer = w.connect();
    let alone = flood(&writer);
    w.start_unready(&[]);
    wait_caught_up(&w);
    let keys: Vec<String> = (0..200).map(|n| format!("item:{}", n * ROWS + 7)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).take(statements() as usize).collect();
    w.fill(&keys);
    w.fill(&["canary"]);
    redis::cmd("SAVE").exec(&mut w.redis()).unwrap();

    let (mark, before) = (w.mark(), peak(&w));
    w.redis.borrow_mut().kill();
    w.wait_line(mark, &["Redis down"]);
    let down = flood(&writer);
    let waiting = peak(&w);
    // Frozen, it cannot be faster than the question.
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    assert!(w.redis.borrow_mut().up().is_ok());
    assert!(w.redis().exists::<_, bool>(&keys[..]).unwrap(), "the dump holds no stale key: nothing is tested");
    w.daemon(|d| d.signal(Signal::SIGCONT));
    let down_at = Instant::now();
    wait_caught_up(&w);
    let took = down_at.elapsed();
    assert_eq!(w.missing(), keys.iter().map(|k| (*k).to_owned()).collect());
    let after = peak(&w);
    println!(
        "{} changes, caught up within {took:?}; median of a statement, and of one that nobody watches, {alone:?} without a daemon, {down:?} while Redis is down; peak {before} kB before, {waiting} kB while it is down, {after} kB after",
        statements() * ROWS
    );
    assert!(after < MOST_KB, "the daemon used {after} kB");
    // Nothing is read while Redis is away, so nothing grows, however long that is.
    assert!(waiting < before + 10_000, "{before} kB became {waiting} kB while Redis was down");
    // Neither a lock nor the bell makes a writer wait.
    let ratio = |(watched, plain): (Duration, Duration)| watched.as_secs_f64() / plain.as_secs_f64();
    assert!(ratio(down) < ratio(alone) * 4.0, "{alone:?} without a daemon, {down:?} while Redis is down");
}

#[test]
fn a_flood_of_notifications_that_does_not_fit_is_a_gap_and_costs_no_memory() {
    let schema = "CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs SELECT generate_series(1, 100)";
    let config = "[cache.doc]\nkey = \"doc:{id}\"\n[table.docs]\nevict = [\"doc\"]\n";
    let w = World::running(&Setup { delivery: Delivery::Notify, config, schema, ..Setup::default() });
    w.fill(&["doc:77", "doc:78", "canary"]);
    let (mark, quiet) = (w.mark(), peak(&w));
    w.redis.borrow().signal(Signal::SIGSTOP);
    // The loop waits for Redis; then 40 MB come, more than may wait; then a change that there is no room for.
    w.sql("UPDATE docs SET body = 'first' WHERE id = 1");
    w.sql("SELECT count(pg_notify('pgevict', n || repeat('x', 7900))) FROM generate_series(1, 5000) n");
    // What has arrived shows in the daemon's memory.
    let arrived = Instant::now() + Duration::from_secs(6);
    while peak(&w) < quiet + 25_000 && Instant::now() < arrived {
        std::thread::sleep(Duration::from_millis(20));
    }
    w.sql("UPDATE docs SET body = 'lost' WHERE id = 77");
    let flooded = peak(&w);
    w.redis.borrow().signal(Signal::SIGCONT);
    // On a machine that is too slow Redis counts as dead before: the next session begins with a gap all the same.
    w.wait_line(mark, &["down", "next try in"]);
    w.wait_line(mark, &["flush of", "changes while nobody listened are unknown"]);
    w.wait_gone(&["doc:77", "doc:78"]);
    w.wait_ready();
    w.drain();
    assert!(!w.missing().contains("canary"));
    let peak = peak(&w);
    println!("peak {flooded} kB under the flood, {peak} kB after");
    assert!(peak < MOST_KB, "the daemon used {peak} kB");
}

/// Patterns that wait fill the memory too: notifications wait then, and a pass goes on finding.
#[test]
fn a_flood_of_notified_patterns_starves_no_pass_and_ends() {
    let schema = "CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs SELECT n FROM generate_series(1, 60000) n";
    let config = "[cache.doc]\npattern = \"doc:{id}:*\"\n[table.docs]\nevict = [\"doc\"]\n";
    let w = World::running(&Setup { delivery: Delivery::Notify, config, schema, ..Setup::default() });
    let keys: Vec<String> = (0..200).map(|n| format!("doc:{}:a", n * 300 + 1)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    w.fill(&keys);
    w.fill(&["canary"]);
    w.sql(
        "DO $$ BEGIN FOR i IN 0..199 LOOP UPDATE docs SET body = i WHERE id > i * 300 AND id <= i * 300 + 300; COMMIT;
         END LOOP; END $$",
    );
    w.wait_gone(&keys);
    w.drain();
    assert!(!w.missing().contains("canary"));
    assert!(peak(&w) < MOST_KB, "the daemon used {} kB", peak(&w));
}

fn prepare_page(db: &Db) {
    let page = include_str!("../../../sql/page.sql");
    let text = page.lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join("\n");
    db.sql("DEALLOCATE ALL");
    db.sql(&format!("PREPARE page (text, text, text, bigint, bigint, bigint) AS {text}"));
}

/// What a page of the journal touches: rows that any node of the plan produced or threw away, and blocks.
fn touched(db: &Db, seen: &str) -> (u64, u64) {
    prepare_page(db);
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page('{seen}', NULL, '0', 0, 512, 262144)");
    // Blocks that only this session has not seen yet, of the catalog too, count in the first run.
    db.sql(&explain);
    let plan = db.sql(&explain)[0][0].clone().unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let top = &plan[0]["Plan"];
    let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].iter().filter_map(|n| top[n].as_u64()).sum();
    (rows(top), blocks)
}

/// The rows of a page behind `after`, by their number.
fn page(db: &Db, seen: &str, after: &str) -> Vec<String> {
    let rows = db.sql(&format!("EXECUTE page('{seen}', NULL, {after}, 512, 262144)"));
    rows.iter().filter_map(|row| row[4].clone()).collect()
}

#[test]
fn a_page_ends_with_the_row_that_fills_it_and_a_row_larger_than_a_page_is_one() {
    let w = World::new(&setup());
    w.apply();
    let db = w.connect();
    let seen = db.sql("SELECT pg_current_snapshot()::text")[0][0].clone().unwrap();
    // As much as a trigger writes into one row, and values that do not compress: about 60 kB each, then 600 kB, then 60 kB.
    let row = |texts: u32| {
        format!(
            "INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) SELECT 1, 'users', 'r', 'u',
               ARRAY[ARRAY['0', string_agg(md5(n::text || random()), '')]] FROM generate_series(1, {texts}) n;"
        )
    };
    db.sql(&format!("BEGIN;{}{}{}COMMIT", row(1900).repeat(100), row(19_000), row(1900)));
    prepare_page(&db);
    let first = page(&db, &seen, "'0', 0");
    assert!((3..=6).contains(&first.len()), "{} rows of 60 kB in a page of 256 kB", first.len());
    // From the last small row before the large one on.
    let place = |n: u32| {
        db.sql(&format!("SELECT '''' || xid || ''', ' || seq FROM pgevict.journal ORDER BY seq OFFSET {n} LIMIT 1"))[0]
            [0]
        .clone()
        .unwrap()
    };
    assert_eq!(page(&db, &seen, &place(98)).len(), 2, "a small one, and the large one that fills the page");
    assert_eq!(page(&db, &seen, &place(99)).len(), 1, "the large one alone");
    assert_eq!(page(&db, &seen, &place(100)).len(), 1);
    assert_eq!(page(&db, &seen, &place(101)), [""; 0]);
}

fn rows(node: &serde_json::Value) -> u64 {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let loops = number("Actual Loops");
    let names = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
    let own: f64 = names.iter().map(|n| number(n) * loops).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of rows")]
    let own = own as u64;
    own + node["Plans"].as_array().into_iter().flatten().map(rows).sum::<u64>()
}

#[test]
fn a_poll_beside_an_old_transaction_and_a_million_rows_touches_only_what_is_new() {
    let w = World::new(&setup());
    w.apply();
    fill(&w);
    let open = w.connect();
    open.sql("BEGIN");
    open.sql("UPDATE users SET name = 'slow' WHERE id = 50");
    let db = w.connect();
    db.sql(include_str!("../../../sql/session.sql"));
    db.sql("SET statement_timeout = 0; SET idle_session_timeout = 0; SET plan_cache_mode = force_generic_plan");
    let seen = |db: &Db| db.sql("SELECT pg_current_snapshot()::text")[0][0].clone().unwrap();
    let change = || w.sql("UPDATE users SET name = name || '.' WHERE id = 1");
    let empty = seen(&db);
    change();
    let before = touched(&db, &empty);

    // A hundred transactions that nobody may retire: the oldest snapshot is still open.
    for _ in 0..5 {
        w.sql(
            "DO $$ BEGIN FOR i IN 1..20 LOOP
               INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
               SELECT 1, 'users', 'r', 'u', ARRAY[['0', n::text]] FROM generate_series(1, 10000) n;
               COMMIT;
             END LOOP; END $$",
        );
    }
    let full = seen(&db);
    change();
    let after = touched(&db, &full);
    println!("rows and blocks that a poll touches: {before:?} with an empty journal, {after:?} with a million rows");
    assert!(after.0 <= before.0 + 8, "rows: {before:?} became {after:?}");
    assert!(after.1 <= before.1 + 24, "blocks: {before:?} became {after:?}");
    // What the old transaction wrote arrives as cheaply when it commits, from far behind.
    open.sql("COMMIT");
    let late = touched(&db, &full);
    assert!(late.0 <= before.0 + 16 && late.1 <= before.1 + 32, "{before:?} became {late:?}");
}
