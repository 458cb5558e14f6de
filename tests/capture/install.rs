//! `sql up`, `sql down`, drift.

use crate::support::*;
use pgevict::config::model::*;
use pgevict::rules::capture::{Settings, up};

const SCHEMA: &str = "CREATE TABLE calls (id bigint PRIMARY KEY, user_id bigint, status text); CREATE TABLE others (id int, user_id int)";

fn two_tables() -> Config {
    config(
        &[("u", "u:{user_id}")],
        vec![table("calls", vec![filtered("u", &["status"])]), table("others", vec![edge("u")])],
    )
}

/// Everything in the catalogs that an installation could touch, with the transactions that wrote it.
const FOOTPRINT: &str = "SELECT md5(string_agg(line, ';' ORDER BY line)) FROM ( \
    SELECT 'c' || oid || ' ' || xmin AS line FROM pg_class WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) \
    UNION ALL SELECT 'p' || oid || ' ' || xmin FROM pg_proc UNION ALL SELECT 't' || oid || ' ' || xmin FROM pg_trigger \
    UNION ALL SELECT 'd' || objoid || ' ' || xmin FROM pg_description UNION ALL SELECT 'n' || oid || ' ' || xmin FROM pg_namespace \
    UNION ALL SELECT 'l' || id || ' ' || xmin FROM pgevict.layout) AS f";

#[test]
fn up_twice_changes_nothing_the_second_time() {
    let mut c = two_tables();
    c.tables[1].always = true;
    let w = World::new(SCHEMA, c);
    let before = w.db.text(FOOTPRINT);
    w.up().unwrap();
    assert_eq!(w.db.text(FOOTPRINT), before);
    assert_eq!(w.drift(), [""; 0]);
    assert!(w.inspect().iter().all(|s| s.live() && s.remedies.is_empty()));
}

/// `pg_dump` in SQL: what describes every object outside the system's schemas. Rights that are spelled out but are the
/// default ones count as none, as `pg_dump` has it: another test of the same cluster may have made the daemon's role.
fn dump(w: &World) -> Vec<String> {
    let all = "SELECT coalesce(string_agg(line, E'\\n' ORDER BY line), '') FROM ( \
        SELECT 'class ' || c.oid::regclass || c.relkind::text || coalesce(nullif(c.relacl, acldefault('r', c.relowner))::text, '') || c.relhastriggers AS line FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|information_schema' \
        UNION ALL SELECT 'proc ' || p.oid::regprocedure || coalesce(p.proacl::text, '') FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname !~ '^pg_|information_schema' \
        UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger \
        UNION ALL SELECT 'schema ' || nspname || coalesce(nullif(nspacl, acldefault('n', nspowner))::text, '') FROM pg_namespace \
        UNION ALL SELECT 'comment ' || description FROM pg_description WHERE description LIKE 'pgevict%') AS d";
    w.db.text(all).unwrap_or_default().lines().map(|l| l.replace("true", "").replace("false", "")).collect()
}

#[test]
fn down_leaves_no_trace_and_down_twice_is_no_error() {
    let w = World::bare(SCHEMA, two_tables());
    w.sql(
        "DO $$ BEGIN CREATE ROLE pgevict_daemon; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    );
    let before = dump(&w);
    w.up().unwrap();
    assert_ne!(dump(&w), before);
    w.down();
    assert_eq!(dump(&w), before);
    w.down();
    w.up().unwrap();
    w.check("INSERT INTO others VALUES (1, 7)", &["others i r [0,7]"]);
}

#[test]
fn down_keeps_a_schema_that_was_there_before() {
    let w = World::bare(
        "CREATE SCHEMA pgevict; CREATE TABLE pgevict.mine (x int); CREATE TABLE calls (id int, user_id int, status text); CREATE TABLE others (user_id int)",
        two_tables(),
    );
    let before = dump(&w);
    w.up().unwrap();
    w.down();
    assert_eq!(dump(&w), before);
}

#[test]
fn the_daemons_role_can_read_what_it_needs_and_nothing_else_is_granted() {
    let w = World::bare(SCHEMA, two_tables());
    w.sql(
        "DO $$ BEGIN CREATE ROLE pgevict_daemon; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    );
    w.up().unwrap();
    let daemon = w.connect();
    daemon.sql("SET ROLE pgevict_daemon");
    for allowed in [
        "SELECT * FROM pgevict.journal, pgevict.layout, pgevict.floor, pgevict.sentinel, pgevict.lost",
        "INSERT INTO pgevict.beacon (snap) VALUES (pg_current_snapshot()) RETURNING n",
        "INSERT INTO pgevict.sentinel DEFAULT VALUES",
        "INSERT INTO pgevict.history DEFAULT VALUES RETURNING id",
        "SELECT pgevict.retire(pg_current_snapshot(), 10)",
    ] {
        daemon.sql(allowed);
    }
    for forbidden in [
        "DELETE FROM pgevict.journal",
        "UPDATE pgevict.floor SET snap = snap",
        "INSERT INTO calls VALUES (1)",
        "SELECT nextval('pgevict.lost')",
    ] {
        assert!(daemon.try_sql(forbidden).is_err(), "{forbidden}");
    }
}

#[test]
fn retire_deletes_only_what_the_snapshot_sees_and_raises_the_floor_with_it() {
    let w = World::new(SCHEMA, two_tables());
    w.sql("INSERT INTO others VALUES (1, 1)");
    let snapshot = w.db.text("SELECT pg_current_snapshot()").unwrap();
    w.sql("INSERT INTO others VALUES (2, 2); INSERT INTO others VALUES (3, 3)");
    let retire = |n: i32| w.db.text(&format!("SELECT pgevict.retire('{snapshot}', {n})")).unwrap();
    assert_eq!((retire(0), retire(10), retire(10)), ("0".into(), "1".into(), "0".into()));
    assert_eq!(w.db.text("SELECT snap FROM pgevict.floor").unwrap(), snapshot);
    assert_eq!(w.journal(), ["others i r [0,2 0,3]".replace(" 0,3", ""), "others i r [0,3]".to_owned()]);
    w.sql("INSERT INTO others VALUES (4, 4)");
    w.db.text("SELECT pgevict.retire(pg_current_snapshot(), 10)");
    let newer = w.db.text("SELECT snap FROM pgevict.floor").unwrap();
    assert_ne!(newer, snapshot);
    retire(10);
    assert_eq!(w.db.text("SELECT snap FROM pgevict.floor").unwrap(), newer, "the floor only rises");
}

#[test]
fn tables_that_left_the_configuration_lose_their_capture() {
    let mut w = World::new(SCHEMA, two_tables());
    w.config.tables.pop();
    let drift = w.drift();
    assert!(drift.iter().any(|d| d.contains("capture_others") && d.contains("left over")), "{drift:?}");
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    w.check("INSERT INTO others VALUES (1, 1)", &[]);
    w.check("INSERT INTO calls VALUES (1, 1)", &["calls i r [0,1]"]);
}

#[test]
fn every_kind_of_harm_is_drift_and_is_mended() {
    let w = World::new(SCHEMA, two_tables());
    let function =
        w.db.text("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'capture_calls%'").unwrap();
    for (harm, expected) in [
        ("DROP TRIGGER zz_pgevict_u ON calls".to_owned(), "trigger zz_pgevict_u on public.calls is missing"),
        ("ALTER TABLE calls DISABLE TRIGGER zz_pgevict_d".to_owned(), "trigger zz_pgevict_d on public.calls is disabled"),
        ("ALTER TABLE calls ENABLE ALWAYS TRIGGER zz_pgevict_d".to_owned(), "trigger zz_pgevict_d on public.calls is enabled as A, not as O"),
        (
            "CREATE OR REPLACE TRIGGER zz_pgevict_i AFTER INSERT ON calls FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()".to_owned(),
            "trigger zz_pgevict_i on public.calls calls \"pg_catalog\".\"suppress_redundant_updates_trigger\"",
        ),
        (format!("ALTER FUNCTION {function} SET search_path = public"), "has other settings"),
        (format!("ALTER FUNCTION {function} SECURITY INVOKER"), "has other settings"),
        (
            "DO $x$ BEGIN EXECUTE replace(pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname LIKE 'capture_calls%')), 'pgevict_count BETWEEN 1 AND', 'pgevict_count BETWEEN 2 AND'); END $x$".to_owned(),
            "has another body",
        ),
        ("DELETE FROM pgevict.layout".to_owned(), "is missing"),
        ("DROP FUNCTION pgevict.retire".to_owned(), "function \"pgevict\".retire is missing"),
    ] {
        w.sql(&harm);
        let drift = w.drift();
        assert!(drift.iter().any(|d| d.contains(expected)), "{harm}: {drift:?}");
        w.up().unwrap();
        assert_eq!(w.drift(), [""; 0], "{harm}");
    }
}

#[test]
fn an_edge_is_live_under_an_older_layout_that_has_it_and_a_new_one_is_not() {
    let mut w = World::new(SCHEMA, two_tables());
    w.config.tables[0].edges.push(edge("status"));
    let mut more = config(&[("status", "s:{status}")], Vec::new()).caches;
    w.config.caches.append(&mut more);
    let state = &w.inspect()[0];
    let live: Vec<_> = state.edges.iter().map(|e| (e.cache.as_str(), e.why_not.as_deref())).collect();
    assert_eq!(live, [("u", None), ("status", Some("its capture is older than the configuration"))]);
    assert_ne!(state.installed_layout, Some(state.wanted_layout));
    assert!(w.drift().iter().any(|d| d.contains("writes layout")), "{:?}", w.drift());
    w.up().unwrap();
    assert!(w.inspect().iter().all(|s| s.live()));
}

#[test]
fn inspect_works_where_nothing_is_installed() {
    let w = World::bare("CREATE TABLE calls (id int, user_id int, status text)", two_tables());
    let states = w.inspect();
    assert_eq!(states.iter().map(|s| (s.exists, s.live())).collect::<Vec<_>>(), [(true, false), (false, false)]);
    assert!(states[1].remedies[0].contains("does not exist"));
    assert!(w.up().unwrap_err().contains("does not exist"));
}

#[test]
fn the_migration_has_nothing_that_trips_a_migration_tool() {
    let mut c = two_tables();
    c.tables[0].always = true;
    for delivery in [Delivery::Journal, Delivery::Notify] {
        c.postgres.delivery = delivery;
        let w = World::bare(SCHEMA, c.clone());
        let mut steps = up(&w.layouts(), &Settings::of(&c), &w.facts()).unwrap();
        steps.extend(pgevict::rules::capture::down(&Settings::of(&c)));
        for step in steps {
            for (number, line) in step.sql.lines().enumerate() {
                let code = line.split("--").next().unwrap_or_default();
                assert!(!line.contains("${") && !line.starts_with('\\') && !code.contains('?'), "{number}: {line}");
                assert!(
                    !line.contains("{{") && !line.contains('%') && !line.contains('#')
                        || line.starts_with("#variable_conflict"),
                    "{number}: {line}"
                );
                // `:name`, as SQLAlchemy and others find it.
                let bytes = code.as_bytes();
                for (i, b) in bytes.iter().enumerate() {
                    let before = i.checked_sub(1).map(|j| bytes[j]);
                    let named = bytes.get(i + 1).is_some_and(|n| n.is_ascii_alphanumeric() || *n == b'_');
                    assert!(
                        *b != b':'
                            || before == Some(b':')
                            || !named
                            || before.is_some_and(|p| p.is_ascii_alphanumeric()),
                        "{number}: {line}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_template_runs_as_it_stands() {
    let w = World::bare("SELECT", two_tables());
    for file in
        ["schema", "journal", "relief", "poison", "grants", "capture", "capture_row", "capture_notify", "leftovers"]
    {
        let path = format!("{}/sql/{file}.sql", env!("CARGO_MANIFEST_DIR"));
        w.sql(&std::fs::read_to_string(path).unwrap());
    }
    w.sql("DROP FUNCTION pgevict.__function__");
    w.sql(&std::fs::read_to_string(format!("{}/sql/down.sql", env!("CARGO_MANIFEST_DIR"))).unwrap());
    assert!(w.db.text("SELECT 1 FROM pg_namespace WHERE nspname = 'pgevict'").is_none());
}

/// A publication FOR ALL TABLES that comes after pgevict: without a replica identity retention's DELETE would fail (HAZARDS B16).
#[test]
fn every_table_that_pgevict_deletes_from_or_updates_may_be_published() {
    let w = World::new(SCHEMA, two_tables());
    w.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    for n in 0..3 {
        w.sql(&format!(
            "INSERT INTO others VALUES ({n}, {n}); INSERT INTO pgevict.beacon (snap) VALUES (pg_current_snapshot())"
        ));
    }
    w.sql("INSERT INTO pgevict.poison SELECT j.xid, j.seq, now() - interval '40 days', 'why', '{}' FROM pgevict.journal AS j");
    let retire = "SELECT pgevict.retire(pg_current_snapshot(), 1)";
    assert_eq!(w.db.text(retire).unwrap(), "1");
    // The floor is inserted first and updated then; beacons and copies are deleted.
    assert_eq!(w.db.text(retire).unwrap(), "1");
    w.sql("SELECT pgevict.bury('{}', '{}', '{}')");
    assert_eq!(w.db.text("SELECT count(*) FROM pgevict.beacon").unwrap(), "1");
    assert_eq!(w.db.text("SELECT count(*) FROM pgevict.poison").unwrap(), "0");
    // That this server enforces it: what has no identity cannot be deleted from.
    w.sql("ALTER TABLE pgevict.journal DROP CONSTRAINT journal_pkey");
    let refused = w.db.try_sql(retire).unwrap_err().to_string();
    let why = w.db.try_sql(retire).unwrap_err().as_db_error().map_or(refused, |e| e.message().to_owned());
    assert!(why.contains("replica identity"), "{why}");
}
