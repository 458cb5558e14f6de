//! `pgevict check` and `pgevict help`, as a user meets them: exit codes, where the words go, and whether real servers
//! fit.

use pgevict::cli::demo::servers::{Postgres, Redis};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PASSWORD: &str = "hunter2";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Codes of the findings, from `-o json`.
    fn codes(&self) -> Vec<String> {
        let json: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout));
        let problems = json["problems"].as_array().expect("a list of problems");
        let mut codes: Vec<String> = problems.iter().filter_map(|p| Some(p["code"].as_str()?.to_owned())).collect();
        codes.sort();
        codes
    }
}

/// Runs the program with nothing in its environment but `env`.
fn pgevict(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_pgevict"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .envs(env.iter().copied())
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        Self { _folder: folder, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
}

fn small(postgres: &str, redis: &str, rest: &str) -> String {
    format!(
        "[postgres]\nurl = \"{postgres}\"\n[redis]\nurl = \"{redis}\"\n[cache.d]\nkey = \"d:{{user_id}}\"\n\
         [cache.s]\npattern = \"s:{{user_id}}:*\"\n[table.calls]\nevict = [\"d\", \"s\"]\n{rest}"
    )
}

#[test]
fn a_good_file_is_counted_on_stdout() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    let ran = pgevict(&["check", "--offline", "-c", root.to_str().expect("UTF-8")], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("6 caches, 5 tables, 7 edges"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_bad_file_exits_78_in_every_command_and_speaks_on_stderr_or_in_json() {
    let file = File::new("bad.toml", &small("postgresql://u:hunter2@h/d", "redis://h", "colour = 1\n"));
    for command in [&["check", "--offline"][..], &["check"], &["test"], &["ready"], &["run"], &["status"]] {
        let ran = pgevict(&[command, &["-c", file.name()]].concat(), &[]);
        assert_eq!(ran.code, Some(78), "{command:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{command:?}");
        assert!(ran.stderr.contains("error[PE101]") && ran.stderr.contains("bad.toml:11:1"), "{}", ran.stderr);
        assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains(PASSWORD), "{}", ran.stderr);
    }
    let ran = pgevict(&["check", "--offline", "-o", "json", "-c", file.name()], &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(78), ""));
    let json: Value = serde_json::from_str(&ran.stdout).expect("json");
    let problem = &json["problems"][0];
    assert_eq!((&problem["code"], &problem["severity"]), (&"PE101".into(), &"error".into()));
    assert_eq!((&problem["line"], &problem["column"]), (&11.into(), &1.into()));
}

#[test]
fn warnings_do_not_fail_the_check() {
    let file = File::new("c.toml", &small("postgresql://u@h/d", "redis://h", "[cache.lonely]\nkey = \"l:{id}\"\n"));
    let ran = pgevict(&["check", "--offline", "-c", file.name()], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning[PE207]"), "{}", ran.stderr);
}

#[test]
fn a_missing_file_says_where_it_was_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_pgevict"))
        .args(["check", "--offline"])
        .env_clear()
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    // A machine may have /etc/pgevict/config.toml; then that is what is read.
    if !Path::new("/etc/pgevict/config.toml").exists() {
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("PE001") && stderr.contains("/etc/pgevict/config.toml"), "{stderr}");
    }
    let ran = pgevict(&["check", "--offline", "-c", "/nonexistent/c.toml"], &[]);
    assert!(ran.code == Some(78) && ran.stderr.contains("PE001"), "{}", ran.stderr);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, b"mode = \"off\"\n# \xff\n").expect("written");
    let ran = pgevict(&["check", "--offline", "-c", path.to_str().expect("UTF-8")], &[]);
    assert!(ran.code == Some(78) && ran.stderr.contains("PE002") && ran.stderr.contains("line 2"), "{}", ran.stderr);
}

#[test]
fn variables_files_and_credentials_give_what_the_file_lacks() {
    let value = File::new("url", "redis://:hunter2@localhost/3\n");
    let text = "[cache.d]\nkey = \"d:{id}\"\n[table.t]\nevict = [\"d\"]\n";
    let file = File::new("c.toml", text);
    let env = [
        ("PGEVICT_CONFIG", file.name()),
        ("PGEVICT_POSTGRES__URL", "postgresql://u@h/d"),
        ("PGEVICT_REDIS__URL_FILE", value.name()),
    ];
    assert_eq!(pgevict(&["check", "--offline"], &env).code, Some(0));

    // A credential that is a folder cannot be read: it is said, not passed over.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("postgres.password")).expect("made");
    let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().expect("UTF-8"));
    let ran = pgevict(&["check", "--offline"], &[env[0], env[1], env[2], credentials]);
    assert!(ran.code == Some(78) && ran.stderr.contains("PE013"), "{}", ran.stderr);
}

#[test]
fn a_password_file_that_others_may_read_is_warned_about() {
    let pass = File::new("pass", "*:*:*:*:hunter2\n");
    let file = File::new("c.toml", &small("postgresql://u@h/d", "redis://h", ""));
    let ran = pgevict(&["check", "--offline", "-c", file.name()], &[("PGPASSFILE", pass.name())]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("warning[PE014]") && !ran.stderr.contains(PASSWORD), "{}", ran.stderr);
}

#[test]
fn help_explains_codes_and_commands() {
    let ran = pgevict(&["help", "pe104"], &[]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("PE104: "), "{}", ran.stdout);
    let ran = pgevict(&["help", "check"], &[]);
    assert!(ran.code == Some(0) && ran.stdout.contains("--offline"), "{}", ran.stdout);
    let ran = pgevict(&["help"], &[]);
    assert!(ran.code == Some(0) && ran.stdout.contains("explain"), "{}", ran.stdout);
    let ran = pgevict(&["help", "chekc"], &[]);
    assert!(ran.code == Some(2) && ran.stderr.contains("did you mean `check`?"), "{}", ran.stderr);
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = pgevict(&["completions", shell], &[]);
        assert!(ran.code == Some(0) && ran.stdout.contains("pgevict"), "{shell}");
    }
    let ran = pgevict(&["man"], &[]);
    assert!(ran.code == Some(0) && ran.stdout.contains(".TH pgevict 1"), "{}", ran.stdout);
    assert_eq!(pgevict(&["man", "chekc"], &[]).code, Some(2));
}

#[test]
fn servers_that_cannot_be_reached_exit_4() {
    let file = File::new("c.toml", &small("postgresql://u@/d?host=/nonexistent", "redis+unix:///nonexistent/r", ""));
    let ran = pgevict(&["check", "-o", "json", "-c", file.name()], &[]);
    assert_eq!(ran.code, Some(4), "{}", ran.stdout);
    assert_eq!(ran.codes(), ["PE501", "PE520"]);
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

/// One PostgreSQL for what only reads the catalog: starting one costs seconds, and nothing here changes it.
#[test]
fn the_servers_are_held_against_the_configuration() {
    let postgres = Postgres::start(&[("max_prepared_transactions", "2")]).unwrap_or_else(|e| panic!("{e}"));
    let redis = Redis::start(&[]).unwrap_or_else(|e| panic!("{e}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let url = postgres.url("postgres");
    let sql = |text: &str| {
        let parsed = pgevict::config::pg_url::parse(&url, Some("postgres")).expect("a URL").url;
        runtime.block_on(async {
            let connected = pgevict::source::connect::connect(&parsed).await.unwrap_or_else(|e| panic!("{e}"));
            connected.client.batch_execute(text).await.unwrap_or_else(|e| panic!("{text}: {e:?}"));
        });
    };
    sql("CREATE ROLE plain LOGIN; CREATE SCHEMA shop;
         CREATE TABLE calls (id int PRIMARY KEY, user_id int, agent_id int, status text);
         CREATE TABLE shop.orders (a int, b int, user_id int, PRIMARY KEY (a, b));
         CREATE TABLE lead (id int PRIMARY KEY, call_id int, call_name text, order_id int, hidden_id int);
         CREATE TABLE hidden (id int PRIMARY KEY, user_id int);
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         CREATE VIEW seen AS SELECT 1 AS user_id;");
    let check = |user: &str, postgres_settings: &str, rest: &str| {
        let text = small(&url, &redis.url(0), rest).replacen("[redis]", &format!("{postgres_settings}\n[redis]"), 1);
        let file = File::new("c.toml", &text);
        let role_url = if user.is_empty() { url.clone() } else { url.replace("postgres@", &format!("{user}@")) };
        pgevict(&["check", "-o", "json", "-c", file.name()], &[("PGEVICT_POSTGRES__URL", &role_url)])
    };
    let lookup = |to: &str, follow: &str, by: &str| {
        format!(
            "[table.lead]\nevict = [\"d\"]\nlookup.user_id = {{ follow = \"{follow}\", to = \"{to}\", take = \"user_id\"{by} }}\n"
        )
    };

    let ran = check("", "", &lookup("calls", "call_id", ""));
    assert_eq!((ran.code, ran.codes()), (Some(0), vec!["PE511".to_owned()]), "{}{}", ran.stdout, ran.stderr);

    type Case<'a> = (&'a str, &'a str, String, i32, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 12] = [
        ("", "", "[table.call]\nevict = [\"d\"]\n".into(), 1, &["PE502"], "did you mean `calls`?"),
        ("", "", "[table.orders]\nevict = [\"d\"]\n".into(), 1, &["PE502"], "did you mean `shop.orders`?"),
        ("", "", "[table.seen]\nevict = [\"d\"]\n".into(), 1, &["PE502"], "is a view"),
        ("", "", "[table.hidden]\ncolumns = [\"user_di\"]\nevict = [\"d\"]\n".into(), 1, &["PE503"], "`user_id`?"),
        ("", "", "[table.lead]\nevict = [\"d\"]\n".into(), 1, &["PE503"], "the hole {user_id} of cache `d` takes it"),
        ("", "", lookup("shop.orders", "order_id", ""), 1, &["PE504"], "a primary key of several columns"),
        ("", "", lookup("shop.orders", "order_id", ", by = \"a\""), 0, &[], ""),
        ("", "", lookup("calls", "call_name", ""), 1, &["PE504"], "cannot be joined"),
        // Who checks needs no right on the schema of a table.
        ("plain", "", lookup("shop.orders", "order_id", ", by = \"a\""), 0, &[], ""),
        ("plain", "", lookup("shop.orders", "call_name", ", by = \"a\""), 1, &["PE504"], "integer = text"),
        ("plain", "", lookup("hidden", "hidden_id", ""), 1, &["PE505"], "role `plain`"),
        ("", "delivery = \"notify\"", String::new(), 1, &["PE506", "PE510"], "max_prepared_transactions"),
    ];
    for (user, settings, rest, code, codes, words) in cases {
        let ran = check(user, settings, &rest);
        let found: Vec<String> = ran.codes().into_iter().filter(|c| c != "PE511").collect();
        assert_eq!((ran.code, found.as_slice()), (Some(code), strings(codes).as_slice()), "{rest}{}", ran.stdout);
        assert!(ran.stdout.contains(words), "{words} is not in {}", ran.stdout);
    }

    sql("ALTER ROLE plain SET default_transaction_read_only = on");
    assert!(check("plain", "", "").codes().contains(&"PE507".to_owned()));
    sql("CREATE SCHEMA pgevict; CREATE TABLE pgevict.journal (x int); ALTER ROLE plain RESET ALL");
    let ran = check("plain", "", "");
    assert_eq!((ran.code, ran.codes()), (Some(1), vec!["PE509".to_owned()]), "{}", ran.stdout);
    assert_eq!(check("", "", "").code, Some(0));
}

#[test]
fn the_acl_that_check_prints_is_enough_and_nothing_is_left_behind() {
    let redis = Redis::start(&[]).unwrap_or_else(|e| panic!("{e}"));
    let client = redis::Client::open(redis.url(0)).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let mut acl = |line: &str| {
        let mut command = redis::cmd("ACL");
        line.split_whitespace().for_each(|word| {
            command.arg(word.trim_matches('\''));
        });
        command.query::<()>(&mut connection).expect("the line is accepted");
    };
    acl("SETUSER cache on >hunter2 ~nothing +ping +select");
    let text = small("postgresql://u@/d?host=/nonexistent", &redis.url(0), "");
    let text = text.replace("[cache.d]", "password = \"hunter2\"\n[cache.d]");
    let text = text.replace("redis://", "redis://cache:@");
    // A blank, which no ACL takes; and a key that the ACL names only by what stands behind its hole.
    let text = text.replace("[\"d\", \"s\"]", "[\"d\", \"s\", \"e\", \"f\"]");
    let text = format!(
        "{text}[cache.e]\nkey = \"it's e:{{user_id|date}}:end\"\n[cache.f]\npattern = \"f:{{user_id}}:[ab]x*\"\n"
    );
    let file = File::new("c.toml", &text);
    let check = || pgevict(&["check", "-o", "json", "-c", file.name()], &[]);

    let ran = check();
    assert_eq!(ran.codes(), ["PE501", "PE521"], "{}", ran.stdout);
    let json: Value = serde_json::from_str(&ran.stdout).expect("json");
    let finding =
        json["problems"].as_array().into_iter().flatten().find(|p| p["code"] == "PE521").expect("the finding");
    let line = finding["help"].as_str().and_then(|h| h.strip_prefix("set: ACL ")).expect("the line").to_owned();
    acl(&line);
    let ran = check();
    assert_eq!(ran.codes(), ["PE501"], "after `{line}`: {}", ran.stdout);
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("KEYS");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_redis_user_who_may_not_even_select_is_told_the_line() {
    let redis = Redis::start(&[]).unwrap_or_else(|e| panic!("{e}"));
    let mut connection =
        redis::Client::open(redis.url(0)).and_then(|c| c.get_connection()).expect("a connection to the new server");
    redis::cmd("ACL")
        .arg(&["SETUSER", "cache", "on", ">hunter2", "~*", "+ping"])
        .query::<()>(&mut connection)
        .expect("accepted");
    let url = redis.url(3).replace("redis://", "redis://cache:hunter2@");
    let file = File::new("c.toml", &small("postgresql://u@/d?host=/nonexistent", &url, ""));
    let ran = pgevict(&["check", "-o", "json", "-c", file.name()], &[]);
    assert_eq!(ran.codes(), ["PE501", "PE521"], "{}", ran.stdout);
    assert!(ran.stdout.contains("+select") && !ran.stdout.contains(PASSWORD), "{}", ran.stdout);
}

#[test]
fn a_redis_that_evicts_everything_is_warned_about() {
    let redis =
        Redis::start(&[("maxmemory", "50mb"), ("maxmemory-policy", "allkeys-lru")]).unwrap_or_else(|e| panic!("{e}"));
    let file = File::new("c.toml", &small("postgresql://u@/d?host=/nonexistent", &redis.url(0), ""));
    let ran = pgevict(&["check", "-o", "json", "-c", file.name()], &[]);
    assert_eq!(ran.codes(), ["PE501", "PE522"], "{}", ran.stdout);
}
