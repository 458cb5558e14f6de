//! What the commands say is what happens.

use crate::support::{Daemon, Setup, World};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

const SCHEMA: &str =
    "CREATE TABLE users (id int PRIMARY KEY, team text, name text); INSERT INTO users VALUES (1, 'Red', 'a')";
const CONFIG: &str = r#"
[namespace]
prefix = "app:"
[cache.user]
key = "user:{id}"
[cache.team]
pattern = "team:{team|lower}:*"
[table.users]
evict = ["user", "team"]
"#;
const CHANGE: &str = "UPDATE users SET team = 'Blue' WHERE id = 1";

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, prefix: "app:", ..Setup::default() });
    w.fill(&["app:user:1", "app:team:red:a", "app:team:blue:a", "app:team:green:a", "user:1"]);
    w
}

/// A request to the admin socket.
pub(crate) fn ask(socket: &Path, target: &str) -> String {
    request(socket, "GET", target)
}

pub(crate) fn request(socket: &Path, method: &str, target: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn explain_names_what_the_daemon_deletes() {
    let w = world();
    let old = r#"{"id": 1, "team": "Red", "name": "a"}"#;
    let new = r#"{"id": 1, "team": "Blue", "name": "a"}"#;
    let explained = w.pgevict(&["explain", "users", "--old", old, "--new", new, "-o", "json"]).exits(0).json();
    let named: BTreeSet<&str> =
        explained["evict"].as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    let expected = ["app:user:1", "app:team:red:*", "app:team:blue:*"];
    assert_eq!(named, expected.into(), "{explained}");
    w.check(CHANGE, &["app:user:1", "app:team:red:a", "app:team:blue:a"]);
}

#[test]
fn tail_shows_an_eviction_as_it_happens() {
    let w = world();
    let config = w.config_path();
    let tail = Daemon::spawn(&["tail", "-o", "json", "-c", config.to_str().unwrap()], &w.env);
    // It says nothing when it begins to listen: changes are made until one of them is heard.
    let heard = (0..200).find_map(|n| {
        w.sql(&format!("UPDATE users SET name = 'n{n}' WHERE id = 1"));
        tail.line_within(std::time::Duration::from_millis(200), &["\"table\":\"users\""])
    });
    let event: serde_json::Value = serde_json::from_str(&heard.expect("tail hears nothing")).unwrap();
    let keys: Vec<&str> = event["keys"].as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap()).collect();
    assert_eq!((event["op"].as_str(), keys), (Some("update"), vec!["app:team:red:*", "app:user:1"]), "{event}");
}

#[test]
fn metrics_count_deleted_and_absent_keys_apart() {
    let w = world();
    let socket = w.config_path().with_file_name("admin.sock");
    w.check(CHANGE, &["app:user:1", "app:team:red:a", "app:team:blue:a"]);
    redis::cmd("DEL").arg("app:user:1").exec(&mut w.redis()).unwrap();
    w.sql("UPDATE users SET name = 'gone' WHERE id = 1");
    w.drain();
    let metrics = ask(&socket, "/metrics");
    let series = |outcome: &str| {
        let line = metrics.lines().find(|l| {
            l.starts_with("pgevict_keys_total")
                && l.contains("cache=\"user\"")
                && l.contains(&format!("outcome=\"{outcome}\""))
        });
        line.and_then(|l| l.rsplit(' ').next()).and_then(|v| v.parse::<f64>().ok())
    };
    assert_eq!((series("deleted"), series("absent")), (Some(1.0), Some(1.0)), "{metrics}");
    assert!(ask(&socket, "/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn sql_diff_sees_what_somebody_removed() {
    let w = world();
    w.pgevict(&["sql", "diff"]).exits(0);
    let trigger =
        w.value("SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal LIMIT 1");
    w.sql(&format!("DROP TRIGGER \"{trigger}\" ON users"));
    let ran = w.pgevict(&["sql", "diff"]).exits(1);
    assert!(ran.out.contains("users"), "{ran:?}");
    w.apply();
    w.pgevict(&["sql", "diff"]).exits(0);
}

/// What `sql up` prints, fed to psql-like clients twice, changes nothing the second time; what `sql down` prints leaves
/// the schema as it was, by `pg_dump`'s own account.
#[test]
fn down_leaves_the_dump_as_it_was_before_up() {
    let w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    let pg_dump = pgevict::cli::demo::servers::find_postgres().unwrap().join("pg_dump");
    if !pg_dump.exists() {
        // The packages of the matrix bring the server alone; the catalog's account is in tests/capture/install.rs.
        eprintln!("{} is not there", pg_dump.display());
        return;
    }
    let dump = || {
        let url = w.pg.url(&w.database);
        let out = std::process::Command::new(&pg_dump).args(["--schema-only", "--dbname", &url]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        // \restrict and \unrestrict carry a random key.
        text.lines().filter(|l| !l.starts_with('\\')).collect::<Vec<_>>().join("\n")
    };
    let before = dump();
    let up = w.pgevict(&["sql", "up"]).exits(0).out;
    w.sql(&up);
    let installed = dump();
    assert!(installed.contains("zz_pgevict_u") && installed.contains("CREATE TABLE pgevict.journal"));
    w.sql(&up);
    assert_eq!(dump(), installed);
    w.sql(&w.pgevict(&["sql", "down"]).exits(0).out);
    assert_eq!(dump(), before);
}
