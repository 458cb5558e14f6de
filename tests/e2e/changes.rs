//! Every way in which rows change, and exactly the keys that go: the same over both deliveries.

use crate::support::{Delivery, Setup, World, over_both_deliveries};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text, team text, seen int NOT NULL DEFAULT 0, extra json);
CREATE TABLE posts (id int PRIMARY KEY, user_id int REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, title text);
CREATE TABLE post_archive () INHERITS (posts);
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[cache.team]
key = "team:{team|lower}"
[cache.new_users]
key = "users:new"
[cache.posts]
pattern = "posts:{user_id}:*"

[table.users]
columns = ["name"]
evict = ["user", "team", { cache = "new_users", ops = ["insert"] }]

[table.posts]
evict = ["posts"]

[table.post_archive]
evict = ["posts"]
"#;

fn world(delivery: Delivery) -> World {
    let w = World::running(&Setup { delivery, config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.sql("INSERT INTO users (id, name, team) VALUES (1, 'ann', 'Red'), (2, 'bob', 'Red'), (3, 'cy', 'blue'), (4, 'di', NULL)");
    w.sql("INSERT INTO posts VALUES (10, 1, 'a'), (11, 1, 'b'), (20, 2, 'c')");
    w.drain();
    w.fill(&["user:1", "user:2", "user:3", "user:4", "user:5", "team:red", "team:blue", "users:new"]);
    w.fill(&["posts:1:p1", "posts:1:p2", "posts:2:p1", "posts:3:p1", "posts:12:p1", "user:", "team:", "other"]);
    w
}

over_both_deliveries! {
    one_statement_of_many_rows_names_each_of_them
    only_the_listed_columns_count_and_those_that_make_the_key
    copy_counts_as_insert
    on_conflict_counts_whichever_way_it_goes
    merge_counts_for_each_of_its_actions
    a_key_that_moves_evicts_where_it_was_and_where_it_is
    a_null_hole_is_skipped
    truncate_evicts_the_whole_form
    savepoints_and_many_statements_in_one_transaction_arrive_once_and_whole
    before_triggers_and_json_columns_are_seen_as_they_are_stored
    a_child_table_of_inheritance_counts_by_itself
    an_application_role_needs_no_right_on_the_schema
}

fn one_statement_of_many_rows_names_each_of_them(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE users SET name = name || '!' WHERE id <= 2", &["user:1", "user:2", "team:red"]);
    w.check("DELETE FROM posts", &["posts:1:p1", "posts:1:p2", "posts:2:p1"]);
    w.check("UPDATE users SET name = 'x' WHERE id = 99", &[]);
}

fn only_the_listed_columns_count_and_those_that_make_the_key(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE users SET seen = seen + 1", &[]);
    w.check("UPDATE users SET name = name", &[]);
    // Not listed, but the key is made of it; only the edges that need it go.
    w.check("UPDATE users SET team = 'Blue' WHERE id = 1", &["team:red", "team:blue"]);
}

fn copy_counts_as_insert(delivery: Delivery) {
    let w = world(delivery);
    w.check(
        "COPY users (id, name, team) FROM PROGRAM 'printf \"5,eve,blue\\n6,fay,blue\\n\"' WITH (FORMAT csv)",
        &["user:5", "team:blue", "users:new"],
    );
}

fn on_conflict_counts_whichever_way_it_goes(delivery: Delivery) {
    let w = world(delivery);
    let upsert = |id: u32| {
        format!(
            "INSERT INTO users (id, name, team) VALUES ({id}, 'z', 'blue') ON CONFLICT (id) DO UPDATE SET name = 'z'"
        )
    };
    w.check(&upsert(5), &["user:5", "team:blue", "users:new"]);
    w.check(&upsert(1), &["user:1", "team:red"]);
    w.check("INSERT INTO users (id) VALUES (1) ON CONFLICT DO NOTHING", &[]);
}

fn merge_counts_for_each_of_its_actions(delivery: Delivery) {
    let w = world(delivery);
    if w.value("SELECT current_setting('server_version_num')").parse::<u32>().unwrap() < 150_000 {
        return; // MERGE came with 15
    }
    w.check(
        "MERGE INTO users u USING (VALUES (1, 'upd'), (3, 'del'), (5, 'ins')) AS s (id, what) ON u.id = s.id
           WHEN MATCHED AND what = 'del' THEN DELETE
           WHEN MATCHED THEN UPDATE SET name = what
           WHEN NOT MATCHED THEN INSERT (id, name, team) VALUES (s.id, what, NULL)",
        &["user:1", "team:red", "user:3", "team:blue", "user:5", "users:new"],
    );
}

fn a_key_that_moves_evicts_where_it_was_and_where_it_is(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE posts SET user_id = 3 WHERE id = 20", &["posts:2:p1", "posts:3:p1"]);
    // The primary key itself, with its cascade.
    w.check("UPDATE users SET id = 5 WHERE id = 1", &["user:1", "user:5", "posts:1:p1", "posts:1:p2"]);
}

fn a_null_hole_is_skipped(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE users SET name = 'dina' WHERE id = 4", &["user:4"]);
    w.check("UPDATE users SET team = 'blue' WHERE id = 4", &["team:blue"]);
    w.check("INSERT INTO posts VALUES (30, NULL, 't')", &[]);
}

fn truncate_evicts_the_whole_form(delivery: Delivery) {
    let w = world(delivery);
    let posts = ["posts:1:p1", "posts:1:p2", "posts:2:p1", "posts:3:p1", "posts:12:p1"];
    w.check("TRUNCATE posts", &posts);
    let users = ["user:1", "user:2", "user:3", "user:4", "user:5", "user:", "team:red", "team:blue", "team:"];
    w.check("TRUNCATE users CASCADE", &[&users[..], &posts[..]].concat());
}

fn savepoints_and_many_statements_in_one_transaction_arrive_once_and_whole(delivery: Delivery) {
    let w = world(delivery);
    w.check(
        "BEGIN;
         UPDATE users SET name = 'a' WHERE id = 1;
         SAVEPOINT s; UPDATE users SET name = 'b' WHERE id = 2; ROLLBACK TO s;
         SAVEPOINT t; UPDATE users SET name = 'c' WHERE id = 3; RELEASE t;
         COMMIT",
        &["user:1", "team:red", "user:3", "team:blue"],
    );
    let mut many = "BEGIN;".to_owned();
    for n in 0..1000 {
        many.push_str(&format!("UPDATE posts SET title = 't{n}' WHERE id = 10;"));
    }
    w.check(&(many + "COMMIT"), &["posts:1:p1", "posts:1:p2"]);
}

fn before_triggers_and_json_columns_are_seen_as_they_are_stored(delivery: Delivery) {
    let w = world(delivery);
    w.check(r#"UPDATE users SET extra = '{"a": 1}' WHERE id = 1"#, &[]);
    w.sql(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
         CREATE TRIGGER shout BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION shout()",
    );
    // The statement does not name the column; the BEFORE trigger changes it.
    w.check("UPDATE users SET seen = 1 WHERE id = 2", &["user:2", "team:red"]);
}

fn a_child_table_of_inheritance_counts_by_itself(delivery: Delivery) {
    let w = world(delivery);
    w.check("INSERT INTO post_archive VALUES (90, 3, 'old')", &["posts:3:p1"]);
    w.check("UPDATE post_archive SET title = 'older'", &["posts:3:p1"]);
}

fn an_application_role_needs_no_right_on_the_schema(delivery: Delivery) {
    let w = world(delivery);
    let role = format!("app_{}", w.database);
    w.sql(&format!("CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON users, posts TO {role}"));
    w.sql("CREATE SCHEMA hostile; CREATE FUNCTION hostile.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'");
    w.sql(&format!("GRANT USAGE ON SCHEMA hostile TO {role}"));
    w.check_after("an application's statement", &["user:1", "team:red"], || {
        w.sql(&format!("BEGIN; SET LOCAL ROLE {role}; SET LOCAL search_path = hostile, public; UPDATE users SET name = 'r' WHERE id = 1; COMMIT"));
    });
    w.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
