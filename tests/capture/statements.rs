//! What one statement writes: every way to change rows.

use crate::support::*;
use pgevict::config::model::*;

const CALLS: &str =
    "CREATE TABLE calls (id bigint PRIMARY KEY, user_id bigint, agent_id bigint, status text, seen_at timestamptz)";

/// `user` counts only where `status` or its own column changes, `agent` always, `list` on insert and delete.
fn calls() -> World {
    let list = Edge { ops: Ops { insert: true, update: false, delete: true }, ..edge("list") };
    let edges = vec![filtered("user", &["status"]), edge("agent"), list];
    let config = config(
        &[("user", "u:{user_id}"), ("agent", "a:{agent_id}"), ("list", "l:{user_id}")],
        vec![table("calls", edges)],
    );
    World::new(CALLS, config)
}

/// One class with a filter: a table that is easy to read.
fn users() -> World {
    let config = config(&[("user", "u:{user_id}")], vec![table("calls", vec![filtered("user", &["status"])])]);
    World::new(CALLS, config)
}

#[test]
fn insert_update_and_delete_name_old_and_new_values_once() {
    let w = calls();
    w.check(
        "INSERT INTO calls VALUES (1, 7, 3, 'x'), (2, 7, 4, 'x'), (3, 8, 3, 'x')",
        &["calls i r [0,7 0,8 1,3 1,4 2,7 2,8]"],
    );
    w.check("UPDATE calls SET status = 'y' WHERE id = 1", &["calls u r [0,7 1,3]"]);
    w.check("UPDATE calls SET user_id = 9 WHERE id = 1", &["calls u r [0,7 0,9 1,3]"]);
    w.check("UPDATE calls SET seen_at = now()", &["calls u r [1,3 1,4]"]);
    w.check("DELETE FROM calls WHERE id < 3", &["calls d r [0,7 0,9 1,3 1,4 2,7 2,9]"]);
}

#[test]
fn nothing_is_written_when_nothing_relevant_changed() {
    let w = users();
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i r [0,7]"]);
    w.check("UPDATE calls SET seen_at = now(), agent_id = 5", &[]);
    w.check("UPDATE calls SET status = status", &[]);
    w.check("UPDATE calls SET status = 'y' WHERE false", &[]);
    w.check("DELETE FROM calls WHERE false", &[]);
    w.check("INSERT INTO calls SELECT * FROM calls WHERE false", &[]);
    assert_eq!(w.lost(), 0);
}

#[test]
fn null_values_arrive_as_null() {
    let w = users();
    w.check("INSERT INTO calls VALUES (1, NULL, 3, NULL)", &["calls i r [0,NULL]"]);
    w.check("UPDATE calls SET user_id = 5", &["calls u r [0,5 0,NULL]"]);
}

#[test]
fn copy_is_one_statement() {
    let w = users();
    let copy = r#"COPY calls (id, user_id) FROM PROGRAM 'printf "1,7\n2,8\n3,7\n"' (FORMAT csv)"#;
    w.check(copy, &["calls i r [0,7 0,8]"]);
}

#[test]
fn on_conflict_writes_inserts_and_updates_apart() {
    let w = users();
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i r [0,7]"]);
    w.check("INSERT INTO calls VALUES (1, 9, 3, 'z') ON CONFLICT DO NOTHING", &[]);
    w.check(
        "INSERT INTO calls VALUES (1, 8, 3, 'y') ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id",
        &["calls u r [0,7 0,8]"],
    );
    let both = "INSERT INTO calls VALUES (1, 1, 3, 'q'), (2, 5, 3, 'q') ON CONFLICT (id) DO UPDATE SET status = excluded.status";
    w.sql(both);
    let mut rows = w.journal();
    rows.sort();
    assert_eq!(rows, ["calls i r [0,5]", "calls u r [0,8]"]);
}

#[test]
fn merge_writes_each_of_its_operations() {
    let w = users();
    if w.db.text("SHOW server_version_num").unwrap().parse::<u32>().unwrap() < 150_000 {
        return;
    }
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x'), (2, 8, 3, 'x')", &["calls i r [0,7 0,8]"]);
    w.sql(
        "MERGE INTO calls c USING (VALUES (1, 'del'), (2, 'upd'), (3, 'ins')) AS s (id, what) ON c.id = s.id \
         WHEN MATCHED AND what = 'del' THEN DELETE WHEN MATCHED THEN UPDATE SET user_id = 9 \
         WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (s.id, 4)",
    );
    let mut rows = w.journal();
    rows.sort();
    assert_eq!(rows, ["calls d r [0,7]", "calls i r [0,4]", "calls u r [0,8 0,9]"]);
}

#[test]
fn a_changed_primary_key_still_pairs_old_and_new() {
    let w = users();
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x'), (2, 8, 3, 'x'), (3, 9, 3, 'x')", &["calls i r [0,7 0,8 0,9]"]);
    w.check("UPDATE calls SET id = id + 100", &[]);
    w.check(
        "UPDATE calls SET id = id + 1000, status = CASE user_id WHEN 8 THEN 'y' ELSE status END",
        &["calls u r [0,8]"],
    );
}

#[test]
fn a_table_without_primary_key_pairs_by_position() {
    let config = config(&[("user", "u:{user_id}")], vec![table("log", vec![filtered("user", &["status"])])]);
    let w = World::new("CREATE TABLE log (user_id int, status text, n int)", config);
    w.check("INSERT INTO log SELECT g % 4, 'x', g FROM generate_series(1, 4000) AS g", &["log i r [0,0 0,1 0,2 0,3]"]);
    w.check("UPDATE log SET n = n + 1", &[]);
    w.check("UPDATE log SET status = CASE WHEN n = 11 THEN 'y' ELSE 'x' END", &["log u r [0,2]"]);
    w.check("UPDATE log SET user_id = 77 WHERE n = 11", &["log u r [0,2 0,77]"]);
}

#[test]
fn truncate_writes_one_whole_row() {
    let w = calls();
    w.sql("CREATE TABLE children (call bigint REFERENCES calls)");
    w.check("TRUNCATE calls CASCADE", &["calls t w"]);
    w.check("TRUNCATE children", &[]);
}

#[test]
fn truncate_cascade_reaches_a_watched_child() {
    let config = config(&[("one", "c:{id}")], vec![table("child", vec![edge("one")])]);
    let w = World::new(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int, p int REFERENCES parent)",
        config,
    );
    w.check("TRUNCATE parent CASCADE", &["child t w"]);
}

#[test]
fn edges_that_ignore_deletes_ignore_truncate_and_get_no_trigger_for_it() {
    let only = Edge { ops: Ops { insert: true, update: false, delete: false }, ..edge("user") };
    let w = World::new(CALLS, config(&[("user", "u:{user_id}")], vec![table("calls", vec![only])]));
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i r [0,7]"]);
    w.check("UPDATE calls SET user_id = 9", &[]);
    w.check("DELETE FROM calls", &[]);
    w.check("TRUNCATE calls", &[]);
    assert_eq!(
        w.db.text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_pgevict%' AND tgrelid = 'calls'::regclass")
            .unwrap(),
        "1"
    );
}

#[test]
fn foreign_key_cascades_are_captured_on_the_child() {
    let edges = vec![edge("one")];
    let w = World::new(
        "CREATE TABLE parent (id int PRIMARY KEY); \
         CREATE TABLE child (id int, p int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE); \
         CREATE TABLE other (id int, p int REFERENCES parent ON DELETE SET NULL)",
        config(&[("one", "c:{p}")], vec![table("child", edges.clone()), table("other", edges)]),
    );
    w.sql("INSERT INTO parent VALUES (1), (2), (3); INSERT INTO child VALUES (10, 1), (11, 2); INSERT INTO other VALUES (20, 1), (21, 2)");
    w.journal();
    w.check("UPDATE parent SET id = 33 WHERE id = 3", &[]);
    w.sql("DELETE FROM parent WHERE id < 3");
    let mut rows = w.journal();
    rows.sort();
    assert_eq!(rows, ["child d r [0,1 0,2]", "other u r [0,1 0,2 0,NULL]"]);
}

#[test]
fn when_counts_rows_that_have_such_a_value_before_or_after() {
    let when = vec![When { column: "status".into(), values: vec!["active".into(), "it's".into()] }];
    let calls = Table { when, ..table("calls", vec![edge("user")]) };
    let w = World::new(CALLS, config(&[("user", "u:{user_id}")], vec![calls]));
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'new'), (2, 8, 3, 'active'), (3, 9, 3, NULL)", &["calls i r [0,8]"]);
    w.check("UPDATE calls SET status = 'it''s' WHERE id = 1", &["calls u r [0,7]"]);
    w.check("UPDATE calls SET status = 'done', user_id = 70 WHERE id = 1", &["calls u r [0,7 0,70]"]);
    w.check("UPDATE calls SET status = 'gone' WHERE id IN (1, 3)", &[]);
    w.check("DELETE FROM calls", &["calls d r [0,8]"]);
    w.check("TRUNCATE calls", &["calls t w"]);
}

#[test]
fn a_template_without_holes_writes_its_class_alone() {
    let w =
        World::new(CALLS, config(&[("board", "board")], vec![table("calls", vec![filtered("board", &["status"])])]));
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x'), (2, 8, 3, 'x')", &["calls i r [0]"]);
    w.check("UPDATE calls SET user_id = 3", &[]);
    w.check("UPDATE calls SET status = 'y'", &["calls u r [0]"]);
    w.check("DELETE FROM calls", &["calls d r [0]"]);
    let w = World::new(CALLS, config(&[("board", "board")], vec![table("calls", vec![edge("board")])]));
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x'), (2, 8, 3, 'x')", &["calls i r [0]"]);
    w.check("UPDATE calls SET user_id = 3", &["calls u r [0]"]);
}

#[test]
fn a_rolled_back_change_and_savepoint_write_nothing() {
    let w = users();
    w.check("BEGIN; INSERT INTO calls VALUES (1, 7, 3, 'x'); ROLLBACK", &[]);
    w.check(
        "BEGIN; INSERT INTO calls VALUES (1, 7, 3, 'x'); SAVEPOINT s; INSERT INTO calls VALUES (2, 8, 3, 'x'); ROLLBACK TO s; \
         INSERT INTO calls VALUES (3, 9, 3, 'x'); COMMIT",
        &["calls i r [0,7]", "calls i r [0,9]"],
    );
}

#[test]
fn a_thousand_statements_in_one_transaction_share_its_xid() {
    let w = users();
    w.sql("BEGIN");
    for i in 0..1000 {
        w.sql(&format!("SAVEPOINT s; INSERT INTO calls VALUES ({i}, {i}, 3, 'x'); RELEASE s"));
    }
    w.sql("COMMIT");
    assert_eq!(w.db.text("SELECT count(*) || ' ' || count(DISTINCT xid) FROM pgevict.journal").unwrap(), "1000 1");
}

#[test]
fn a_prepared_transaction_is_never_refused_and_arrives_when_it_commits() {
    let w = users();
    // A daemon that sleeps holds the bell's lock: writers would ring, and then could not prepare.
    let daemon = w.connect();
    daemon.sql("SELECT pg_advisory_lock(1885431413, 'pgevict.journal'::regclass::oid::int4)");
    w.check("BEGIN; INSERT INTO calls VALUES (1, 7, 3, 'x'); PREPARE TRANSACTION 'capture_two_phase'", &[]);
    w.check("COMMIT PREPARED 'capture_two_phase'", &["calls i r [0,7]"]);
}

#[test]
fn before_triggers_are_seen_through() {
    let w = users();
    w.sql(
        "CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.user_id := NEW.user_id + 100; RETURN NEW; END $$; \
         CREATE TRIGGER shift BEFORE INSERT OR UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION shift()",
    );
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i r [0,107]"]);
    w.check("UPDATE calls SET seen_at = now()", &["calls u r [0,107 0,207]"]);
    w.sql("CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER stop BEFORE DELETE ON calls FOR EACH ROW EXECUTE FUNCTION stop()");
    w.check("DELETE FROM calls", &[]);
}

#[test]
fn many_tuples_are_cut_into_rows_of_bounded_size() {
    let w = users();
    w.sql("INSERT INTO calls SELECT g, g, 3, 'x' FROM generate_series(1, 2500) AS g");
    let sizes = "SELECT string_agg(array_length(tuples, 1)::text, ' ' ORDER BY array_length(tuples, 1)) || ' ' || (SELECT count(DISTINCT t.v) FROM pgevict.journal, unnest(tuples) AS t (v)) FROM pgevict.journal";
    // 2500 users, and the class's "0".
    assert_eq!(w.db.text(sizes).unwrap(), "500 1000 1000 2501");
    w.sql("TRUNCATE pgevict.journal; UPDATE calls SET id = -id, user_id = user_id");
    w.check("SELECT", &[]);
}

#[test]
fn past_fifty_thousand_tuples_a_class_goes_whole_and_the_others_do_not() {
    let w = calls();
    w.sql("INSERT INTO calls SELECT g, g, g % 3, 'x' FROM generate_series(1, 50001) AS g");
    assert_eq!(w.journal(), ["calls i w {0,2}", "calls i r [1,0 1,1 1,2]"]);
    w.sql("DELETE FROM calls WHERE id = 50001");
    w.journal();
    w.sql("UPDATE calls SET status = 'y'");
    let rows = w
        .db
        .text("SELECT sum(array_length(tuples, 1)) || ' ' || count(*) FILTER (WHERE kind <> 'r') FROM pgevict.journal")
        .unwrap();
    assert_eq!(rows, "50003 0");
}

/// Makes the captures ring: the cluster has prepared transactions on, which silences the bell, so the functions are compiled as
/// if it had not.
fn loud(w: &World) {
    let functions = "SELECT string_agg(pg_get_functiondef(oid), ';') FROM pg_proc WHERE proname LIKE 'capture%calls_%'";
    let source = w.db.text(functions).unwrap();
    assert!(source.contains("max_prepared_transactions"));
    // Also where the name of the function says whose it is.
    w.sql(&source.replace("current_setting('max_prepared_transactions')", "ltrim('0')"));
}

/// A daemon that sleeps.
fn sleeper(w: &World) -> Db {
    let daemon = w.connect();
    daemon.sql("LISTEN pgevict");
    daemon.sql("SELECT pg_advisory_lock(1885431413, 'pgevict.journal'::regclass::oid::int4)");
    daemon
}

#[test]
fn the_bell_rings_only_while_the_daemon_sleeps_and_never_for_nothing() {
    let w = users();
    loud(&w);
    let mut daemon = w.connect();
    daemon.sql("LISTEN pgevict");
    w.sql("INSERT INTO calls VALUES (1, 7, 3, 'x')");
    assert!(daemon.heard().is_empty(), "the daemon is awake");
    let mut daemon = sleeper(&w);
    w.sql("UPDATE calls SET seen_at = now()");
    assert!(daemon.heard().is_empty(), "nothing was written");
    w.sql("INSERT INTO calls VALUES (2, 7, 3, 'x')");
    assert_eq!(daemon.heard(), [""]);
}

/// HAZARDS B19: what is in the protected block is rolled back with it, and the ring would be.
#[test]
fn the_ring_survives_an_error_of_the_first_layer_and_a_ring_that_fails_takes_no_row_back() {
    for capture in [CaptureLevel::Auto, CaptureLevel::Row] {
        let t = Table { capture, ..table("calls", vec![edge("user")]) };
        let w = World::new(CALLS, config(&[("user", "u:{user_id}")], vec![t]));
        loud(&w);
        let mut daemon = sleeper(&w);
        w.sql("ALTER TABLE calls RENAME user_id TO renamed");
        w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i x {0}"]);
        assert_eq!(daemon.heard(), [""], "{capture:?}");
        w.sql("ALTER TABLE calls RENAME renamed TO user_id");
        // Names of channels have at most 63 bytes.
        let functions =
            "SELECT string_agg(pg_get_functiondef(oid), ';') FROM pg_proc WHERE proname LIKE 'capture%calls_%'";
        let source = w.db.text(functions).unwrap();
        let broken = source.replace("pg_notify('pgevict', '')", "pg_notify(pg_catalog.repeat('x', 64), '')");
        assert_ne!(source, broken);
        w.sql(&broken);
        w.check("INSERT INTO calls VALUES (2, 8, 3, 'x')", &["calls i r [0,8]"]);
        assert!(daemon.heard().is_empty() && w.lost() == 0);
    }
}

#[test]
fn bell_never_is_compiled_out() {
    let mut c = config(&[("user", "u:{user_id}")], vec![table("calls", vec![edge("user")])]);
    c.postgres.bell = Bell::Never;
    let w = World::new(CALLS, c);
    let source = w.db.text("SELECT prosrc FROM pg_proc WHERE proname LIKE 'capture_calls_%'").unwrap();
    assert!(!source.contains("pg_notify") && !source.contains("advisory"), "{source}");
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x')", &["calls i r [0,7]"]);
}
