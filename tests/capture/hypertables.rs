//! Timescale hypertables, over the stand-in of tests/support/hypertable.sql.

use crate::support::*;
use pgevict::config::model::*;
use pgevict::rules::capture::{Facts, Settings, up};

const STAND_IN: &str = include_str!("../support/hypertable.sql");

fn readings() -> Config {
    config(
        &[("day", "d:{device}:{day}"), ("device", "v:{device}")],
        vec![table("readings", vec![filtered("day", &["value"]), edge("device")])],
    )
}

fn world() -> World {
    let w = World::bare(STAND_IN, readings());
    w.sql("INSERT INTO readings VALUES (1, 'a', 1), (2, 'b', 1)");
    w.up().unwrap();
    w
}

#[test]
fn a_hypertable_is_captured_by_row_on_old_and_new_chunks() {
    let w = world();
    assert_eq!(w.drift(), [""; 0]);
    assert!(w.inspect()[0].live() && w.inspect()[0].hypertable, "{:?}", w.inspect()[0]);
    w.check("INSERT INTO readings VALUES (1, 'c', 1)", &["readings i r [0,c,1 1,c,NULL]"]);
    // A chunk that comes later has the clones, and is no drift.
    w.check("INSERT INTO readings VALUES (3, 'd', 1)", &["readings i r [0,d,3 1,d,NULL]"]);
    assert_eq!(w.drift(), [""; 0]);
    w.check("UPDATE readings SET value = 2 WHERE day = 3", &["readings u r [0,d,3 1,d,NULL]"]);
    w.check("UPDATE readings SET value = value WHERE day = 3", &["readings u r [1,d,NULL]"]);
    w.check("DELETE FROM _timescaledb_internal._hyper_1_2_chunk", &["readings d r [0,b,2 1,b,NULL]"]);
    w.check("TRUNCATE readings", &["readings t w"]);
    w.check("UPDATE readings SET value = 3", &[]);
    assert_eq!(w.lost(), 0);
}

#[test]
fn a_second_apply_of_a_hypertable_changes_nothing_and_down_leaves_no_trigger() {
    let w = world();
    let triggers = "SELECT string_agg(oid::text || ' ' || xmin::text, ',' ORDER BY oid) FROM pg_trigger";
    let before = w.db.text(triggers);
    w.up().unwrap();
    assert_eq!(w.db.text(triggers), before);
    w.down();
    assert_eq!(w.db.text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_pgevict%'").unwrap(), "0");
}

#[test]
fn a_clone_that_is_missing_or_disabled_on_a_chunk_is_drift_and_apply_mends_it() {
    let w = world();
    w.sql("DROP TRIGGER zz_pgevict_row_u ON _timescaledb_internal._hyper_1_1_chunk");
    w.sql("ALTER TABLE _timescaledb_internal._hyper_1_2_chunk DISABLE TRIGGER zz_pgevict_row_d");
    assert_eq!(
        w.drift(),
        [
            "trigger zz_pgevict_row_d on _timescaledb_internal._hyper_1_2_chunk is disabled",
            "trigger zz_pgevict_row_u on _timescaledb_internal._hyper_1_1_chunk is missing"
        ]
    );
    assert!(!w.inspect()[0].live());
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    w.check("UPDATE readings SET value = 9 WHERE day = 1", &["readings u r [0,a,1 1,a,NULL]"]);
    w.sql("DROP TABLE _timescaledb_internal._hyper_1_2_chunk");
    assert_eq!(w.drift(), [""; 0]);
}

#[test]
fn always_on_a_hypertable_reaches_the_chunks() {
    let mut c = readings();
    c.tables[0].always = true;
    let w = World::bare(STAND_IN, c);
    w.sql("INSERT INTO readings VALUES (1, 'a', 1)");
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    w.check(
        "SET session_replication_role = replica; UPDATE readings SET value = 9",
        &["readings u r [0,a,1 1,a,NULL]"],
    );
}

#[test]
fn a_migration_made_for_an_ordinary_table_refuses_a_hypertable_and_says_what_to_do() {
    let w = World::bare(STAND_IN, readings());
    // What `sql up` prints where it cannot reach the database.
    let offline = |c: &Config| up(&w.layouts(), &Settings::of(c), &Facts::default()).unwrap();
    let tell = |c: &Config| {
        offline(c).iter().find_map(|step| {
            let e = w.db.try_sql(&step.sql).err()?;
            let db = e.as_db_error().unwrap();
            Some(format!("{}; {}", db.message(), db.hint().unwrap_or_default()))
        })
    };
    let told = tell(&w.config).expect("an error");
    assert!(told.contains("is a hypertable") && told.contains("capture = \"row\""), "{told}");
    let mut c = readings();
    c.tables[0].capture = CaptureLevel::Row;
    assert_eq!(tell(&c), None);
    w.check("INSERT INTO readings VALUES (1, 'a', 1)", &["readings i r [0,a,1 1,a,NULL]"]);
    assert_eq!(w.drift(), [""; 0]);
}

#[test]
fn capture_by_row_works_on_ordinary_and_partitioned_tables_too() {
    let mut c = config(
        &[("p", "p:{id}")],
        vec![table("plain", vec![filtered("p", &["v"])]), table("parts", vec![filtered("p", &["v"])])],
    );
    for t in &mut c.tables {
        t.capture = CaptureLevel::Row;
    }
    let w = World::new(
        "CREATE TABLE plain (id int, v int); CREATE TABLE parts (id int, v int) PARTITION BY LIST (id); \
         CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2)",
        c,
    );
    assert_eq!(w.drift(), [""; 0]);
    w.check("INSERT INTO plain VALUES (1, 0), (2, 0)", &["plain i r [0,1]", "plain i r [0,2]"]);
    w.check("INSERT INTO parts VALUES (1, 0)", &["parts i r [0,1]"]);
    w.check("INSERT INTO part2 VALUES (2, 0)", &["parts i r [0,2]"]);
    w.check("UPDATE parts SET v = 1 WHERE id = 2", &["parts u r [0,2]"]);
    w.check("UPDATE plain SET v = v", &[]);
    w.check("DELETE FROM parts WHERE id = 2; TRUNCATE part1", &["parts d r [0,2]", "parts t w"]);
}

#[test]
fn by_row_a_transaction_writes_each_set_of_values_once_and_a_savepoint_forgets_with_its_rows() {
    let mut c = config(&[("p", "p:{device}")], vec![table("t", vec![filtered("p", &["v"])])]);
    c.tables[0].capture = CaptureLevel::Row;
    let w = World::new("CREATE TABLE t (device int, v int)", c);
    w.check("INSERT INTO t SELECT g % 2, g FROM generate_series(1, 5000) AS g", &["t i r [0,1]", "t i r [0,0]"]);
    w.check(
        "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 1); COMMIT",
        &["t d r [0,1]", "t d r [0,0]", "t i r [0,1]"],
    );
    w.check(
        "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (7, 1); ROLLBACK TO s; INSERT INTO t VALUES (7, 1); INSERT INTO t VALUES (7, 2); COMMIT",
        &["t i r [0,7]"],
    );
    w.check("INSERT INTO t VALUES (7, 1)", &["t i r [0,7]"]);
}

/// A row whose capture fails counts too: the bound is on what a transaction costs.
#[test]
fn by_row_failed_captures_count_towards_the_bound() {
    let mut c = config(&[("p", "p:{device}")], vec![table("t", vec![edge("p")])]);
    c.tables[0].capture = CaptureLevel::Row;
    let w = World::new("CREATE TABLE t (device int, v int)", c);
    w.sql("ALTER TABLE t RENAME device TO d");
    w.sql("INSERT INTO t SELECT g, g FROM generate_series(1, 1500) AS g");
    // The class whole, once; and past the bound all classes, once.
    assert_eq!(w.journal(), ["t i x {0}", "t i x {0}"]);
}

/// PL/pgSQL keeps the plans of a session: they must not go on reading the place where a column was.
#[test]
fn by_row_a_column_that_is_dropped_and_made_anew_is_read_where_it_is() {
    let mut c = config(&[("p", "p:{device}")], vec![table("t", vec![filtered("p", &["v"])])]);
    c.tables[0].capture = CaptureLevel::Row;
    let w = World::new("CREATE TABLE t (device int, v int)", c);
    w.check("INSERT INTO t VALUES (1, 1)", &["t i r [0,1]"]);
    w.check("UPDATE t SET v = 2", &["t u r [0,1]"]);
    w.sql("ALTER TABLE t DROP device; ALTER TABLE t ADD device int DEFAULT 5");
    w.check("INSERT INTO t (device, v) VALUES (7, 1)", &["t i r [0,7]"]);
    w.check("UPDATE t SET v = 3", &["t u r [0,5]", "t u r [0,7]"]);
    w.sql("ALTER TABLE t ALTER device TYPE text");
    w.check("INSERT INTO t (device, v) VALUES ('x', 1)", &["t i r [0,x]"]);
    assert_eq!(w.lost(), 0);
}
