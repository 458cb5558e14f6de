//! A value is the text that PostgreSQL casts it to under pinned settings, whatever the session's are.

use crate::support::*;

#[test]
fn every_type_is_cast_under_pinned_settings() {
    let w = World::new(
        "CREATE TYPE mood AS ENUM ('so so'); \
         CREATE TABLE vals (id int, b bytea, t timestamptz, f float8, i interval, c char(6), n numeric(8,2), e mood, a text[], u uuid, j json, m money, d date, o boolean)",
        config(
            &[("all", "k:{b}:{t}:{f}:{i}:{c}:{n}:{e}:{a}:{u}:{j}:{m}:{d}:{o}")],
            vec![table("vals", vec![filtered("all", &["id"])])],
        ),
    );
    w.sql(
        "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German, DMY'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; \
         SET extra_float_digits = -5; SET quote_all_identifiers = on; SET standard_conforming_strings = off; SET row_security = off",
    );
    let insert = "INSERT INTO vals VALUES (1, decode('dead', 'hex'), '2026-01-02 03:04:05Z', 0.1::float8 + 0.2::float8, '1 day 2 hours', 'ab', 1, 'so so', \
                  ARRAY['a b', NULL, '*'], '00000000-0000-0000-0000-00000000000A', '{\"a\":  1}', '1.50', '2026-02-01', true)";
    w.sql(insert);
    let tuple = w.db.text("SELECT array_to_string(tuples, '|') FROM pgevict.journal").unwrap();
    assert_eq!(
        tuple,
        "0|\\xdead|2026-01-02 03:04:05+00|0.30000000000000004|1 day 02:00:00|ab|1.00|so so|{\"a b\",NULL,*}|\
         00000000-0000-0000-0000-00000000000a|{\"a\":  1}|$1.50|2026-02-01|true"
    );
    w.sql("DELETE FROM pgevict.journal; UPDATE vals SET id = 2");
    assert_eq!(w.db.text("SELECT array_to_string(tuples, '|') FROM pgevict.journal").unwrap(), tuple);
    assert_eq!(w.db.text("SHOW timezone").unwrap(), "Asia/Tokyo", "the session keeps its own");
}

fn texts() -> World {
    World::new(
        "CREATE TABLE docs (id text, x int)",
        config(&[("doc", "d:{id}")], vec![table("docs", vec![filtered("doc", &["x"])])]),
    )
}

#[test]
fn hostile_values_are_values() {
    let w = texts();
    w.check(
        "INSERT INTO docs VALUES ('*'), ('[1]'), ('\\'), ('{a,\"b\"}'), (''), ('a''b'), (E'\\r\\n')",
        &["docs i r [0, 0,\r\n 0,* 0,[1] 0,\\ 0,a'b 0,{a,\"b\"}]"],
    );
}

#[test]
fn two_hundred_kilobytes_are_exact_and_over_a_mebibyte_the_class_goes_whole() {
    let w = texts();
    w.sql("INSERT INTO docs VALUES (repeat('x', 200000)), ('y')");
    let sizes = "SELECT string_agg(length(v)::text, ',' ORDER BY length(v)) || min(kind::text) FROM pgevict.journal, unnest(tuples) AS t (v) WHERE v <> '0'";
    assert_eq!(w.db.text(sizes).unwrap(), "1,200000r");
    w.sql("DELETE FROM pgevict.journal; DELETE FROM docs");
    w.journal();
    w.sql("INSERT INTO docs VALUES (repeat('x', 1048576))");
    assert_eq!(w.db.text("SELECT kind::text || length(tuples[1][2]) FROM pgevict.journal").unwrap(), "r1048576");
    w.sql("DELETE FROM pgevict.journal");
    w.check("INSERT INTO docs VALUES (repeat('x', 1048577)), ('y')", &["docs i w {0}"]);
    assert_eq!(w.lost(), 0);
}

#[test]
fn a_change_of_case_counts_under_a_case_insensitive_collation() {
    let w = World::bare("SELECT", config(&[("doc", "d:{id}")], vec![table("docs", vec![filtered("doc", &["id"])])]));
    if w.db
        .try_sql("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        .is_err()
    {
        return; // built without ICU
    }
    w.sql("CREATE TABLE docs (id text COLLATE nocase)");
    w.up().unwrap();
    w.check("INSERT INTO docs VALUES ('a'), ('A')", &["docs i r [0,A 0,a]"]);
    w.check("DELETE FROM docs WHERE id COLLATE \"C\" = 'A'", &["docs d r [0,A]"]);
    w.check("UPDATE docs SET id = 'A'", &["docs u r [0,A 0,a]"]);
}

#[test]
fn stored_generated_columns_carry_their_value() {
    let w = World::new(
        "CREATE TABLE gen (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        config(&[("gen", "g:{b}")], vec![table("gen", vec![filtered("gen", &["b"])])]),
    );
    w.check("INSERT INTO gen VALUES (4)", &["gen i r [0,8]"]);
    w.check("UPDATE gen SET a = 5", &["gen u r [0,10 0,8]"]);
}

#[test]
fn virtual_generated_columns_are_computed() {
    let w = World::bare("SELECT", config(&[("gen", "g:{b}")], vec![table("gen", vec![filtered("gen", &["b"])])]));
    if w.db.text("SHOW server_version_num").unwrap().parse::<u32>().unwrap() < 180_000 {
        return;
    }
    w.sql("CREATE TABLE gen (a int, \"A b\" int, b int GENERATED ALWAYS AS (a * 2 + \"A b\") VIRTUAL)");
    w.up().unwrap();
    w.check("INSERT INTO gen VALUES (4, 1)", &["gen i r [0,9]"]);
    w.check("UPDATE gen SET a = 5", &["gen u r [0,11 0,9]"]);
}

#[test]
fn a_json_column_can_be_compared() {
    let w = World::new(
        "CREATE TABLE docs (id int, body json)",
        config(&[("doc", "d:{id}")], vec![table("docs", vec![filtered("doc", &["body"])])]),
    );
    w.check("INSERT INTO docs VALUES (1, '{\"a\":1}')", &["docs i r [0,1]"]);
    w.check("UPDATE docs SET body = '{\"a\":1}'", &[]);
    w.check("UPDATE docs SET body = '{\"a\": 1}'", &["docs u r [0,1]"]);
}
