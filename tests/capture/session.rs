//! What the session of a writer is like is neither believed nor changed, though most captures pin nothing in their heads.

use crate::support::*;

const SCHEMA: &str = "CREATE TABLE calls (id int PRIMARY KEY, user_id int, status text); \
                      CREATE TABLE days (id int PRIMARY KEY, day timestamptz)";

fn world() -> World {
    let tables =
        vec![table("calls", vec![filtered("user", &["status"])]), table("days", vec![filtered("day", &["id"])])];
    World::new(SCHEMA, config(&[("user", "u:{user_id}"), ("day", "d:{day}")], tables))
}

/// A schema in front of `pg_catalog` with everything that a capture could name by mistake. Whoever runs something of it leaves
/// his name in `loot`.
const HOSTILE: &str = r#"
CREATE SCHEMA hostile;
CREATE TABLE hostile.loot (who name, what text);
CREATE FUNCTION hostile.take(what text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN INSERT INTO hostile.loot VALUES (current_user, what); RETURN true; END $$;
DO $$
DECLARE o record; f record; arguments text;
BEGIN
  FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result, oid FROM pg_operator
    WHERE oprname IN ('=', '<>', '<', '<=', '>', '>=', '||', '*<>', '+', '-', '/') AND oprleft <> 0 AND oprright <> 0
      AND oprleft::regtype::text IN ('integer', 'bigint', 'text', '"char"', 'oid', 'name', 'record', 'double precision', 'numeric', 'anyarray', 'anycompatiblearray')
      AND oprright::regtype::text IN ('integer', 'bigint', 'text', '"char"', 'oid', 'name', 'record', 'double precision', 'numeric', 'anyarray', 'anycompatiblearray')
  LOOP
    CONTINUE WHEN o.l = 'record'::regtype AND o.oprname <> '*<>';
    EXECUTE format('CREATE FUNCTION hostile.op_%s(l %s, r %s) RETURNS %s LANGUAGE plpgsql AS %L', o.oid,
      o.l, o.r, o.result,
      format('BEGIN PERFORM hostile.take(%L); RETURN l OPERATOR(pg_catalog.%s) r; END', o.oprname, o.oprname));
    EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.op_%s)', o.oprname, o.l, o.r, o.oid);
  END LOOP;
  FOR f IN SELECT p.oid, p.proname, replace(oidvectortypes(p.proargtypes), '"any"', 'anyelement') AS arguments, pg_get_function_result(p.oid) AS result, p.pronargs
    FROM pg_proc AS p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND provariadic = 0 AND proname IN (
      'set_config', 'current_setting', 'pg_column_size', 'pg_typeof', 'mod', 'pg_try_advisory_xact_lock_shared', 'pg_notify', 'pg_notification_queue_usage',
      'replace', 'left', 'nextval', 'octet_length', 'array_to_string', 'array_length', 'int4', 'text', 'quote_ident', 'to_regclass')
  LOOP
    SELECT string_agg('$' || i, ', ') INTO arguments FROM generate_series(1, f.pronargs) AS i;
    EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.proname, f.arguments, f.result,
      CASE WHEN f.result = 'void' THEN format('BEGIN PERFORM hostile.take(%L); END', f.proname)
        ELSE format('BEGIN PERFORM hostile.take(%L); RETURN pg_catalog.%I(%s); END', f.proname, f.proname, coalesce(arguments, '')) END);
  END LOOP;
END $$;
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (hostile.take('text'));
CREATE DOMAIN hostile."char" AS pg_catalog."char" CHECK (hostile.take('char'));
CREATE DOMAIN hostile.bool AS pg_catalog.bool CHECK (hostile.take('bool'));
CREATE DOMAIN hostile.int8 AS pg_catalog.int8 CHECK (hostile.take('int8'));
CREATE DOMAIN hostile.oid AS pg_catalog.oid CHECK (hostile.take('oid'));
CREATE DOMAIN hostile.regclass AS pg_catalog.regclass CHECK (hostile.take('regclass'));
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT INSERT ON hostile.loot TO PUBLIC"#;

#[test]
fn nothing_that_a_writer_puts_in_front_of_the_catalog_runs_as_the_owner() {
    let w = world();
    w.sql(HOSTILE);
    // A daemon that sleeps: there is something to ring for.
    let daemon = w.connect();
    daemon.sql("SELECT pg_advisory_lock(1885431413, 'pgevict.journal'::regclass::oid::int4)");
    let role = w.db.text("SELECT 'mallory_' || current_database()").unwrap();
    w.sql(&format!(
        "CREATE ROLE {role}; GRANT ALL ON calls, days TO {role}; SET search_path = hostile, pg_catalog, public; SET ROLE {role}"
    ));
    // The trap works.
    w.sql("SELECT mod(1, 2)::text || 'x' = 'y'");
    for sql in [
        "INSERT INTO calls VALUES (1, 7, 'a')",
        "UPDATE calls SET status = 'b'",
        "UPDATE calls SET user_id = 8",
        "UPDATE calls SET status = 'c' WHERE id IN (2)",
        "INSERT INTO calls SELECT g, g, 'x' FROM generate_series(2, 400) AS g",
        "UPDATE calls SET status = 'd'",
        "INSERT INTO days VALUES (1, now())",
        "UPDATE days SET id = 2",
        "INSERT INTO days SELECT g, now() FROM generate_series(3, 9) AS g",
        "RESET ROLE; ALTER TABLE public.calls RENAME user_id TO gone",
        "UPDATE calls SET status = 'e'",
        "RESET ROLE; ALTER TABLE public.calls RENAME gone TO user_id",
        "DELETE FROM calls WHERE status <> 'z'",
        "TRUNCATE days",
    ] {
        w.sql(sql);
        w.sql(&format!("SET ROLE {role}"));
    }
    w.sql("RESET ROLE; SET search_path = public");
    let loot = |whose: &str| {
        w.db.text(&format!("SELECT coalesce(string_agg(DISTINCT what, ' ' ORDER BY what), '') FROM hostile.loot WHERE who {whose} '{role}'"))
            .unwrap()
    };
    let own = loot("=");
    assert!(
        ["mod", "text", "=", "||", "<>"].iter().all(|x| own.split(' ').any(|o| o == *x)),
        "the trap is not set: {own}"
    );
    assert_eq!(loot("<>"), "");
    assert_eq!(w.lost(), 0);
    assert_eq!(
        w.db.text("SELECT count(*)::text FROM pgevict.journal WHERE kind = 'x'").unwrap(),
        "1",
        "the renamed column"
    );
    w.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

const SHOWN: &str = "SELECT concat_ws('|', current_setting('search_path'), current_setting('lock_timeout'), current_setting('timezone'), \
    current_setting('datestyle'), current_setting('intervalstyle'), current_setting('bytea_output'), current_setting('extra_float_digits'), \
    current_setting('lc_monetary'), current_setting('quote_all_identifiers'), current_setting('jit'), current_setting('row_security'))";

#[test]
fn what_a_session_has_set_is_there_after_every_capture_and_after_its_transaction() {
    let w = world();
    let shown = || w.db.text(SHOWN).unwrap();
    w.sql(
        "SET search_path = \"$user\", public, pg_catalog; SET lock_timeout = '7s'; SET timezone = '<+03>-03'; SET datestyle = 'SQL, DMY'; SET bytea_output = 'escape'; \
         SET extra_float_digits = 0; SET quote_all_identifiers = on; SET jit = off",
    );
    let session = shown();
    w.sql("BEGIN; SET LOCAL timezone = 'Asia/Tokyo'; SET LOCAL intervalstyle = 'iso_8601'; SET LOCAL search_path = public");
    let local = shown();
    // The short way, the long one, the one for types whose text depends on settings, and a capture that fails.
    for sql in [
        "INSERT INTO calls VALUES (1, 7, 'a')",
        "INSERT INTO calls VALUES (2, 7, 'a'), (3, 7, 'a')",
        "INSERT INTO days VALUES (1, '2026-01-02 03:04:05Z')",
        "UPDATE calls SET status = 'b' WHERE false",
        "SAVEPOINT s; UPDATE days SET id = 2; ROLLBACK TO s",
        "SAVEPOINT s; UPDATE days SET id = 3; RELEASE s",
        "ALTER TABLE days RENAME day TO gone; UPDATE days SET id = 4; ALTER TABLE days RENAME gone TO day",
    ] {
        w.sql(sql);
        assert_eq!(shown(), local, "{sql}");
    }
    w.sql("SET timezone = 'UTC'; UPDATE days SET id = 5; COMMIT");
    assert_eq!(shown(), session.replace("<+03>-03", "UTC"), "SET outlives the transaction, SET LOCAL does not");
    w.sql("BEGIN; SET timezone = 'Asia/Tokyo'; UPDATE days SET id = 6; ROLLBACK");
    assert_eq!(shown(), session.replace("<+03>-03", "UTC"));
    assert_eq!(w.lost(), 0);
}

#[test]
fn a_column_that_becomes_one_whose_text_depends_on_settings_is_still_read_under_ours() {
    let w = world();
    w.sql("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German, DMY'");
    w.check("INSERT INTO calls VALUES (1, 7, 'a')", &["calls i r [0,7]"]);
    w.sql("ALTER TABLE calls ALTER user_id TYPE timestamptz USING '2026-01-02 03:04:05Z'");
    w.check("UPDATE calls SET status = 'b'", &["calls u r [0,2026-01-02 03:04:05+00]"]);
    w.check("DELETE FROM calls", &["calls d r [0,2026-01-02 03:04:05+00]"]);
    w.check("INSERT INTO calls VALUES (1, '2026-01-02 03:04:05Z', 'a')", &["calls i r [0,2026-01-02 03:04:05+00]"]);
}

#[test]
fn statements_without_rows_and_rows_without_a_watched_change_pin_nothing_and_write_nothing() {
    let w = world();
    w.sql("INSERT INTO calls VALUES (1, 7, 'a'); INSERT INTO days VALUES (1, now())");
    w.journal();
    // Nothing could be written: the journal is locked, and nobody waits for it.
    let other = w.connect();
    other.sql("BEGIN; LOCK TABLE pgevict.journal");
    for sql in [
        "UPDATE calls SET status = 'b' WHERE false",
        "UPDATE calls SET id = 2",
        "DELETE FROM calls WHERE false",
        "INSERT INTO calls SELECT 3, 7, 'a' WHERE false",
        "UPDATE days SET id = 3 WHERE false",
    ] {
        w.sql(sql);
    }
    other.sql("ROLLBACK");
    assert_eq!((w.lost(), w.journal()), (0, vec![]));
}
