//! The admin socket, the listener and the commands that ask them, with an observer in place of a daemon.

use assert_cmd::cargo::CommandCargoExt as _;
use pgevict::admin::{self, Control};
use pgevict::config::model::{Admin, Log, LogFormat, LogKeys, LogLevel, Mode, Op, TableName};
use pgevict::observe::event::{Condition, Extent, KeyOutcome, Observation, Outcome, Server, Statement};
use pgevict::observe::{EdgeId, Observer};
use pgevict::rules::template::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An admin server in a thread of its own; it ends when this is dropped.
struct Served {
    observer: Observer,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
    listen: SocketAddr,
}

impl Served {
    /// Serves on a socket in a fresh folder and on a free port; reloads are refused with `refusal`, if there is one.
    fn new(refusal: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let observer = Observer::new(&Log { format: LogFormat::Text, keys: LogKeys::Full, level: LogLevel::Info });
        let edge = EdgeId { table: calls(), cache: "user_dashboard".into() };
        observer.set_edges(BTreeMap::from([(edge, Mode::Enforce)]));
        let stop = CancellationToken::new();
        let admin = Admin { socket: folder.path().join("run/admin.sock"), listen: Some(listen) };
        let thread = std::thread::spawn({
            let (observer, stop) = (observer.clone(), stop.clone());
            move || serve(&admin, observer, stop, refusal)
        });
        let served = Self { observer, stop, thread: Some(thread), folder, listen };
        served.wait_until_it_answers();
        served
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/admin.sock")
    }

    /// Neither thread nor server can be waited for otherwise: the sign of a bound socket is that it accepts.
    fn wait_until_it_answers(&self) {
        for _ in 0..1_000 {
            if UnixStream::connect(self.socket()).is_ok() && TcpStream::connect(self.listen).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the admin server does not answer within 5 s");
    }

    fn pgevict(&self, args: &[&str]) -> Output {
        pgevict(&self.socket(), args).output().unwrap()
    }

    /// Starts `pgevict tail` and waits until the server has subscribed it.
    fn tail(&self, args: &[&str]) -> Child {
        let mut command = pgevict(&self.socket(), &[&["tail"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for _ in 0..2_000 {
            if self.observer.readers() > 0 {
                return child;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("pgevict tail does not subscribe within 10 s: {}", stderr(&output));
    }

    /// Status line, headers and body of a request over TCP.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost:1\r\n\r\n"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(admin: &Admin, observer: Observer, stop: CancellationToken, refusal: Option<&'static str>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
        let answers = async {
            while let Some(asked) = receiver.recv().await {
                if let Control::Reload { reply } = asked {
                    let _ = reply.send(refusal.map_or(Ok(()), |why| Err(why.to_owned())));
                }
            }
        };
        tokio::join!(admin::serve(admin, observer, sender, stop), answers);
    });
}

fn pgevict(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("pgevict").unwrap();
    command.args(args).arg("--socket").arg(socket);
    command
}

fn calls() -> TableName {
    TableName { schema: "public".into(), name: "calls".into() }
}

fn eviction(user: &str) -> Observation {
    Observation::Statement(Box::new(Statement {
        table: calls(),
        op: Op::Update,
        extent: Extent::Rows,
        note: None,
        values: vec![("user_id".into(), Some(user.as_bytes().to_vec()))],
        keys: vec![KeyOutcome {
            cache: "user_dashboard".into(),
            kind: Kind::Key,
            key: format!("user_dashboard:{user}").into_bytes(),
            outcome: Outcome::Deleted(1),
        }],
        more_keys: 0,
        skipped_null: vec![],
        unresolved: vec![],
        again: false,
        lag: Duration::from_millis(8),
        took: Duration::from_millis(3),
    }))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ready_says_why_not_and_then_that_it_is() {
    let served = Served::new(None);
    served.observer.condition(Condition::Starting, None);
    served.observer.condition(Condition::Down(Server::Redis), Some("WRONGPASS: check redis.password".into()));
    let no = served.pgevict(&["ready"]);
    assert_eq!(no.status.code(), Some(1));
    assert_eq!(stdout(&no), "Redis down: WRONGPASS: check redis.password\n");
    let no: Value = serde_json::from_str(&stdout(&served.pgevict(&["ready", "-o", "json"]))).unwrap();
    assert_eq!((&no["ready"], &no["reasons"][0]["condition"]), (&json!(false), &json!("redis_down")));
    served.observer.condition(Condition::Down(Server::Redis), None);
    let yes = served.pgevict(&["ready"]);
    assert_eq!((yes.status.code(), stdout(&yes).as_str()), (Some(0), "ready\n"));
    let yes = served.pgevict(&["ready", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&yes)).unwrap(), json!({"ready": true, "reasons": []}));
}

#[test]
fn without_a_daemon_the_commands_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    for command in ["ready", "status", "tail"] {
        let output = pgevict(&socket, &[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{command}");
        assert_eq!(stdout(&output), "", "{command}");
        let told = stderr(&output);
        assert!(told.contains("no daemon answers at") && told.contains("systemctl status pgevict"), "{told}");
    }
}

#[test]
fn status_shows_what_was_reported() {
    let served = Served::new(None);
    served.observer.report(eviction("7"));
    served.observer.set_position("753:753:");
    let text = stdout(&served.pgevict(&["status"]));
    assert!(text.contains("NOT READY") && text.contains("user_dashboard") && text.contains("753:753:"), "{text}");
    let output = served.pgevict(&["status", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let v: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&v["edges"][0]["deleted"], &v["totals"]["changes"]), (&json!(1), &json!(1)));
    assert_eq!(v["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn tail_prints_evictions_as_they_happen() {
    let served = Served::new(None);
    let tail = served.tail(&["--lines", "2"]);
    served.observer.report(eviction("7"));
    served.observer.report(eviction("8"));
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.split_once(' ')).map(|(_, line)| line).collect();
    let line = |user| format!("evict calls.update user_id={user}: user_dashboard:{user} deleted (lag=8ms took=3ms)");
    assert_eq!(lines, [line(7), line(8)]);
}

#[test]
fn tail_prints_json_for_programs() {
    let served = Served::new(None);
    let tail = served.tail(&["-o", "json", "-n", "1"]);
    served.observer.report(eviction("7"));
    let v: Value = serde_json::from_str(&stdout(&tail.wait_with_output().unwrap())).unwrap();
    assert_eq!((&v["event"], &v["table"], &v["op"]), (&json!("evict"), &json!("calls"), &json!("update")));
    assert_eq!(v["keys"][0]["key"], "user_dashboard:7");
}

#[test]
fn tail_ends_well_on_sigint_and_on_a_closed_pipe() {
    let served = Served::new(None);
    let mut tail = served.tail(&[]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(tail.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(0));

    let mut tail = {
        while served.observer.readers() > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        served.tail(&[])
    };
    let mut reader = BufReader::new(tail.stdout.take().unwrap());
    served.observer.report(eviction("7"));
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    served.observer.report(eviction("8"));
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn tail_ends_with_4_when_the_daemon_goes() {
    let served = Served::new(None);
    let tail = served.tail(&[]);
    drop(served);
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("cannot be talked to"), "{}", stderr(&output));
}

#[test]
fn health_is_answered_over_tcp() {
    let served = Served::new(None);
    assert!(served.get("/livez").starts_with("HTTP/1.1 200 "));
    assert!(served.get("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(served.get("/readyz").ends_with("starting: no session has begun yet; this takes a moment\n"));
    assert!(served.get("/readyz?format=json").contains("\"condition\":\"starting\""));
    served.observer.condition(Condition::Starting, None);
    assert!(served.get("/readyz").starts_with("HTTP/1.1 200 "));
    assert!(served.get("/status").contains("\"ready\":true"));
}

#[test]
fn a_loop_that_has_stopped_beating_is_not_alive() {
    let served = Served::new(None);
    let long_ago = std::time::Instant::now().checked_sub(Duration::from_secs(16)).unwrap();
    let now = pgevict::observe::clock::Now::read();
    served.observer.beat_at(pgevict::observe::clock::Now { instant: long_ago, ..now });
    assert!(served.get("/livez").starts_with("HTTP/1.1 503 "));
    served.observer.beat();
    assert!(served.get("/livez").starts_with("HTTP/1.1 200 "));
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let served = Served::new(None);
    served.observer.report(eviction("7"));
    let plain = served.get("/metrics");
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    let line = r#"pgevict_keys_total{table="calls",cache="user_dashboard",outcome="deleted"} 1"#;
    assert!(plain.lines().any(|l| l == line), "{plain}");
    let open = served
        .ask("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n");
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    assert!(open.trim_end_matches("0\r\n\r\n").contains("# EOF"), "{open}");
}

#[test]
fn the_listener_is_read_only_and_deaf_to_rebound_names() {
    let served = Served::new(None);
    let rebound = served.ask("GET /status HTTP/1.1\r\nHost: evil.example:9847\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 421 ") && !rebound.contains("edges"), "{rebound}");
    for request in ["POST /reload", "GET /tail", "POST /readyz", "DELETE /status"] {
        let answer = served.ask(&format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 405 "), "{request}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    }
}

#[test]
fn a_reload_is_asked_for_over_the_socket_and_refused_with_the_reason() {
    let ask = |refusal| {
        let served = Served::new(refusal);
        let mut stream = UnixStream::connect(served.socket()).unwrap();
        let request = "POST /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask(None).starts_with("HTTP/1.1 200 "));
    let refused = ask(Some("error[PE001]: no such cache"));
    assert!(refused.starts_with("HTTP/1.1 422 ") && refused.ends_with("error[PE001]: no such cache"), "{refused}");
}

#[test]
fn an_address_that_is_taken_does_not_stop_the_daemon() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let observer = Observer::new(&Log { format: LogFormat::Text, keys: LogKeys::Full, level: LogLevel::Info });
    let mut lines = observer.subscribe();
    let stop = CancellationToken::new();
    let admin = Admin { socket: folder.path().join("s"), listen: Some(taken.local_addr().unwrap()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let warned = runtime.block_on(async {
        let (sender, _receiver) = tokio::sync::mpsc::channel(1);
        let ends = stop.clone();
        let warned = async {
            let line = lines.recv().await.unwrap();
            ends.cancel();
            line.json().to_owned()
        };
        tokio::join!(admin::serve(&admin, observer, sender, stop), warned).1
    });
    assert!(warned.contains("admin listener") && warned.contains("choose another admin.listen"), "{warned}");
}

fn doc(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

#[test]
fn every_series_is_documented() {
    use pgevict::observe::event::FlushReason;
    let served = Served::new(None);
    let o = &served.observer;
    // What appears only once something has happened.
    o.set_journal_rows(1);
    o.set_notify_queue(0.1);
    o.report(Observation::ProbeArrived { took: Duration::from_millis(7), unheard: false });
    o.report(eviction("7"));
    o.report(Observation::Warning { what: "admin socket", detail: String::new() });
    o.report(Observation::Reloaded);
    o.report(Observation::FlushBegun { caches: vec![], reason: FlushReason::Operator });
    o.report(Observation::OverLimit { cache: "c".into(), pattern: vec![], matched: 1, refused: false });
    o.report(Observation::Warmed {
        cache: "c".into(),
        key: b"c:1".to_vec(),
        outcome: pgevict::observe::event::WarmOutcome::Stored,
        why: None,
        took: Duration::from_millis(7),
    });
    o.set_warm_queue("sql", 1);
    o.set_warm_lane("c", pgevict::flow::warm::LaneState::default());
    o.count_worth("c", "yes", 1);
    o.count_warm_read("replica");
    let mut odd = eviction("8");
    if let Observation::Statement(s) = &mut odd {
        s.extent = Extent::Degraded;
        s.skipped_null = vec![("user_dashboard".into(), 1)];
        s.keys[0].outcome = Outcome::Repeat(1);
    }
    o.report(odd);
    let text = o.metrics_text(pgevict::observe::metrics::Format::Plain);
    let told = doc("metrics.md");
    let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &names {
        assert!(told.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
    let rows = told.lines().filter_map(|l| l.strip_prefix("| `pgevict_")?.split('`').next());
    for name in rows {
        assert!(names.contains(&format!("pgevict_{name}").as_str()), "docs/metrics.md tells of {name}, which is not");
    }
}

#[test]
fn every_condition_is_documented() {
    for code in pgevict::observe::notices::CONDITION_CODES {
        for name in ["operations.md", "json.md"] {
            assert!(doc(name).contains(&format!("`{code}`")), "{code} is not in docs/{name}");
        }
    }
}

#[test]
fn every_field_of_status_and_tail_is_documented() {
    let served = Served::new(None);
    let mut lines = served.observer.subscribe();
    let warmed = "[postgres]\nurl = \"postgresql://u@h/d\"\n[redis]\nurl = \"redis://h\"\n[cache.user_dashboard]\n\
                  key = \"user_dashboard:{user_id}\"\nttl = \"1m\"\nwarm.sql = \"SELECT 1 WHERE :user_id = '1'\"\n\
                  [table.calls]\nevict = [\"user_dashboard\"]";
    let (config, _) = pgevict::config::parse(warmed, "t", &pgevict::config::Environment::empty()).unwrap();
    served.observer.set_config(&config);
    served.observer.report(eviction("7"));
    let told = doc("json.md");
    let check = |value: &Value| {
        for field in value.as_object().unwrap().keys() {
            let named = told.contains(&format!("`{field}`")) || told.contains(&format!("`{field}[]`"));
            assert!(named || told.contains(&format!("\"{field}\":")), "{field} is not in docs/json.md");
        }
    };
    let status = serde_json::to_value(served.observer.status()).unwrap();
    check(&status);
    for part in ["servers", "edges", "reasons"] {
        check(&status[part][0]);
    }
    check(&status["totals"]);
    check(&status["lag"]);
    check(&status["warming"]);
    check(&status["warming"]["caches"][0]);
    let line: Value = serde_json::from_str(lines.try_recv().unwrap().json()).unwrap();
    check(&line);
    check(&line["keys"][0]);
}
