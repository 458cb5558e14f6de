//! `warm.after`: what is made from another cache is warmed after it, whoever makes the two, and never waits for what fails.

use crate::support::{Setup, World};
use crate::warm::{GATE, PATIENT, closed_gate, open_gate, wait_at_gate};
use crate::warm_http::{App, redis_of};
use redis::Commands as _;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 20) n;
";

/// `b_made` stands and sorts before `first`, but is made from it; `user` is filled by the application, from `b_made`.
fn config(port: u16, first: &str) -> String {
    format!(
        r#"{PATIENT}
[cache.b_made]
key = "made:{{id}}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.after = ["first"]
[cache.user]
key = "user:{{id}}"
warm.http = {{ url = "http://127.0.0.1:{port}/ok/{{id}}" }}
warm.after = ["b_made"]
[cache.first]
key = "first:{{id}}"
ttl = "10m"
warm.sql = "{first}"
[table.users]
evict = ["b_made", "user", "first"]
"#
    )
}

fn world(first: &str) -> (World, App) {
    let w = World::new(&Setup { schema: SCHEMA, ..Setup::default() });
    let app = App::start(redis_of(&w), 1, None);
    w.write_config(&config(app.port, first));
    w.apply();
    w.start();
    w.wait_position();
    (w, app)
}

fn cache(w: &World, keys: &[&str]) {
    for key in keys {
        let _: () = w.redis().set(key, "cached by the application").unwrap();
    }
}

/// What was warmed, in order.
fn warmed(w: &World) -> Vec<String> {
    let text = w.daemon(|d| d.log().tail(10_000));
    let lines = text.lines().filter(|l| l.contains("\"warm "));
    lines.filter_map(|l| Some(l.split("\"warm ").nth(1)?.split(" (").next()?.to_owned())).collect()
}

#[test]
fn what_is_made_from_another_cache_is_warmed_after_it() {
    let gated = format!(
        "SELECT name FROM {GATE} AS g(x), LATERAL (SELECT name FROM users WHERE id = :id AND x IS NOT NULL OFFSET 0) u"
    );
    let (w, app) = world(&gated);
    let gate = closed_gate(&w);
    cache(&w, &["made:1", "user:1", "first:1", "made:2", "user:2"]);
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id IN (1, 2)");
    wait_at_gate(&w, 1);
    // User 2 has nothing in the first cache, so nothing waits.
    w.wait_line(mark, &["warm made:2: stored"]);
    w.wait_line(mark, &["warm user:2: asked"]);
    assert_eq!(app.asked().len(), 1, "user 1 was asked for before what it is made from was there");
    assert_eq!(w.redis().get::<_, Option<String>>("made:1").unwrap(), None);
    open_gate(&gate);
    w.wait_line(mark, &["warm user:1: asked"]);
    let order: Vec<String> = warmed(&w).into_iter().filter(|l| l.contains(":1: ")).collect();
    assert_eq!(order, ["first:1: stored", "made:1: stored", "user:1: asked"]);
}

#[test]
fn nothing_waits_for_what_fails_or_was_not_there() {
    let (w, _app) = world("SELECT nonsense FROM users WHERE id = :id");
    let mark = w.mark();
    for id in 1..=10 {
        cache(&w, &[&format!("made:{id}"), &format!("user:{id}"), &format!("first:{id}")]);
    }
    cache(&w, &["made:11", "user:11"]);
    w.sql("UPDATE users SET name = 'new' WHERE id <= 11");
    w.wait_line(mark, &["warming of first rests"]);
    for id in 1..=11 {
        w.wait_line(mark, &[&format!("warm user:{id}: asked")]);
    }
}

#[test]
fn a_flush_keeps_the_order_too() {
    let (w, _app) = world("SELECT name FROM users WHERE id = :id");
    w.stop();
    let keys: Vec<String> = (1..=5).flat_map(|n| ["made", "user", "first"].map(|c| format!("{c}:{n}"))).collect();
    cache(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let _: () = w.redis().del("{pgevict}:position").unwrap();
    w.start();
    for id in 1..=5 {
        w.wait_line(0, &[&format!("warm user:{id}: asked")]);
        let of = format!(":{id}: ");
        let order: Vec<String> = warmed(&w).into_iter().filter(|l| l.contains(&of)).collect();
        assert_eq!(order, [format!("first:{id}: stored"), format!("made:{id}: stored"), format!("user:{id}: asked")]);
    }
}
