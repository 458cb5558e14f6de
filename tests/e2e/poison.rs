//! Journal rows that no trigger of this version writes, put there by hand: never skipped, never fatal (HAZARDS P9).

use crate::support::{Setup, World};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'u'), (2, 'u');
CREATE TABLE posts (id int PRIMARY KEY, title text); INSERT INTO posts VALUES (1, 't');
";
const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[cache.post]
key = "post:{id}"
[table.users]
evict = ["user"]
[table.posts]
evict = ["post"]
"#;
const USERS: [&str; 2] = ["user:1", "user:2"];

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w.fill(&["user:1", "user:2", "post:1", "canary"]);
    w
}

/// A row of the journal; `users` in it stands for the layout of the table.
fn insert(columns: &str, values: &str) -> String {
    let layout = "(SELECT id FROM pgevict.layout WHERE tbl = 'users' ORDER BY installed_at DESC LIMIT 1)";
    format!("INSERT INTO pgevict.journal ({columns}) VALUES ({})", values.replace("users()", layout))
}

#[test]
fn rows_that_cannot_be_read_take_their_tables_caches_and_nothing_else() {
    let w = world();
    w.sql(r#"INSERT INTO pgevict.layout (id, tbl, spec) VALUES (77, 'users', '{"v":99}'), (78, 'users', 'no json')"#);
    let mut buried = 0;
    for values in [
        // Another version's kinds, operations and layouts.
        "users(), 'users', 'q', 'u', NULL, '{{0,1}}'",
        "users(), 'users', 'r', 'z', NULL, '{{0,1}}'",
        "42, 'users', 'r', 'u', NULL, '{{0,1}}'",
        "77, 'users', 'r', 'u', NULL, '{{0,1}}'",
        "78, 'users', 'w', 'u', NULL, NULL",
        // Broken tuples.
        "users(), 'users', 'r', 'u', NULL, '{0,1}'",
        "users(), 'users', 'r', 'u', NULL, '{{{0,1}}}'",
        "users(), 'users', 'r', 'u', NULL, '{{x,1}}'",
        "users(), 'users', 'r', 'u', NULL, '{{NULL,1}}'",
        "users(), 'users', 'r', 'u', NULL, '{{0}}'",
        "users(), 'users', 'r', 'u', NULL, '{{99,1}}'",
        "users(), 'users', 'r', 'u', NULL, '{{-99,1}}'",
        "users(), 'users', 'r', 'u', NULL, '{}'",
        "users(), 'users', 'r', 'u', NULL, NULL",
        // Broken classes.
        "users(), 'users', 'w', 'u', '{}', NULL",
        "users(), 'users', 'w', 'u', '{99}', NULL",
        "users(), 'users', 'x', 'u', '{NULL}', NULL",
        "users(), 'users', 'x', 'u', '{{0},{0}}', NULL",
    ] {
        w.check(&insert("layout, tbl, kind, op, classes, tuples", values), &USERS);
        buried += 1;
        assert_eq!(w.value("SELECT count(*) FROM pgevict.poison"), buried.to_string(), "{values}");
    }
    // A table that nobody watches has no caches; the row is kept all the same.
    w.check(&insert("layout, tbl, kind, op", "42, 'strangers', 'q', 'u'"), &[]);
    assert_eq!(w.value("SELECT copied ->> 'tbl' FROM pgevict.poison ORDER BY at DESC LIMIT 1"), "strangers");
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["totals"]["poison"], buried, "{status}");
    w.pgevict(&["ready"]).exits(0);

    // The position has moved: nothing comes again, and what is sound goes on as ever.
    w.check_after("a restart", &[], || w.restart());
    w.check("UPDATE users SET name = 'n' WHERE id = 1", &["user:1"]);
    assert_eq!(w.value("SELECT count(*) FROM pgevict.poison"), (buried + 1).to_string());
}

#[test]
fn rows_of_absurd_size_or_time_are_survived() {
    let w = world();
    let columns = "at, layout, tbl, kind, op, tuples, note";
    let row = |at: &str, tuples: &str, note: &str| {
        insert(columns, &format!("{at}, users(), 'users', 'r', 'u', {tuples}, {note}"))
    };
    // 80 MB that PostgreSQL stores as one: it is not even sent.
    w.check(&row("now()", "ARRAY[ARRAY['0', repeat('x', 80000000)]]", "NULL"), &USERS);
    assert!(w.value("SELECT why FROM pgevict.poison").contains("80000001 bytes"));
    // More than a page holds, in one row: it goes alone, and what is behind it too. Subscripts may begin anywhere.
    let large =
        "ARRAY[ARRAY['0', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 40000) n)], ARRAY['0', '1']]";
    w.check(&format!("{}; {}", row("now()", large, "NULL"), row("now()", "'{{0,2}}'", "NULL")), &USERS);
    w.check(&row("now()", "'[0:0][5:6]={{0,1}}'", "NULL"), &["user:1"]);
    w.check(&row("'infinity'", "'{{0,1}}'", "NULL"), &["user:1"]);
    w.check(&row("'-infinity'", "'{{0,2}}'", "NULL"), &["user:2"]);
    w.check(&row("'294000-01-01'", "'{{0,2}}'", "repeat('n', 3000000)"), &["user:2"]);
    w.check(&row("'4000-01-01 BC'", "'{{0,1}}'", "NULL"), &["user:1"]);
    // A name as long as a book is not a table that is watched, and what the layout says counts.
    w.check(
        &insert("layout, tbl, kind, op, tuples", "users(), repeat('t', 3000000), 'r', 'u', '{{0,1}}'"),
        &["user:1"],
    );
    w.check(
        &insert("layout, tbl, kind, op, classes", "users(), 'users', 'w', 'u', array_fill(0, ARRAY[10000000])"),
        &USERS,
    );
    w.pgevict(&["ready"]).exits(0);
    w.check("UPDATE users SET name = 'n' WHERE id = 2", &["user:2"]);
}
