//! Keys that nothing evicted: `pgevict warm`, and what is filled when the daemon starts.

use crate::support::{Setup, World};
use redis::Commands as _;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 50) n;
";

const CONFIG: &str = r#"
[namespace]
prefix = "app:{version}:"
versions = ["v1", "v2"]
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.startup.sql = "SELECT id FROM users WHERE id <= 10 OR id IS NULL"
[cache.plain]
key = "plain:{id}"
[cache.alone]
key = "alone:{id}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
[table.users]
evict = ["user", "plain", "alone"]
"#;

fn setup() -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, prefix: "app:v2:", ..Setup::default() }
}

fn users(w: &World) -> Vec<String> {
    let mut keys: Vec<String> = w.redis().keys("app:*user:*").unwrap();
    keys.sort();
    keys
}

fn get(w: &World, key: &str) -> Option<String> {
    w.redis().get(key).unwrap()
}

#[test]
fn by_hand_one_key_is_filled_or_all_that_the_startup_query_names() {
    let mut w = World::running(&setup());
    w.wait_position();
    let ran = w.pgevict(&["warm", "user", "id=7"]).exits(0);
    assert_eq!((ran.out.trim(), ran.err.trim()), ("1 stored", "app:v2:user:7: stored"));
    assert_eq!(get(&w, "app:v2:user:7").as_deref(), Some("name 7"));
    assert_eq!(w.pgevict(&["warm", "user", "id=77", "-o", "json"]).exits(0).json()["empty"], 1);
    let json = w.pgevict(&["warm", "user", "--all", "--dry-run", "-o", "json"]).exits(0).json();
    assert_eq!((json["dry_run"].as_bool(), json["would_warm"].as_array().map(Vec::len)), (Some(true), Some(10)));
    assert_eq!(users(&w), ["app:v2:user:7"], "a dry run fills nothing");
    let json = w.pgevict(&["warm", "user", "--all", "-o", "json"]).exits(0).json();
    assert_eq!((&json["stored"], &json["present"], &json["failed"]), (&9.into(), &1.into(), &0.into()));
    assert_eq!(users(&w).len(), 10);
    let _: () = w.redis().set("app:v2:user:7", "by the application").unwrap();
    assert_eq!(w.pgevict(&["warm", "user", "--all", "--force"]).exits(0).out.trim(), "10 stored");
    assert_eq!(get(&w, "app:v2:user:7").as_deref(), Some("name 7"));

    for (args, says) in [
        (&["warm", "usr", "id=7"][..], "did you mean `user`?"),
        (&["warm", "user", "ids=7"], "did you mean `id`?"),
        (&["warm", "user"], "needs a value for `id`"),
        (&["warm", "plain", "id=7"], "has no `warm`"),
        (&["warm", "alone", "--all"], "`warm.startup.sql`"),
    ] {
        let ran = w.pgevict(args).exits(2);
        assert!(ran.err.contains(says), "{ran:?}");
    }

    // Without a daemon: what it guarded it will go on from, so that a change behind the value still evicts it.
    w.stop();
    w.sql("UPDATE users SET name = 'new' WHERE id = 7");
    w.pgevict(&["warm", "user", "id=7"]).exits(0);
    assert_eq!(get(&w, "app:v2:user:7").as_deref(), Some("new"));
    w.start();
    w.drain();
    let value = get(&w, "app:v2:user:7");
    assert!(value.as_deref().is_none_or(|v| v == "new"), "{value:?}");

    w.sql("ALTER TABLE users RENAME name TO called");
    let ran = w.pgevict(&["warm", "user", "id=7"]).exits(1);
    assert!(ran.err.contains("42703") && ran.out.contains("1 failed"), "{ran:?}");
    w.set_env("PGEVICT_REDIS__URL", "redis://127.0.0.1:1/0");
    w.pgevict(&["warm", "user", "id=7"]).exits(4);
}

#[test]
fn a_warm_up_that_was_interrupted_goes_on_where_it_was() {
    let config = CONFIG.replace("id <= 10 OR id IS NULL", "true") + "[warm]\nmax_per_second = 5\nconcurrency = 1\n";
    let w = World::running(&Setup { config: &config, ..setup() });
    w.wait_position();
    let path = w.config_path();
    let mut hand = crate::support::pgevict(&["warm", "user", "--all", "-c", path.to_str().unwrap()], &w.env)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Seven seconds before the last one is there: it is killed in time on any machine.
    w.wait_keys("a dozen users", |redis| redis.keys::<_, Vec<String>>("app:v2:user:*").is_ok_and(|k| k.len() >= 12));
    hand.kill().unwrap();
    hand.wait().unwrap();
    let before = users(&w).len();
    assert!((12..50).contains(&before), "{before} of 50 were filled before it was killed");
    // The last one may have been stored after they were counted.
    let json = w.pgevict(&["warm", "user", "--all", "-o", "json"]).exits(0).json();
    let of = |name: &str| json[name].as_u64().unwrap();
    assert_eq!(of("stored") + of("present"), 50);
    assert!((before as u64..=before as u64 + 1).contains(&of("present")), "{json} after {before} keys");
    assert_eq!(users(&w).len(), 50);
}

#[test]
fn where_nothing_was_ever_guarded_nothing_is_stored() {
    let w = World::new(&setup());
    w.apply();
    let ran = w.pgevict(&["warm", "user", "id=7"]).exits(1);
    assert!(ran.err.contains("app:v2:user:7: refused: no-token"), "{ran:?}");
    assert_eq!(get(&w, "app:v2:user:7"), None);
}

#[test]
fn the_start_of_the_daemon_fills_what_is_absent_and_no_eviction_does_unless_it_is_asked_to() {
    let config = CONFIG.replacen("warm.startup", "warm.on = [\"startup\"]\nwarm.startup", 1);
    let w = World::new(&Setup { config: &config, ..setup() });
    w.apply();
    w.start();
    w.wait_keys("ten users", |redis| redis.keys::<_, Vec<String>>("app:v2:user:*").is_ok_and(|k| k.len() == 10));
    w.wait_position();
    let _: () = w.redis().set("app:v2:user:3", "by the application").unwrap();
    w.sql("UPDATE users SET name = 'new' WHERE id = 4");
    w.wait_gone(&["app:v2:user:4"]);
    w.drain();
    assert_eq!(get(&w, "app:v2:user:4"), None, "evictions are not among `on`");
    w.restart();
    w.wait_keys("user 4 to be back", |redis| {
        redis.get::<_, Option<String>>("app:v2:user:4").is_ok_and(|v| v.as_deref() == Some("new"))
    });
    assert_eq!(get(&w, "app:v2:user:3").as_deref(), Some("by the application"), "it was there");
}

#[test]
fn over_the_socket_an_entry_is_queued_and_read_anew() {
    let w = World::running(&setup());
    w.wait_position();
    let ask = |target: &str| crate::commands::request(&w.config_path().with_file_name("admin.sock"), "POST", target);
    let _: () = w.redis().set("app:v2:user:7", "by the application").unwrap();
    let answer = ask("/warm/user?id=7");
    assert!(answer.starts_with("HTTP/1.1 202") && answer.ends_with(r#"{"key":"app:v2:user:7"}"#), "{answer}");
    w.wait_keys("the key read anew", |r| r.get::<_, String>("app:v2:user:7").unwrap() == "name 7");
    for (target, code, why) in [
        ("/warm/usr?id=7", 404, "there is no cache `usr`"),
        ("/warm/plain?id=7", 404, "has no `warm`"),
        ("/warm/user", 404, "needs a value for `id`"),
        ("/warm/user?id=7&other=1", 404, "has no hole `other`"),
    ] {
        let answer = ask(target);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains(why), "{target}: {answer}");
    }
    w.pgevict(&["pause", "--warming"]).exits(0);
    let answer = ask("/warm/user?id=8");
    assert!(answer.starts_with("HTTP/1.1 409") && answer.ends_with("warming is paused"), "{answer}");
}
