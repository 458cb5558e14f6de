//! `pgevict sql` as people and migration tools use it.

use crate::support::*;
use std::process::{Command, Output, Stdio};

const CONFIG: &str = "[postgres]\nurl = \"postgresql://pgevict@localhost/app\"\n[redis]\nurl = \"redis://localhost/0\"\n\
    [cache.user]\nkey = \"u:{user_id}\"\n[table.calls]\nevict = [\"user\"]\n\
    [table.notes]\nevict = [\"user\"]\nlookup.user_id = { follow = \"call_id\", to = \"calls\", take = \"user_id\" }\n";

struct Cli {
    world: World,
    folder: tempfile::TempDir,
}

impl Cli {
    fn new() -> Self {
        let world = World::bare(
            "CREATE TABLE calls (id int PRIMARY KEY, user_id int); CREATE TABLE notes (call_id int)",
            config(&[], Vec::new()),
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
        Self { world, folder }
    }

    fn run_at(&self, url: &str, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_pgevict"))
            .arg("sql")
            .args(args)
            .args(["-c".as_ref(), self.folder.path().join("config.toml").as_os_str()])
            .env("PGEVICT_POSTGRES__URL", url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_at(&self.world.url, args)
    }
}

#[test]
fn up_installs_diff_agrees_down_removes() {
    let c = Cli::new();
    let (code, drift, _) = c.run(&["diff"]);
    assert!(code == 1 && drift.contains("\"pgevict\".journal is missing"), "{drift}");
    let (code, up, errors) = c.run(&["up"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    // The whole file as one text, as a migration tool sends it.
    c.world.sql(&up);
    c.world.sql(&format!("BEGIN; {up} COMMIT"));
    let (code, drift, _) = c.run(&["diff", "-o", "json"]);
    assert_eq!((code, drift.as_str()), (0, "{\"drift\":[]}\n"));
    // Once for its own edge, once as the parent of a lookup.
    c.world.check("INSERT INTO calls VALUES (1, 7)", &["calls i r [0,7 1,7]"]);
    c.world.check("INSERT INTO notes VALUES (1)", &["notes i r [0,7]"]);
    let (code, down, _) = c.run(&["down"]);
    assert_eq!(code, 0);
    c.world.sql(&down);
    assert_eq!(c.run(&["diff"]).0, 1);
}

#[test]
fn apply_asks_and_without_a_terminal_refuses() {
    let c = Cli::new();
    let (code, _, errors) = c.run(&["apply"]);
    assert!(code == 3 && errors.contains("--yes"), "{code} {errors}");
    assert_eq!(c.run(&["diff"]).0, 1, "nothing was applied");
    let (code, out, _) = c.run(&["apply", "--yes"]);
    assert!(code == 0 && out.starts_with("done:"), "{out}");
    let (code, out, _) = c.run(&["apply"]);
    assert_eq!((code, out.as_str()), (0, "nothing to do: the database has everything\n"));
    c.world.sql("ALTER TABLE notes RENAME call_id TO call");
    let (code, _, errors) = c.run(&["apply", "--yes"]);
    assert!(code == 1 && errors.contains("has no column call_id") && errors.contains("help:"), "{errors}");
}

#[test]
fn who_applies_with_a_url_of_its_own_grants_the_daemon_its_rights() {
    let c = Cli::new();
    // A schema that the daemon's role has no right on: it needs none.
    c.world.sql("CREATE SCHEMA \"Back Office\"; CREATE TABLE \"Back Office\".ledger (user_id int)");
    let text = format!("{CONFIG}[table.\"Back Office.ledger\"]\nevict = [\"user\"]\n");
    std::fs::write(c.folder.path().join("config.toml"), text).unwrap();
    // Roles belong to the server, which other tests share.
    let role = format!("daemon_{}", std::process::id());
    c.world.sql(&format!("CREATE ROLE {role} LOGIN"));
    let (server, _) = c.world.url.split_once("://").map(|(_, rest)| rest).unwrap().split_once('/').unwrap();
    let (_, host) = server.rsplit_once('@').unwrap();
    let database = c.world.url.rsplit_once('/').unwrap().1;
    let daemon = format!("postgresql://{role}@{host}/{database}");
    let (code, up, errors) = c.run_at(&daemon, &["up"]);
    assert_eq!((code, errors.as_str()), (0, ""), "the daemon's role may print the migration");
    assert!(up.contains("\"Back Office\""), "{up}");
    let (code, _, errors) = c.run_at(&daemon, &["apply", "--yes"]);
    assert!(code == 1 && errors.contains("--as"), "{code} {errors}");
    let (code, _, errors) = c.run_at(&daemon, &["apply", "--yes", "--as", &c.world.url]);
    assert_eq!(code, 0, "{errors}");
    let may = format!("SELECT has_table_privilege('{role}', 'pgevict.journal', 'SELECT')");
    assert_eq!(c.world.db.text(&may).unwrap(), "t");
    assert_eq!(c.run_at(&daemon, &["diff"]).0, 0, "the daemon's role may look");
    assert_eq!(c.run_at(&daemon, &["diff", "--as", "http://nowhere"]).0, 2);
    c.world.sql(&c.run_at(&daemon, &["down"]).1);
    c.world.sql(&format!("DROP ROLE {role}"));
}

#[test]
fn apply_refuses_where_a_publication_has_all_tables() {
    let c = Cli::new();
    c.world.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    let (code, _, errors) = c.run(&["apply", "--yes"]);
    assert!(code == 3 && errors.contains("everything") && errors.contains("help:"), "{code} {errors}");
}

#[test]
fn a_lock_that_somebody_holds_is_waited_for() {
    let c = Cli::new();
    let other = c.world.connect();
    other.sql("BEGIN; INSERT INTO calls VALUES (5, 5)");
    std::thread::scope(|s| {
        let apply = s.spawn(|| c.run(&["apply", "--yes"]));
        // Until the migration waits for the table.
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'calls'::regclass";
        while c.world.db.text(waits).unwrap() == "0" {
            assert!(!apply.is_finished(), "it did not wait");
        }
        other.sql("COMMIT");
        let (code, _, errors) = apply.join().unwrap();
        assert_eq!(code, 0, "{errors}");
    });
    assert_eq!(c.run(&["diff"]).0, 0);
}

#[test]
fn without_a_database_up_prints_what_needs_none_and_else_exits_4() {
    let c = Cli::new();
    let nowhere = "postgresql://pgevict@127.0.0.1:1/app?connect_timeout=2";
    assert_eq!(c.run_at(nowhere, &["up"]).0, 4);
    assert_eq!(c.run_at(nowhere, &["diff"]).0, 4);
    assert_eq!(c.run_at(nowhere, &["apply", "--yes"]).0, 4);
    assert_eq!(c.run_at(nowhere, &["down"]).0, 0);
    let file = c.folder.path().join("config.toml");
    std::fs::write(file, CONFIG.replace("take = \"user_id\"", "take = \"user_id\", by = \"id\"")).unwrap();
    let (code, up, errors) = c.run_at(nowhere, &["up"]);
    assert!(code == 0 && errors.starts_with("note:"), "{errors}");
    c.world.sql(&up);
    assert_eq!(c.run(&["diff"]).0, 0);
}
