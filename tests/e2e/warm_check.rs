//! `pgevict check` asks PostgreSQL what it thinks of the queries of `warm`, before any key has to find out.

use crate::support::{Setup, World};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'one');
";

const CONFIG: &str = r#"
[cache.good]
key = "good:{id}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.startup.sql = "SELECT id FROM users"
[cache.batch]
key = "batch:{id}"
ttl = "10m"
warm.sql = "SELECT id, name FROM users WHERE id = ANY(:id)"
[table.users]
evict = ["good", "batch"]
"#;

/// What `check` says of this query, or of this part of the cache.
fn finding(w: &World, warm: &str) -> serde_json::Value {
    w.write_config(&format!("{CONFIG}[cache.tried]\nkey = \"tried:{{id}}\"\nttl = \"10m\"\n{warm}\n"));
    let json = w.pgevict(&["check", "-o", "json"]).json();
    let problems = json["problems"].as_array().unwrap();
    problems
        .iter()
        .find(|p| p["code"] == "PE513")
        .unwrap_or_else(|| panic!("nothing is wrong with {warm}: {json}"))
        .clone()
}

#[test]
fn a_query_that_cannot_work_is_pointed_at_by_check_and_one_that_can_is_not() {
    let mut w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    // Before the migration, too.
    w.pgevict(&["check"]).exits(0);
    w.apply();
    w.pgevict(&["check"]).exits(0);

    let name = |sql: &str| format!("warm.sql = \"{sql}\"");
    for (warm, says, column) in [
        (name("SELECT nam FROM users WHERE id = :id"), "column \"nam\" does not exist (42703)", Some(20)),
        (name("SELECT name FROM users WHERE :id = id AND nam = 'x'"), "column \"nam\" does not exist", Some(55)),
        (name("SELECT name FROM user_s WHERE id = :id"), "\"user_s\" does not exist (42P01)", Some(30)),
        (name("SELECT json_build_object('id', :id)"), "data type of parameter `:id` (42P18)", None),
        (name("SELECT name FROM users WHERE id = ANY(:id)"), "returns `id` beside the value", None),
        (name("SELECT FROM users WHERE id = :id"), "no value", None),
        (name("UPDATE users SET name = 'x' WHERE id = :id RETURNING name"), "syntax error", None),
        (name("SELECT 1 WHERE :id = 1\"\nwarm.startup.sql = \"SELECT 1 AS ids"), "no column `id`", None),
        (name("SELECT 1 WHERE :id = 1\"\nwarm.startup.sql = \"SELECT id FRM users"), "syntax error", None),
    ] {
        let found = finding(&w, &warm);
        let message = found["message"].as_str().unwrap();
        assert!(message.contains("of `tried`") && message.contains(says), "{warm}: {found}");
        assert!(found["line"].is_number(), "it points at nothing: {found}");
        if let Some(column) = column {
            assert_eq!(found["column"], column, "{found}");
        }
    }
    let ran = w.pgevict(&["check"]).exits(1);
    assert!(ran.err.contains("SELECT id FRM users") && ran.err.contains("^^^"), "no caret: {}", ran.err);

    // As the role that will ask, not as the daemon's.
    w.sql("DROP ROLE IF EXISTS check_reader; CREATE ROLE check_reader LOGIN");
    let url = w.pg.url(&w.database);
    let user = url.split("://").nth(1).and_then(|r| r.split('@').next()).unwrap().to_owned();
    w.set_env("PGEVICT_WARM__URL", &url.replacen(&format!("{user}@"), "check_reader@", 1));
    let found = finding(&w, &name("SELECT name FROM users WHERE id = :id"));
    assert!(found["message"].as_str().unwrap().contains("permission denied for schema pgevict"), "{found}");
    w.sql("GRANT USAGE ON SCHEMA pgevict TO check_reader");
    let found = finding(&w, &name("SELECT name FROM users WHERE id = :id"));
    assert!(found["message"].as_str().unwrap().contains("permission denied for table users (42501)"), "{found}");
    assert!(found["help"].as_str().unwrap().contains("GRANT SELECT"), "{found}");
    w.sql("GRANT SELECT ON users TO check_reader");
    w.write_config(CONFIG);
    w.pgevict(&["check"]).exits(0);
    w.sql("DROP OWNED BY check_reader; DROP ROLE check_reader");
}
