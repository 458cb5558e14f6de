//! What bounds and delays a delete: never_delete, max_keys_per_change, repeat_after, debounce, versions, modes.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
use std::time::Instant;

const SCHEMA: &str =
    "CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text); INSERT INTO posts VALUES (1, 7, 't')";
const TABLES: &str = r#"
[cache.posts]
pattern = "posts:{user_id}:*"
[cache.post]
key = "post:{id}"
"#;
const CHANGE: &str = "UPDATE posts SET title = title || '.'";

fn world(delivery: Delivery, config: &str) -> World {
    let w = World::running(&Setup { delivery, config, schema: SCHEMA, ..Setup::default() });
    w.fill(&["posts:7:a", "posts:7:b", "posts:8:a", "post:1", "post:2"]);
    w
}

over_both_deliveries! {
    what_may_never_be_deleted_stays_whoever_asks
    a_change_that_matches_too_much_goes_slowly
    a_change_that_matches_too_much_can_be_refused
    repeat_after_deletes_a_stale_fill
    debounce_deletes_at_once_and_at_the_end_of_its_window
    observe_and_off_delete_nothing_and_a_table_may_differ
}

fn what_may_never_be_deleted_stays_whoever_asks(delivery: Delivery) {
    let w = world(
        delivery,
        &format!(
            "[limits]\nnever_delete = [\"posts:*:a\", \"post:1\"]\n{TABLES}[table.posts]\nevict = [\"posts\", \"post\"]"
        ),
    );
    w.check(CHANGE, &["posts:7:b"]);
    w.check("TRUNCATE posts", &["posts:7:b", "post:2"]);
    w.pgevict(&["evict", "--key", "post:1"]).exits(3);
    w.check_after("a pattern by hand", &["posts:7:b"], || {
        w.pgevict(&["evict", "--pattern", "posts:7:*"]);
    });
}

fn many(w: &World) -> Vec<String> {
    let keys: Vec<String> = (0..60).map(|n| format!("posts:7:{n}")).collect();
    w.fill(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    keys
}

fn a_change_that_matches_too_much_goes_slowly(delivery: Delivery) {
    let w = world(delivery, &format!("[limits]\nmax_keys_per_change = 10\n{TABLES}[table.posts]\nevict = [\"posts\"]"));
    let keys = many(&w);
    let gone: Vec<&str> = keys.iter().map(String::as_str).chain(["posts:7:a", "posts:7:b"]).collect();
    let mark = w.mark();
    w.check(CHANGE, &gone);
    let alert = w.wait_line(mark, &["max_keys_per_change"]);
    assert!(alert.to_lowercase().contains("warn"), "{alert}");
}

fn a_change_that_matches_too_much_can_be_refused(delivery: Delivery) {
    let w = world(
        delivery,
        &format!(
            "[limits]\nmax_keys_per_change = 10\nover_limit = \"refuse\"\n{TABLES}[table.posts]\nevict = [\"posts\", \"post\"]"
        ),
    );
    many(&w);
    w.check(CHANGE, &["post:1"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(format!("{}{}", ran.out, ran.err).contains("posts"), "{ran:?}");
    // A restart does not forget it; the operator does.
    if delivery == Delivery::Journal {
        w.stop();
        w.start_unready(&[]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !w.pgevict(&["ready"]).out.contains("posts") {
            assert!(std::time::Instant::now() < deadline, "the refusal is forgotten");
        }
    }
    // What the message tells the operator to run does what it says.
    w.pgevict(&["evict", "posts", "--dismiss"]).exits(0);
    w.wait_ready();
    assert_eq!(w.missing(), ["post:1".to_owned()].into());
    let mark = w.mark();
    w.sql(CHANGE);
    w.wait_line(mark, &["refused (matches"]);
    w.pgevict(&["ready"]).exits(1);
    w.pgevict(&["evict", "posts", "--all", "--yes"]).exits(0);
    w.wait_ready();
}

fn repeat_after_deletes_a_stale_fill(delivery: Delivery) {
    // Long enough that even a test that does not get a core for a while stores its stale value before the second delete.
    let repeated = TABLES.replace("post:{id}\"", "post:{id}\"\nrepeat_after = \"4s\"");
    let config = format!("{repeated}[table.posts]\nevict = [\"post\"]");
    let w = World::new(&Setup { delivery, config: &config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    // A flush has a second pass too; without one, what goes below goes for the change alone.
    w.start_with(&["--adopt"]);
    w.fill(&["post:1", "post:2"]);
    let mark = w.mark();
    w.sql(CHANGE);
    w.wait_gone(&["post:1"]);
    // A request that read before the commit stores what it read.
    w.fill(&["post:1"]);
    w.wait_gone(&["post:1"]);
    w.wait_line(mark, &["repeat"]);
    assert_eq!(w.missing(), ["post:1".to_owned()].into());
}

fn debounce_deletes_at_once_and_at_the_end_of_its_window(delivery: Delivery) {
    // The window must not be over before what falls into it is delivered, however slow the machine.
    let w = world(delivery, &format!("{TABLES}[table.posts]\ndebounce = \"12s\"\nevict = [\"post\"]"));
    w.sql(CHANGE);
    w.wait_gone(&["post:1"]);
    // Inside the window: delivered, but held back.
    w.check(CHANGE, &[]);
    w.wait_gone(&["post:1"]);
    assert_eq!(w.missing(), ["post:1".to_owned()].into());
}

fn observe_and_off_delete_nothing_and_a_table_may_differ(delivery: Delivery) {
    for mode in ["observe", "off"] {
        let config = format!("mode = \"{mode}\"\n{TABLES}[table.posts]\nevict = [\"posts\", \"post\"]");
        let w = world(delivery, &config);
        w.check(CHANGE, &[]);
        w.check("TRUNCATE posts", &[]);
    }
    let config =
        format!("mode = \"observe\"\n{TABLES}[table.posts]\nmode = \"enforce\"\nevict = [\"posts\", \"post\"]");
    let w = world(delivery, &config);
    w.check(CHANGE, &["posts:7:a", "posts:7:b", "post:1"]);
}

#[test]
fn an_edge_that_becomes_enforced_is_flushed_once() {
    let observed = format!("mode = \"observe\"\n{TABLES}[table.posts]\nevict = [\"post\"]");
    let w = world(Delivery::Journal, &observed);
    w.check(CHANGE, &[]);
    w.stop();
    w.write_config(&observed.replace("observe", "enforce"));
    w.start();
    w.drain();
    // What was passed over while observing cannot be proven fresh.
    assert_eq!(w.missing(), ["post:1".to_owned(), "post:2".to_owned()].into());
    w.check_after("another restart", &[], || w.restart());
}

#[test]
fn a_template_that_changes_is_flushed_once() {
    let before = format!("{TABLES}[table.posts]\nevict = [\"post\"]");
    let w = world(Delivery::Journal, &before);
    w.fill(&["article:1", "article:2"]);
    w.stop();
    w.write_config(&before.replace("post:{id}", "article:{id}"));
    w.apply();
    w.start();
    w.drain();
    let missing = w.missing();
    assert!(
        missing.contains("article:1") && missing.contains("article:2") && !missing.contains("posts:7:a"),
        "{missing:?}"
    );
    w.check(CHANGE, &["article:1"]);
}

#[test]
fn the_journal_stays_bounded_while_redis_is_away() {
    // Values that do not compress, so that the journal is over its bound.
    let config = "[postgres]\njournal_max_bytes = \"1MB\"\n[cache.title]\nkey = \"title:{title}\"\n\
                  [table.posts]\nevict = [\"title\"]";
    let w = World::new(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    w.redis.borrow_mut().kill();
    w.sql("INSERT INTO posts SELECT n, 1, md5(n::text) FROM generate_series(1000, 41000) n");
    let rows = w.sql("SELECT kind, note, array_length(tuples, 1) FROM pgevict.journal");
    assert!(rows.len() > 30, "{rows:?}");
    w.start_unready(&[]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !w.sql("SELECT FROM pgevict.journal LIMIT 1").is_empty() {
        assert!(std::time::Instant::now() < deadline, "the journal is kept though nobody can read it");
    }
}

/// HAZARDS B20: as a clone without a daemon has it, and as a daemon that comes after all finds it.
#[test]
fn a_journal_that_nobody_reads_stays_bounded_and_who_comes_back_misses_nothing() {
    let config = "[postgres]\njournal_max_bytes = \"1MB\"\n[cache.title]\nkey = \"title:{title}\"\n\
                  [table.posts]\nevict = [\"title\"]";
    let w = World::running(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w.fill(&["title:t", "title:kept", "other:1"]);
    w.stop();
    // Nobody was here for a while.
    w.sql("UPDATE pgevict.beacon SET at = at - interval '1 hour'");
    w.sql("UPDATE posts SET title = 'first'");
    let flood = |from: u32| {
        for n in (from..from + 12_000).step_by(100) {
            let one = |n| format!("INSERT INTO posts VALUES ({n}, 1, md5('{n}'));COMMIT;");
            w.sql(&(n..n + 100).map(one).collect::<String>());
        }
        w.sql("VACUUM (ANALYZE) pgevict.journal");
        w.value("SELECT count(*) || ' ' || pg_total_relation_size('pgevict.journal') FROM pgevict.journal")
    };
    let number = |text: &str, i: usize| text.split(' ').nth(i).unwrap().parse::<u64>().unwrap();
    let (once, twice) = (flood(1_000), flood(20_000));
    assert!(
        number(&once, 0) < 8_000 && number(&twice, 0) < 8_000,
        "rows and bytes after 12 000 rows, after 24 000: {once}, {twice}"
    );
    assert!(number(&twice, 1) < 4_000_000, "{once}, {twice}");

    w.start();
    w.drain();
    let flushed = w.wait_line(0, &["flush of"]);
    assert!(flushed.contains("the position is older"), "{flushed}");
    assert_eq!(w.missing(), ["title:t".to_owned(), "title:kept".to_owned()].into());
    // The daemon reads again: each row is named, and nothing is shed beside it.
    w.fill(&["title:first", "title:second", "title:kept"]);
    let flushes = || w.pgevict(&["status", "-o", "json"]).exits(0).json()["totals"]["flushes"].clone();
    let before = flushes();
    w.check("UPDATE posts SET title = 'second' WHERE id = 1", &["title:first", "title:second"]);
    flood(40_000);
    w.check("UPDATE posts SET title = 'kept' WHERE id = 1", &["title:second", "title:kept"]);
    assert_eq!(flushes(), before);
}

/// The file of a journal never shrinks; what counts is what is in it.
#[test]
fn a_journal_that_was_large_once_keeps_what_retention_promises() {
    let config = "[postgres]\njournal_max_bytes = \"1MB\"\n[cache.title]\nkey = \"title:{title}\"\n\
                  [table.posts]\nevict = [\"title\"]";
    let w = World::new(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    w.sql("INSERT INTO posts SELECT n, 1, md5(n::text) FROM generate_series(1000, 41000) n");
    w.sql("DELETE FROM pgevict.journal");
    w.sql("UPDATE posts SET title = 'kept' WHERE id = 1000");
    w.sql("ANALYZE pgevict.journal");
    let bytes = |sql: &str| w.value(sql).parse::<u64>().unwrap();
    assert!(bytes("SELECT pg_total_relation_size('pgevict.journal')") > 1_000_000);
    let house = include_str!("../../sql/house.sql").replace("$1", "3600").replace("$2", "86400");
    // Up to version 14 of PostgreSQL a process of its own counts the rows, and hears of them a moment later.
    let deadline = Instant::now() + crate::support::PATIENCE;
    let counted = || bytes(&format!("SELECT size FROM ({house}) AS h (queue, layouts, rows, size)"));
    while counted() >= 10_000 {
        assert!(Instant::now() < deadline, "{} bytes count", counted());
        std::thread::yield_now();
    }
}
