//! The snippets of docs/fills, as they stand there, against a running pgevict. Their client libraries come from the package
//! registries (tests/fills/clients); where these cannot be reached the tests fail and say so, for nothing was tested.

use crate::support::{Db, Setup, World};
use pgevict::cli::demo::process::{Process, Stream};
use std::process::Command;
use std::time::Duration;

#[path = "../../docs/fills/fills.rs"]
#[expect(unreachable_pub, reason = "an application has it in a crate of its own")]
mod in_rust;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SCHEMA: &str = r"
CREATE TABLE named (name text PRIMARY KEY, v int NOT NULL);
INSERT INTO named VALUES ('7', 1), ('x*[y]\?', 1);
";
const CONFIG: &str = r#"
[cache.named]
key = "named:{name}"
guard_fills = true
[cache.lists]
pattern = "lists:{name}:*"
guard_fills = true
[table.named]
evict = ["named", "lists"]
"#;
/// The registries may be slow; the scenarios take about two seconds.
const PATIENCE: Duration = Duration::from_secs(300);

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w
}

fn run(command: Command, what: &str) -> String {
    let mut process = Process::spawn(what, command, nix::sys::signal::Signal::SIGKILL, None).unwrap();
    let status = process.wait(PATIENCE);
    assert!(status.is_some_and(|s| s.success()), "{what}: {status:?}\n{}", process.log().tail(60));
    process.log().of(Stream::Out).join("\n")
}

fn scenario(language: &str, command: &[&str]) {
    let mut clients = Command::new(format!("{ROOT}/tests/fills/clients"));
    clients.arg(language);
    run(clients, "client libraries from the package registry (without them docs/fills is NOT tested)");
    let w = world();
    let modules = format!("{ROOT}/target/fills/{language}");
    let mut scenario = Command::new(command[0]);
    scenario.args(&command[1..]).current_dir(ROOT).env("SNIPPETS", format!("{ROOT}/docs/fills"));
    scenario.env("PYTHONPATH", &modules).env("PYTHONDONTWRITEBYTECODE", "1").env("MODULES", &modules);
    scenario.env("PG_URL", w.pg.url(&w.database)).env("REDIS_URL", w.redis.borrow().url(0));
    assert_eq!(run(scenario, language), "all of it");
}

#[test]
fn the_python_snippet_keeps_the_contract() {
    scenario("python", &["python3", "tests/fills/scenario.py"]);
}

#[test]
fn the_node_snippet_keeps_the_contract() {
    scenario("node", &["node", "tests/fills/scenario.mjs"]);
}

#[test]
fn the_rust_snippet_keeps_the_contract() {
    let w = world();
    let (fills, db) = (in_rust::Fills::new("{pgevict}"), w.connect());
    let mut redis = w.redis();
    let read = |db: &Db, name: &str| {
        let sql = format!("SELECT v, {} FROM named WHERE name = '{name}'", in_rust::TOKEN);
        let row = db.sql(&sql).remove(0);
        (row[0].clone().unwrap(), row[1].clone())
    };
    for name in ["7", r"x*[y]\?"] {
        let list = format!("lists:{}:*", in_rust::escape(name, false));
        let caches = [(format!("named:{name}"), ("named", None)), (format!("lists:{name}:a"), ("lists", Some(&*list)))];
        let mut store = |(value, token): &(String, Option<String>), word: &str| {
            for (key, cache) in &caches {
                let said = fills.store(&mut redis, key, value.as_bytes(), token.as_deref(), 60_000, &[*cache]);
                assert_eq!(said.unwrap(), word, "{key}");
            }
        };
        let before = read(&db, name);
        store(&before, "stored");
        w.sql(&format!("UPDATE named SET v = v + 1 WHERE name = '{name}'"));
        w.drain();
        store(&before, "evicted");
        store(&read(&db, name), "stored");
    }
    db.sql("BEGIN; UPDATE named SET v = 1000");
    assert_eq!(read(&db, "7"), ("1000".to_owned(), None));
    assert_eq!(in_rust::escape("a-b^c", true), r"a\-b\^c");
}
