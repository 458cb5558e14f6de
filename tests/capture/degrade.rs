//! No error of a capture reaches the application; what cannot be named goes whole, and only that.

use crate::support::*;
use pgevict::config::model::*;

const CALLS: &str = "CREATE TABLE calls (id bigint PRIMARY KEY, user_id bigint, agent_id bigint, status text, x int)";

fn calls() -> World {
    let edges = vec![filtered("user", &["status"]), edge("agent")];
    World::new(CALLS, config(&[("user", "u:{user_id}"), ("agent", "a:{agent_id}")], vec![table("calls", edges)]))
}

fn notes(w: &World) -> Vec<String> {
    let notes = w.db.text("SELECT string_agg(note, ';' ORDER BY xid, seq) FROM pgevict.journal");
    notes.map_or_else(Vec::new, |n| n.split(';').map(str::to_owned).collect())
}

#[test]
fn a_renamed_column_makes_the_edges_that_need_it_go_whole_and_only_those() {
    let w = calls();
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x', 0)", &["calls i r [0,7 1,3]"]);
    w.sql("ALTER TABLE calls RENAME agent_id TO agent");
    w.sql("INSERT INTO calls VALUES (2, 8, 3, 'x', 0)");
    assert_eq!(notes(&w), ["column \"agent_id\" does not exist"]);
    assert_eq!(w.journal(), ["calls i r [0,8]", "calls i x {1}"]);
    w.check("UPDATE calls SET status = 'y' WHERE id = 1", &["calls u r [0,7]", "calls u x {1}"]);
    w.check("UPDATE calls SET x = 1", &["calls u x {1}"]);
    w.check("DELETE FROM calls WHERE id = 1", &["calls d r [0,7]", "calls d x {1}"]);
    w.check("DELETE FROM calls WHERE false", &[]);
    w.check("INSERT INTO calls SELECT * FROM calls WHERE false", &[]);
    w.sql("ALTER TABLE calls RENAME agent TO agent_id");
    w.check("UPDATE calls SET status = 'z'", &["calls u r [0,8 1,3]"]);
    // A column that only the filter needs matters to UPDATE alone.
    w.sql("ALTER TABLE calls DROP status");
    w.check("INSERT INTO calls VALUES (5, 9, 3, 0)", &["calls i r [0,9 1,3]"]);
    w.check("UPDATE calls SET x = 5 WHERE id = 5", &["calls u x {0}", "calls u r [1,3]"]);
    assert_eq!(w.lost(), 0);
    let states = w.inspect();
    assert_eq!(states[0].missing_columns, ["status"]);
    let why: Vec<_> = states[0].edges.iter().map(|e| (e.cache.as_str(), e.why_not.is_some())).collect();
    assert_eq!(why, [("user", true), ("agent", false)]);
    assert!(w.up().unwrap_err().contains("has no column status"));
}

#[test]
fn a_locked_journal_costs_half_a_second_and_is_counted() {
    let w = calls();
    let mut app = w.connect();
    let locker = w.connect();
    locker.sql("BEGIN; LOCK TABLE pgevict.journal IN ACCESS EXCLUSIVE MODE");
    let begun = std::time::Instant::now();
    app.sql("INSERT INTO calls VALUES (1, 7, 3, 'x', 0)");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    locker.sql("ROLLBACK");
    assert_eq!(w.lost(), 1);
    let heard = app.heard();
    assert!(heard.iter().any(|m| m.starts_with("WARNING pgevict: a change of calls was not captured")), "{heard:?}");
    w.check("SELECT", &[]);
}

#[test]
fn a_missing_journal_is_counted_and_a_missing_counter_is_swallowed() {
    let w = calls();
    w.sql("DROP TABLE pgevict.journal");
    w.sql("INSERT INTO calls VALUES (1, 7, 3, 'x', 0)");
    w.sql("TRUNCATE calls");
    assert_eq!(w.lost(), 2);
    w.sql("DROP SEQUENCE pgevict.lost");
    w.sql("INSERT INTO calls VALUES (1, 7, 3, 'x', 0); UPDATE calls SET x = 1, status = 'y'; DELETE FROM calls; TRUNCATE calls");
    assert!(w.drift().iter().any(|d| d == "\"pgevict\".journal is missing"), "{:?}", w.drift());
    w.up().unwrap();
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x', 0)", &["calls i r [0,7 1,3]"]);
}

#[test]
fn a_closed_table_fails_the_statement() {
    let mut c = config(&[("agent", "a:{agent_id}")], vec![table("calls", vec![edge("agent")])]);
    c.tables[0].on_error = OnError::Closed;
    let w = World::new(CALLS, c);
    w.check("INSERT INTO calls VALUES (1, 7, 3, 'x', 0)", &["calls i r [0,3]"]);
    w.sql("ALTER TABLE calls RENAME agent_id TO agent");
    let error = w.db.try_sql("INSERT INTO calls VALUES (2, 7, 3, 'x', 0)").unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("agent_id"));
    assert_eq!(w.db.text("SELECT count(*) FROM calls").unwrap(), "1");
}

#[test]
fn lookups_follow_old_and_new_and_say_when_the_parent_is_gone() {
    let schema = "CREATE TABLE calls (id bigint PRIMARY KEY, user_id bigint); CREATE TABLE analytics (id int, call_id bigint, score int)";
    let mut analytics = table("analytics", vec![filtered("user", &["score"])]);
    analytics.lookups = vec![lookup("user_id", "call_id", "calls", "user_id", None)];
    let w = World::new(schema, config(&[("user", "u:{user_id}:{id}")], vec![analytics]));
    w.check("INSERT INTO calls VALUES (1, 7), (2, 8)", &["calls i r [0,7 0,8]"]);
    w.check(
        "INSERT INTO analytics VALUES (10, 1, 5), (11, 2, 5), (12, NULL, 5), (13, 99, 5)",
        &["analytics i r [-1,NULL,NULL 0,7,10 0,8,11 0,NULL,12]"],
    );
    w.check("UPDATE analytics SET score = 6 WHERE id = 10", &["analytics u r [0,7,10]"]);
    w.check("UPDATE analytics SET call_id = 2 WHERE id = 10", &["analytics u r [0,7,10 0,8,10]"]);
    w.check("UPDATE calls SET user_id = 70 WHERE id = 1", &["calls u r [0,7 0,70]"]);
    w.check("UPDATE calls SET id = 5 WHERE id = 1", &[]);
    w.sql("DROP TABLE calls");
    w.check("UPDATE analytics SET score = 7 WHERE id = 10", &["analytics u x {0}"]);
    w.check("UPDATE analytics SET score = 7 WHERE id = 10", &["analytics u x {0}"]);
    assert_eq!(w.lost(), 0);
}

#[test]
fn a_lookup_by_another_column_needs_no_primary_key() {
    let schema = "CREATE TABLE people (login text UNIQUE, tenant uuid); CREATE TABLE posts (id int, author text)";
    let mut posts = table("posts", vec![edge("tenant")]);
    posts.lookups = vec![lookup("tenant", "author", "people", "tenant", Some("login"))];
    let w = World::new(schema, config(&[("tenant", "t:{tenant}")], vec![posts.clone()]));
    w.sql("INSERT INTO people VALUES ('ada', '00000000-0000-0000-0000-00000000000A')");
    w.journal();
    w.check("INSERT INTO posts VALUES (1, 'ada')", &["posts i r [0,00000000-0000-0000-0000-00000000000a]"]);
    posts.lookups[0].by = None;
    let w = World::bare(schema, config(&[("tenant", "t:{tenant}")], vec![posts]));
    let settings = pgevict::rules::capture::Settings::of(&w.config);
    let error = pgevict::rules::capture::up(&w.layouts(), &settings, &w.facts()).unwrap_err().to_string();
    assert_eq!(
        error,
        "table posts: the lookup through people has no `by`, and no primary key of people is known; write `by = \"COLUMN\"` in the lookup"
    );
}

#[test]
fn a_dropped_column_is_not_mistaken_for_a_variable_of_the_function() {
    let names = ["found", "tg_op", "size", "tuples", "journal", "count", "i", "name", "text", "letter", "old", "new"];
    for (name, capture) in names.iter().flat_map(|n| [(n, CaptureLevel::Auto), (n, CaptureLevel::Row)]) {
        let template = format!("k:{{{name}}}");
        let t = Table { capture, ..table("t", vec![filtered("k", &["x"])]) };
        let w = World::new(&format!("CREATE TABLE t (\"{name}\" int, x int)"), config(&[("k", &template)], vec![t]));
        w.check("INSERT INTO t VALUES (7, 1)", &["t i r [0,7]"]);
        w.check("UPDATE t SET x = 2", &["t u r [0,7]"]);
        w.sql(&format!("ALTER TABLE t RENAME \"{name}\" TO other"));
        w.check("INSERT INTO t VALUES (8, 1)", &["t i x {0}"]);
        w.check("UPDATE t SET x = 3", &["t u x {0}"]);
        w.check("DELETE FROM t", &["t d x {0}"]);
    }
}

#[test]
fn copies_of_unreadable_rows_are_made_once_and_stay_bounded() {
    let w = calls();
    w.sql(
        "INSERT INTO pgevict.journal (layout, tbl, kind, op) SELECT 1, 'calls', 'q', 'u' FROM generate_series(1, 1100)",
    );
    let bury = "SELECT pgevict.bury(array_agg(xid::text::bigint), array_agg(seq), array_agg('why'::text)) FROM (SELECT * FROM pgevict.journal ORDER BY seq LIMIT 600 OFFSET ";
    let rest = ") AS j";
    assert_eq!(w.db.text(&format!("{bury}0{rest}")).unwrap(), "600");
    assert_eq!(w.db.text(&format!("{bury}0{rest}")).unwrap(), "0");
    assert_eq!(w.db.text(&format!("{bury}500{rest}")).unwrap(), "500");
    assert_eq!(w.db.text("SELECT count(*) FROM pgevict.poison").unwrap(), "1000");
    w.sql("UPDATE pgevict.poison SET at = at - interval '31 days' WHERE seq > (SELECT max(seq) - 100 FROM pgevict.poison)");
    w.db.text(&format!("{bury}1099{rest}"));
    assert_eq!(w.db.text("SELECT count(*) FROM pgevict.poison").unwrap(), "900");
}
