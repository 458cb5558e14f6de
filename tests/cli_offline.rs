//! `test`, `explain` and `evict` as a user runs them: the binary, a file, and for `evict` a private Redis.

use pgevict::cli::demo::servers::Redis;
use redis::Commands as _;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
[postgres]
url = "postgresql://nobody@localhost:1/none"

[redis]
url = "REDIS"

[namespace]
prefix = "app:{version}:"
versions = ["v1", "v2"]

[limits]
never_delete = ["session:*", "app:v1:user_stats:9:*", "app:*:agent_card:9"]

[cache.user_dashboard]
key = "user_dashboard:{user_id}"

[cache.user_stats]
pattern = "user_stats:{user_id}:*"

[cache.agent_card]
key = "agent_card:{agent_id}"

[cache.day]
pattern = "day:{at|date}:{place|trim|lower}:*"

[cache.board]
key = "board"

[table.calls]
columns = ["user_id", "agent_id", "status"]
evict = [
  "user_dashboard",
  { cache = "user_stats", columns = ["status"] },
  { cache = "agent_card", ops = ["insert", "delete"] },
]

[table.lead_analytics]
evict = ["user_dashboard"]
lookup.user_id = { follow = "call_id", to = "calls", take = "user_id" }

[table.agents]
mode = "observe"
evict = [{ cache = "agent_card", with = { agent_id = "id" } }]
when = { status = ["active", "retired"] }

[table."shop.Order Lines"]
evict = ["day"]
"#;

const TESTS: &str = r#"
[[test]]
name = "a call that moves evicts both users"
table = "calls"
old = { user_id = 7, agent_id = 3, status = "x" }
new = { user_id = 8, agent_id = 3, status = "x" }
expect = ["user_dashboard:7", "user_dashboard:8", "user_stats:7:*", "user_stats:8:*"]

[[test]]
name = "a value with wildcards stays a value, however it is escaped"
table = "calls"
new = { user_id = "a*[1]-x", agent_id = 3, status = "x" }
expect = ['user_stats:a\*\[1]\-x:*', "user_dashboard:a*[1]-x", "agent_card:3"]

[[test]]
name = "truncate takes whole forms"
table = "agents"
truncate = true
expect = ["agent_card:*"]
"#;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

fn pgevict(config: &str, args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config).unwrap();
    run(&file, args)
}

fn run(file: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgevict"));
    // What the developer has set must not reach it.
    command.env_clear().arg("-c").arg(file).args(args).stdin(std::process::Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn offline() -> String {
    CONFIG.replace("REDIS", "redis://localhost:1/0")
}

fn explain(args: &[&str]) -> Ran {
    pgevict(&offline(), &[&["explain"], args].concat())
}

#[test]
fn explain_prints_one_sorted_line_a_key_with_its_reason() {
    let ran = explain(&["calls", "--old", r#"{"user_id":7,"status":"x"}"#, "--new", r#"{"user_id":8,"status":"x"}"#]);
    let ran = ran.exits(0);
    assert_eq!(
        ran.lines(),
        [
            "app:v1:user_dashboard:7  # user_dashboard user_id=7 (old); through lead_analytics: user_id=7 (old)",
            "app:v1:user_dashboard:8  # user_dashboard user_id=8 (new); through lead_analytics: user_id=8 (new)",
            "app:v1:user_stats:7:*    # user_stats user_id=7 (old)",
            "app:v1:user_stats:8:*    # user_stats user_id=8 (new)",
            "app:v2:user_dashboard:7  # user_dashboard user_id=7 (old); through lead_analytics: user_id=7 (old)",
            "app:v2:user_dashboard:8  # user_dashboard user_id=8 (new); through lead_analytics: user_id=8 (new)",
            "app:v2:user_stats:7:*    # user_stats user_id=7 (old)",
            "app:v2:user_stats:8:*    # user_stats user_id=8 (new)",
        ]
    );
    assert!(ran.err.contains("not concerned agent_card: by its `ops`"), "{}", ran.err);
}

#[test]
fn explain_says_in_json_what_goes_what_is_skipped_and_what_is_not_concerned() {
    let row = r#"{"user_id": 9, "agent_id": null, "status": true}"#;
    let ran = explain(&["calls", "--new", row, "-o", "json"]).exits(0);
    let said = ran.json();
    assert_eq!(said["op"], "insert");
    let keys: Vec<_> = said["evict"].as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["app:v1:user_dashboard:9", "app:v2:user_dashboard:9", "app:v2:user_stats:9:*"]);
    assert_eq!(
        said["evict"][2],
        json!({"cache": "user_stats", "version": "v2", "kind": "pattern", "key": "app:v2:user_stats:9:*",
            "reasons": ["user_id=9 (new)"]})
    );
    assert_eq!(
        said["skipped"],
        json!([
            {"cache": "agent_card", "reason": "null", "hole": "agent_id", "image": "new"},
            {"cache": "user_stats", "reason": "never_delete", "kind": "pattern", "key": "app:v1:user_stats:9:*"},
        ])
    );
    let update = r#"{"user_id": 9, "agent_id": 1}"#;
    let quiet = explain(&["calls", "--old", update, "--new", update, "-o", "json"]).exits(0).json();
    assert_eq!((&quiet["evict"], &quiet["skipped"]), (&json!([]), &json!([])));
    assert_eq!(quiet["unaffected"][0], json!({"cache": "agent_card", "reason": "ops", "via": null}));
    assert_eq!(
        quiet["unaffected"][2],
        json!({"cache": "user_dashboard", "reason": "columns", "via": "lead_analytics"})
    );
}

#[test]
fn explain_shows_truncate_and_lookups_and_quoted_tables() {
    let keys = |args: &[&str]| -> Vec<String> {
        let evict = explain(&[args, &["-o", "json"]].concat()).exits(0).json()["evict"].clone();
        evict.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&["agents", "--truncate"]), ["app:v1:agent_card:*", "app:v2:agent_card:*"]);
    assert_eq!(
        keys(&["lead_analytics", "--new", r#"{"user_id":"7"}"#]),
        ["app:v1:user_dashboard:7", "app:v2:user_dashboard:7"]
    );
    let line = r#"{"at":"2026-11-20 23:30:00.5+00","place":" Köln*"}"#;
    assert_eq!(
        keys(&["shop.Order Lines", "--old", line]),
        ["app:v1:day:2026-11-20:köln\\*:*", "app:v2:day:2026-11-20:köln\\*:*"]
    );
}

#[test]
fn explain_warns_where_the_mode_deletes_nothing() {
    let ran = explain(&["agents", "--new", r#"{"id":3,"status":"active"}"#]).exits(0);
    assert_eq!(ran.lines().len(), 2);
    assert!(ran.err.contains("the mode of agents is observe: nothing is deleted"), "{}", ran.err);
}

#[test]
fn explain_names_what_is_missing_or_misspelt() {
    for (args, said) in [
        (&["callz", "--new", "{}"][..], "no table `callz` is watched: did you mean `calls`?"),
        (&["calls"], "give --old, --new or both, or --truncate"),
        (&["calls", "--new", "{}"], "the new row of calls lacks `user_id`, a hole of cache user_dashboard"),
        (&["calls", "--new", "7"], "--new is not a JSON object"),
        (&["calls", "--new", r#"{"user_id":[7]}"#], "`user_id` is nested"),
        (&["agents", "--new", r#"{"id":7}"#], "lacks `status`, which `when` tests for cache agent_card"),
        (
            &["lead_analytics", "--new", r#"{"call_id":7}"#],
            "lacks `user_id`, which cache user_dashboard gets through a lookup",
        ),
        (&["calls", "--truncate", "--new", "{}"], "cannot be used with"),
    ] {
        let ran = explain(args).exits(2);
        assert!(ran.err.contains(said), "{args:?}:\n{}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn tests_that_hold_pass_and_are_counted() {
    let ran = pgevict(&(offline() + TESTS), &["test"]).exits(0);
    assert_eq!(ran.lines()[0], "ok      a call that moves evicts both users");
    assert_eq!(ran.lines().last(), Some(&"3 of 3 tests passed"));
    let one = pgevict(&(offline() + TESTS), &["test", "wildcards", "-o", "json"]).exits(0).json();
    assert_eq!((&one["passed"], &one["failed"], &one["tests"][1]), (&json!(1), &json!(0), &Value::Null));
}

#[test]
fn a_test_that_fails_says_what_is_missing_what_is_unexpected_and_where() {
    let tests = TESTS.replace(r#""user_stats:8:*"]"#, r#""user_stats:88:*"]"#);
    let config = offline() + &tests;
    let line = 1 + config.lines().position(|l| l == "[[test]]").unwrap();
    let ran = pgevict(&config, &["test"]).exits(1);
    let failed = ran.lines()[0];
    assert!(failed.starts_with("FAILED  a call that moves evicts both users"), "{failed}");
    assert!(failed.ends_with(&format!("config.toml:{line})")), "{failed}");
    assert_eq!(ran.lines()[1..3], ["          missing     user_stats:88:*", "          unexpected  user_stats:8:*"]);
    assert_eq!(ran.lines().last(), Some(&"2 of 3 tests passed"));
    let said = pgevict(&config, &["test", "-o", "json"]).exits(1).json();
    assert_eq!((&said["passed"], &said["failed"]), (&json!(2), &json!(1)));
    let first = &said["tests"][0];
    assert_eq!(
        (&first["ok"], &first["missing"], &first["unexpected"], &first["line"]),
        (&json!(false), &json!(["user_stats:88:*"]), &json!(["user_stats:8:*"]), &json!(line))
    );
}

#[test]
fn a_test_whose_rows_lack_a_hole_fails_and_names_it() {
    let config =
        offline() + "[[test]]\nname = \"incomplete\"\ntable = \"calls\"\nnew = { status = \"x\" }\nexpect = []\n";
    let ran = pgevict(&config, &["test"]).exits(1);
    assert!(ran.out.contains("the new row of calls lacks `user_id`, a hole of cache user_dashboard"), "{}", ran.out);
}

#[test]
fn no_tests_is_no_failure() {
    let ran = pgevict(&offline(), &["test"]).exits(0);
    assert!(ran.out.contains("has no [[test]]"), "{}", ran.out);
    assert_eq!(pgevict(&offline(), &["test", "-o", "json"]).exits(0).json()["tests"], json!([]));
}

#[test]
fn a_broken_file_ends_every_command_with_78() {
    for args in [&["test"][..], &["explain", "calls", "--truncate"], &["evict", "board"]] {
        pgevict("nonsense = 1\n", args).exits(78);
    }
}

#[test]
fn the_examples_of_the_manual_are_one_configuration_whose_tests_pass() {
    let manual = include_str!("../docs/templates.md");
    let examples: String = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let servers = "[postgres]\nurl = \"postgresql://localhost/app\"\n[redis]\nurl = \"redis://localhost\"\n";
    let ran = pgevict(&format!("{servers}{examples}"), &["test"]).exits(0);
    assert_eq!(ran.lines().last(), Some(&"1 of 1 tests passed"));
}

/// A private Redis with these keys, and a configuration for it.
struct Room {
    server: Redis,
    folder: tempfile::TempDir,
}

impl Room {
    fn with(keys: &[&str]) -> Self {
        let room = Self { server: Redis::start(&[]).unwrap(), folder: tempfile::tempdir().unwrap() };
        std::fs::write(room.folder.path().join("config.toml"), CONFIG.replace("REDIS", &room.server.url(0))).unwrap();
        let mut connection = room.connect();
        keys.iter().for_each(|key| connection.set(*key, "1").unwrap());
        room
    }

    fn connect(&self) -> redis::Connection {
        redis::Client::open(self.server.url(0)).unwrap().get_connection().unwrap()
    }

    fn evict(&self, args: &[&str]) -> Ran {
        run(&self.folder.path().join("config.toml"), &[&["evict"], args].concat())
    }

    /// Deleted, absent, refused.
    #[track_caller]
    fn counts(&self, args: &[&str], code: i32) -> (u64, u64, u64) {
        let said = self.evict(&[args, &["-o", "json"]].concat()).exits(code).json();
        let count = |name: &str| said[name].as_u64().unwrap();
        (count("deleted"), count("absent"), count("refused"))
    }

    fn left(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.connect().keys("*").unwrap();
        keys.sort();
        keys
    }
}

#[test]
fn evict_takes_a_cache_in_all_versions() {
    let room = Room::with(&[
        "app:v1:user_dashboard:7",
        "app:v2:user_dashboard:7",
        "app:v2:user_dashboard:8",
        "app:v1:user_stats:7:a",
        "app:v2:user_stats:7:b",
        "app:v2:user_stats:77:b",
        "app:v1:board",
    ]);
    assert_eq!(room.counts(&["user_dashboard", "user_id=7"], 0), (2, 0, 0));
    assert_eq!(room.counts(&["user_dashboard", "user_id=7"], 0), (0, 2, 0), "nothing there is no failure");
    assert_eq!(room.counts(&["user_stats", "user_id=7"], 0), (2, 0, 0));
    assert_eq!(room.counts(&["user_stats", "user_id=*"], 0), (0, 2, 0), "a value is no wildcard");
    assert_eq!(room.counts(&["board"], 0), (1, 1, 0));
    assert_eq!(room.left(), ["app:v2:user_dashboard:8", "app:v2:user_stats:77:b"]);
    assert_eq!(room.evict(&["board"]).exits(0).out, "0 deleted, 2 absent, 0 refused\n");
}

#[test]
fn evict_runs_values_through_the_filters() {
    let room = Room::with(&["app:v1:day:2026-11-20:köln:a", "app:v1:day:2026-11-21:köln:a"]);
    assert_eq!(room.counts(&["day", "at=2026-11-20 23:00:00+00", "place= Köln "], 0), (1, 1, 0));
    let ran = room.evict(&["day", "at=yesterday", "place=x"]).exits(2);
    assert!(ran.err.contains("at=yesterday is not a day, such as 2026-11-20"), "{}", ran.err);
    assert_eq!(room.left(), ["app:v1:day:2026-11-21:köln:a"]);
}

#[test]
fn evict_speaks_full_keys_and_patterns_too() {
    let room = Room::with(&["app:v1:board", "other", "x:1", "x:2", "y:1"]);
    assert_eq!(room.counts(&["--key", "other", "--key", "nothing", "--key", "other"], 0), (1, 1, 0));
    let ran = room.evict(&["--pattern", "x:*", "--pattern", "?none"]).exits(3);
    assert!(ran.err.contains("the pattern `?none` begins with a wildcard"), "{}", ran.err);
    assert_eq!(room.counts(&["--pattern", "x:*", "--pattern", "z*"], 0), (2, 1, 0));
    assert_eq!(room.counts(&["--pattern", "*", "--yes"], 0), (2, 0, 0));
}

#[test]
fn what_is_exempt_is_kept_by_hand_too() {
    let keys = ["session:1", "session:2", "{pgevict}:position", "app:v1:agent_card:9", "app:v1:user_stats:9:a", "free"];
    let room = Room::with(&keys);
    let ran = room.evict(&["--key", "session:1"]).exits(3);
    assert!(ran.err.contains("refused session:1: never_delete"), "{}", ran.err);
    assert_eq!(room.counts(&["--key", "{pgevict}:position"], 3), (0, 0, 1));
    assert_eq!(room.counts(&["--pattern", "session:*"], 3), (0, 0, 1), "a pattern that is exempt as a whole");
    assert_eq!(room.counts(&["--pattern", "se*"], 3), (0, 0, 2), "a pattern that finds nothing else");
    assert_eq!(room.counts(&["agent_card", "agent_id=9"], 3), (0, 0, 2));
    assert_eq!(room.counts(&["user_stats", "user_id=9"], 3), (0, 1, 1));
    assert_eq!(room.left().len(), keys.len());
    assert_eq!(room.counts(&["--pattern", "*", "--yes"], 0), (1, 0, 5));
    assert_eq!(room.left().len(), keys.len() - 1);
}

#[test]
fn what_reaches_far_wants_a_yes() {
    let room = Room::with(&["app:v1:user_dashboard:7", "app:v1:user_dashboard:8"]);
    let ran = room.evict(&["user_dashboard", "--all"]).exits(3);
    assert!(
        ran.err.contains("--all deletes everything that cache `user_dashboard` can hold; confirm with --yes"),
        "{}",
        ran.err
    );
    room.evict(&["--pattern", "[a]*"]).exits(3);
    assert_eq!(room.left().len(), 2);
    assert_eq!(room.counts(&["user_dashboard", "--all", "--yes"], 0), (2, 1, 0));
}

#[test]
fn a_dry_run_deletes_nothing() {
    let room = Room::with(&["app:v1:user_dashboard:7", "session:1", "x:1"]);
    let said = room.evict(&["--pattern", "*", "--dry-run", "-o", "json"]).exits(0).json();
    assert_eq!(said, json!({"deleted": 0, "absent": 0, "refused": 1, "dry_run": true, "would_delete": 2}));
    assert_eq!(
        room.evict(&["user_dashboard", "user_id=7", "--dry-run"]).exits(0).out,
        "1 would be deleted, 1 absent, 0 refused\n"
    );
    assert_eq!(room.left().len(), 3);
}

#[test]
fn a_pattern_that_matches_thousands_goes_in_slices() {
    let room = Room::with(&[]);
    let mut fill = redis::pipe();
    (0..5_000).for_each(|i| _ = fill.set(format!("many:{i}"), 1).ignore());
    fill.exec(&mut room.connect()).unwrap();
    assert_eq!(room.counts(&["--pattern", "many:*"], 0), (5_000, 0, 0));
    assert_eq!(room.left(), Vec::<String>::new());
}

#[test]
fn evict_names_what_is_missing_or_misspelt() {
    for (args, said) in [
        (&["user_dashbord", "user_id=7"][..], "no cache `user_dashbord`: did you mean `user_dashboard`?"),
        (&["user_dashboard"], "cache `user_dashboard` needs a value for `user_id`: give user_id=VALUE, or --all"),
        (&["user_dashboard", "userid=7"], "has no hole `userid`: did you mean `user_id`?"),
        (&["user_dashboard", "7"], "`7` is not of the form NAME=VALUE"),
        (&["user_dashboard", "user_id=7", "user_id=8"], "`user_id` is given twice"),
        (&["board", "x=1"], "cache `board` has no holes: give no values"),
        (&["--pattern", ""], "the pattern is empty"),
        (&[], "required"),
        (&["board", "--key", "x"], "cannot be used with"),
        (&["user_dashboard", "user_id=7", "--all"], "cannot be used with"),
    ] {
        let ran = pgevict(&offline(), &[&["evict"], args].concat()).exits(2);
        assert!(ran.err.contains(said), "{args:?}:\n{}", ran.err);
    }
}

#[test]
fn evict_says_that_redis_cannot_be_reached() {
    let ran = pgevict(&offline(), &["evict", "user_dashboard", "user_id=7"]).exits(4);
    assert!(ran.err.contains("cannot use Redis at redis://localhost:1/0"), "{}", ran.err);
    pgevict(&offline(), &["evict", "--key", "session:1"]).exits(3);
}
