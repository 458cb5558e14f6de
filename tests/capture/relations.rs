//! Partitions, inheritance, names, rights.

use crate::support::*;
use pgevict::config::model::*;

fn metrics() -> World {
    World::new(
        "CREATE TABLE metrics (id int, region text, day date, v int) PARTITION BY LIST (region); \
         CREATE TABLE metrics_eu PARTITION OF metrics FOR VALUES IN ('eu') PARTITION BY RANGE (day); \
         CREATE TABLE metrics_eu_1 PARTITION OF metrics_eu FOR VALUES FROM ('2026-01-01') TO ('2026-07-01'); \
         CREATE TABLE metrics_us (v int, day date, region text, id int); \
         ALTER TABLE metrics ATTACH PARTITION metrics_us FOR VALUES IN ('us')",
        config(&[("m", "m:{id}")], vec![table("metrics", vec![filtered("m", &["v", "region"])])]),
    )
}

#[test]
fn partitions_are_captured_from_the_root_and_from_each_level() {
    let w = metrics();
    w.check(
        "INSERT INTO metrics VALUES (1, 'eu', '2026-02-01', 0), (2, 'us', '2026-02-01', 0)",
        &["metrics i r [0,1 0,2]"],
    );
    w.check("INSERT INTO metrics_eu VALUES (3, 'eu', '2026-02-01', 0)", &["metrics i r [0,3]"]);
    w.check("INSERT INTO metrics_us VALUES (0, '2026-02-01', 'us', 4)", &["metrics i r [0,4]"]);
    w.check("UPDATE metrics_eu_1 SET v = 1 WHERE id = 1", &["metrics u r [0,1]"]);
    w.check("UPDATE metrics SET day = day + 1", &[]);
    w.check("UPDATE metrics SET v = 7 WHERE id IN (2, 3)", &["metrics u r [0,2 0,3]"]);
    w.check("UPDATE metrics SET region = 'us' WHERE id = 1", &["metrics u r [0,1]"]);
    w.check(
        "UPDATE metrics SET region = CASE region WHEN 'us' THEN 'eu' ELSE 'us' END, v = 7 WHERE id IN (2, 3)",
        &["metrics u r [0,2 0,3]"],
    );
    w.check("DELETE FROM metrics_us WHERE id = 4", &["metrics d r [0,4]"]);
    w.check("TRUNCATE metrics_eu_1", &["metrics t w"]);
    w.sql("TRUNCATE metrics");
    assert!(w.journal().iter().all(|r| r == "metrics t w"));
}

#[test]
fn a_suppressed_half_of_a_row_movement_makes_every_row_count() {
    let w = metrics();
    w.sql(
        "INSERT INTO metrics SELECT g, 'eu', '2026-02-01', 0 FROM generate_series(1, 4) AS g; \
         CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER stop BEFORE INSERT ON metrics_us FOR EACH ROW EXECUTE FUNCTION stop()",
    );
    w.journal();
    w.check("UPDATE metrics SET region = 'us' WHERE id < 4", &["metrics u r [0,1 0,2 0,3]"]);
    // One row, which the move takes: it is gone. Values that were NULL before are no excuse.
    w.sql("INSERT INTO metrics VALUES (2, 'eu', '2026-02-01', 0), (2, 'eu', '2026-03-01', NULL)");
    w.journal();
    w.check(
        "UPDATE metrics SET region = 'us' WHERE day = '2026-02-01' AND id = 2 AND region = 'eu'",
        &["metrics u r [0,2]"],
    );
    w.check("UPDATE metrics SET region = 'us' WHERE id = 2", &["metrics u r [0,2]"]);
}

/// The same for a statement that is too large for the short queries: only there it is asked whether rows could have moved.
#[test]
fn a_suppressed_half_in_a_large_statement_makes_every_row_count_too() {
    let w = metrics();
    w.sql(
        "INSERT INTO metrics SELECT g, 'eu', '2026-02-01', 0 FROM generate_series(1, 400) AS g; \
         CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER stop BEFORE INSERT ON metrics_us FOR EACH ROW EXECUTE FUNCTION stop()",
    );
    w.journal();
    w.sql("UPDATE metrics SET region = CASE id WHEN 2 THEN 'us' ELSE region END");
    // Compared with their neighbours, all others are as they were.
    let written = w.journal().concat();
    let all = (1..=400).filter(|id| written.contains(&format!("0,{id} ")) || written.contains(&format!("0,{id}]")));
    assert_eq!(all.count(), 400, "{written}");
}

#[test]
fn a_partition_attached_later_is_found_and_mended() {
    let w = metrics();
    assert_eq!(w.drift(), [""; 0]);
    w.sql("CREATE TABLE metrics_asia PARTITION OF metrics FOR VALUES IN ('asia')");
    let drift = w.drift();
    assert_eq!(drift.len(), 4, "{drift:?}");
    assert!(drift[0].contains("on public.metrics_asia is missing"), "{drift:?}");
    let state = &w.inspect()[0];
    assert!(!state.live() && state.relations.len() == 5 && state.remedies[0].contains("sql apply"), "{state:?}");
    w.check("INSERT INTO metrics VALUES (5, 'asia', '2026-02-01', 0)", &["metrics i r [0,5]"]);
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    assert!(w.inspect()[0].live());
    w.check("UPDATE metrics_asia SET v = 9", &["metrics u r [0,5]"]);
    w.sql("ALTER TABLE metrics DETACH PARTITION metrics_asia");
    assert!(w.drift()[0].contains("is left over"), "{:?}", w.drift());
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    w.check("UPDATE metrics_asia SET v = 10", &[]);
}

#[test]
fn inheritance_children_are_captured() {
    let w = World::new(
        "CREATE TABLE base (id int, v int); CREATE TABLE derived (extra text) INHERITS (base)",
        config(&[("b", "b:{id}")], vec![table("base", vec![filtered("b", &["v"])])]),
    );
    w.check("INSERT INTO derived VALUES (1, 0, 'x')", &["base i r [0,1]"]);
    w.check("INSERT INTO base VALUES (2, 0)", &["base i r [0,2]"]);
    w.check("UPDATE base SET v = 1", &["base u r [0,1 0,2]"]);
    w.check("UPDATE derived SET extra = 'y'", &[]);
    w.check("DELETE FROM base", &["base d r [0,1 0,2]"]);
}

#[test]
fn a_parent_and_its_partition_can_both_be_watched() {
    let w = World::new(
        "CREATE TABLE ev (id int, k int) PARTITION BY LIST (k); CREATE TABLE ev1 PARTITION OF ev FOR VALUES IN (1)",
        config(&[("e", "e:{id}")], vec![table("ev", vec![edge("e")]), table("ev1", vec![edge("e")])]),
    );
    w.sql("INSERT INTO ev1 VALUES (7, 1)");
    let mut rows = w.journal();
    rows.sort();
    assert_eq!(rows, ["ev i r [0,7]", "ev1 i r [0,7]"]);
    assert_eq!(w.drift(), [""; 0]);
}

#[test]
fn names_are_the_catalogs() {
    let mut t = table("x", vec![filtered("o", &["Select"]), edge("p")]);
    t.name = name("My \"Shop\"", "Order $pgevict$ Lines' \\ ?:x");
    t.when = vec![When { column: "Select".into(), values: vec!["$query$ \\ '".into(), "a".into()] }];
    let mut c = config(&[("o", "o:{Basket}"), ("p", "p:{Select}")], vec![t]);
    c.postgres.schema = "P \"G' evict".into();
    c.postgres.channel = "it's".into();
    let w = World::new(
        "CREATE SCHEMA \"My \"\"Shop\"\"\"; CREATE TABLE \"My \"\"Shop\"\"\".\"Order $pgevict$ Lines' \\ ?:x\" (\"Basket\" int, \"Select\" text)",
        c,
    );
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    assert!(w.inspect()[0].live());
    let target = w.config.tables[0].name.sql();
    w.sql(&format!("INSERT INTO {target} VALUES (1, 'a'), (2, '$query$ \\ '''), (3, 'b')"));
    let found = w.db.text("SELECT tbl || tuples::text FROM \"P \"\"G' evict\".journal").unwrap();
    assert!(
        found.starts_with(&w.config.tables[0].name.to_string()) && found.contains("{0,2}") && !found.contains("{0,3}"),
        "{found}"
    );
    let column = w.db.text("SELECT count(*) FROM \"P \"\"G' evict\".lost WHERE is_called").unwrap();
    assert_eq!(column, "0");
    w.down();
    assert!(w.db.text("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'P %'").is_none());
}

#[test]
fn an_application_role_without_any_right_writes_as_before() {
    let w = World::new(
        "CREATE TABLE t (id int, v int)",
        config(&[("t", "t:{id}")], vec![table("t", vec![filtered("t", &["v"])])]),
    );
    w.sql(
        "DO $$ BEGIN CREATE ROLE capture_app; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t TO capture_app; \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON t TO capture_app USING (id < 10)",
    );
    let app = w.connect();
    app.sql("SET ROLE capture_app");
    app.sql(
        "CREATE TEMP TABLE journal (x int); CREATE TEMP TABLE pgevict_new (id text); CREATE TEMP TABLE pgevict_old (id text); \
         CREATE FUNCTION pg_temp.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT 1/0'; \
         CREATE FUNCTION pg_temp.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0'; \
         CREATE FUNCTION pg_temp.count(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0'; \
         SET search_path = pg_temp, public, pg_catalog",
    );
    app.sql("INSERT INTO public.t VALUES (1, 0), (2, 0); UPDATE public.t SET v = 1; DELETE FROM public.t WHERE id = 1; TRUNCATE public.t");
    assert_eq!(w.journal(), ["t i r [0,1 0,2]", "t u r [0,1 0,2]", "t d r [0,1]", "t t w"]);
    for forbidden in
        ["SELECT * FROM pgevict.journal", "SELECT pgevict.retire(NULL, 1)", "SELECT nextval('pgevict.lost')"]
    {
        assert!(app.try_sql(forbidden).is_err(), "{forbidden}");
    }
    assert_eq!(w.lost(), 0);
}

#[test]
fn row_security_of_a_lookups_parent_degrades_instead_of_missing_rows() {
    let mut child = table("child", vec![edge("u")]);
    child.lookups = vec![lookup("u", "p", "parent", "u", None)];
    let w = World::bare(
        "CREATE TABLE parent (id int PRIMARY KEY, u int); CREATE TABLE child (p int); INSERT INTO parent VALUES (1, 7)",
        config(&[("u", "u:{u}")], vec![child]),
    );
    w.sql(
        "DO $$ BEGIN CREATE ROLE capture_owner; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         DO $$ BEGIN EXECUTE 'GRANT CREATE ON DATABASE ' || current_database() || ' TO capture_owner'; END $$; \
         ALTER TABLE parent OWNER TO capture_owner; ALTER TABLE child OWNER TO capture_owner; \
         ALTER TABLE parent ENABLE ROW LEVEL SECURITY; ALTER TABLE parent FORCE ROW LEVEL SECURITY; SET ROLE capture_owner",
    );
    w.up().unwrap();
    w.check("INSERT INTO child VALUES (1)", &["child i x {0}"]);
    w.sql("ALTER TABLE parent NO FORCE ROW LEVEL SECURITY");
    w.check("INSERT INTO child VALUES (1)", &["child i r [0,7]"]);
}

#[test]
fn always_fires_under_replica_role_and_by_row_for_what_fires_row_triggers_only() {
    let mut t = table("t", vec![filtered("t", &["v"])]);
    let plain = World::new("CREATE TABLE t (id int, v int)", config(&[("t", "t:{id}")], vec![t.clone()]));
    plain.check("SET session_replication_role = replica; INSERT INTO t VALUES (1, 0)", &[]);
    t.always = true;
    let w = World::new("CREATE TABLE t (id int, v int)", config(&[("t", "t:{id}")], vec![t]));
    assert_eq!(w.drift(), [""; 0]);
    w.check("INSERT INTO t VALUES (1, 0)", &["t i r [0,1]"]);
    w.check("SET session_replication_role = replica; TRUNCATE t", &["t t w"]);
    w.sql("INSERT INTO t VALUES (2, 0)");
    assert!(w.journal().contains(&"t i r [0,2]".to_owned()));
    // What the apply of logical replication does: statement triggers do not fire.
    w.sql("RESET session_replication_role; ALTER TABLE t DISABLE TRIGGER zz_pgevict_i, DISABLE TRIGGER zz_pgevict_u, DISABLE TRIGGER zz_pgevict_d; SET session_replication_role = replica");
    w.check("INSERT INTO t VALUES (3, 0)", &["t i r [0,3]"]);
    w.check("UPDATE t SET v = v", &[]);
    w.check("UPDATE t SET v = 5, id = 4 WHERE id = 3", &["t u r [0,3 0,4]"]);
    w.check("DELETE FROM t WHERE id = 4", &["t d r [0,4]"]);
    w.sql("BEGIN; INSERT INTO t SELECT g, 0 FROM generate_series(1, 1500) AS g; DELETE FROM t; COMMIT");
    let counted = w.db.text("SELECT count(*) FILTER (WHERE kind = 'r') || ' ' || count(*) FILTER (WHERE kind = 'w' AND classes = '{0}') FROM pgevict.journal").unwrap();
    assert_eq!(counted, "1000 1");
    w.sql("DELETE FROM pgevict.journal; RESET session_replication_role");
    assert_eq!(w.drift().len(), 3, "{:?}", w.drift());
    w.sql("ALTER TABLE t RENAME v TO vv; SET session_replication_role = replica");
    w.check("UPDATE t SET vv = 1", &[]);
    w.sql("INSERT INTO t VALUES (1, 1)");
    w.journal();
    w.check("UPDATE t SET vv = 2", &["t u x {0}"]);
}
