//! `warm.http`: the application is asked to fill its keys itself; endpoints that are dead, slow, failing or sending elsewhere delay
//! nothing and lead nowhere.

use crate::support::{Setup, World};
use redis::Commands as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 50) n;
";

/// What an application was sent: the request line, the headers in lower case, the body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    headers: String,
    body: String,
}

/// An application that answers by path: `/ok/…` stores `user:ID`, `/fail/…` 500, `/away/…` sends elsewhere, `/hang/…` says nothing.
pub(crate) struct App {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl App {
    /// `gate`: where one is given, `/ok/…` waits for a word from it after it has looked at the database.
    pub(crate) fn start(redis: String, away: u16, gate: Option<Receiver<()>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (list, gate) = (asked.clone(), Arc::new(Mutex::new(gate)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, redis, gate) = (list.clone(), redis.clone(), gate.clone());
                std::thread::spawn(move || serve(stream, &list, &redis, away, &gate));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, redis: &str, away: u16, gate: &Mutex<Option<Receiver<()>>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut headers, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line).unwrap_or_default();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap_or_default() <= 2 {
            break;
        }
        let header = header.to_lowercase();
        length = header.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap_or(0));
        headers.push_str(&header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let n = {
        let mut asked = asked.lock().unwrap();
        asked.push(Asked { line: line.trim().to_owned(), headers, body: String::from_utf8_lossy(&body).into_owned() });
        asked.len()
    };
    let answer = match path.split('/').nth(1).unwrap_or_default() {
        "ok" => {
            if let Some(gate) = &*gate.lock().unwrap() {
                let _ = gate.recv();
            }
            let mut redis = redis::Client::open(redis).unwrap().get_connection().unwrap();
            let id = path.split(['/', '?']).nth(2).unwrap_or_default();
            let _: () = redis.set(format!("user:{id}"), format!("made by request {n}")).unwrap();
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        }
        "fail" => "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops".to_owned(),
        "away" => {
            format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{away}/stolen\r\nContent-Length: 0\r\n\r\n")
        }
        _ => {
            // Until the other side hangs up.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes());
}

/// Where the application stores.
pub(crate) fn redis_of(w: &World) -> String {
    w.redis.borrow().url(0)
}

#[test]
fn the_application_is_asked_as_the_configuration_says_and_fills_its_key() {
    let w = World::new(&Setup { schema: SCHEMA, ..Setup::default() });
    w.apply();
    let app = App::start(redis_of(&w), 1, None);
    w.write_config(&format!(
        r#"
[cache.user]
key = "user:{{id}}"
warm.http = {{ url = "http://127.0.0.1:{}/ok/{{id}}?name={{id}}", method = "PUT", headers = {{ Authorization = "Bearer secret" }}, body = '{{{{"id": "{{id}}"}}}}', success = [204] }}
[cache.all]
pattern = "users:{{id}}:*"
warm.http = {{ url = "http://127.0.0.1:{}/ok/all{{id}}" }}
[table.users]
evict = ["user", "all"]
"#,
        app.port, app.port
    ));
    w.apply();
    w.start();
    w.wait_position();
    let mut redis = w.redis();
    let _: () = redis.mset(&[("user:7", "old"), ("users:7:a", "old"), ("users:7:b", "old")]).unwrap();
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id IN (7, 8)");
    w.wait_line(mark, &["warm user:7: asked"]);
    w.wait_line(mark, &["warm users:7:*: asked"]);
    assert!(redis.get::<_, String>("user:7").unwrap().starts_with("made by request"));
    let asked = app.asked();
    assert_eq!(asked.len(), 2, "user 8 was not cached: {asked:?}");
    let put = asked.iter().find(|a| a.line == "PUT /ok/7?name=7 HTTP/1.1").unwrap();
    assert_eq!(put.body, r#"{"id": "7"}"#);
    for header in ["authorization: bearer secret", "content-type: application/json", "user-agent: pgevict/"] {
        assert!(put.headers.contains(header), "{header} is not in {}", put.headers);
    }
    assert!(put.headers.contains(&format!("host: 127.0.0.1:{}\r\n", app.port)));
    assert!(asked.iter().any(|a| a.line == "POST /ok/all7 HTTP/1.1"));
    let log = w.daemon(|d| d.log().tail(1000));
    assert!(!log.contains("secret"));
}

#[test]
fn dead_slow_failing_and_redirecting_endpoints_delay_nothing_and_lead_nowhere() {
    let w = World::new(&Setup { schema: SCHEMA, ..Setup::default() });
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let app = App::start(redis_of(&w), elsewhere.local_addr().unwrap().port(), None);
    // Nobody listens here, and nobody else gets the port.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead_port = dead.local_addr().unwrap().port();
    let cache = |name: &str, port: u16, path: &str| {
        format!(
            "[cache.{name}]\nkey = \"{name}:{{id}}\"\nwarm.http = {{ url = \"http://127.0.0.1:{port}/{path}/{{id}}\", timeout = \"10s\" }}\n"
        )
    };
    let config = [
        cache("dead", dead_port, "ok"),
        cache("slow", app.port, "hang"),
        cache("failing", app.port, "fail"),
        cache("away", app.port, "away"),
        cache("user", app.port, "ok"),
    ]
    .concat();
    let sql = "[cache.sql]\nkey = \"sql:{id}\"\nttl = \"10m\"\nwarm.sql = \"SELECT name FROM users WHERE id = :id\"\n";
    let evict = "[table.users]\nevict = [\"dead\", \"slow\", \"failing\", \"away\", \"user\", \"sql\"]\n";
    w.write_config(&format!("[warm]\nmax_per_second = 1000\nconcurrency = 12\n{config}{sql}{evict}"));
    w.apply();
    w.start();
    w.wait_position();
    let names = ["dead", "slow", "failing", "away", "user", "sql"];
    let keys: Vec<String> = (1..=20).flat_map(|n| names.map(|name| format!("{name}:{n}"))).collect();
    for key in &keys {
        let _: () = w.redis().set(key, "old").unwrap();
    }
    let (mark, began) = (w.mark(), Instant::now());
    w.sql("UPDATE users SET name = 'new' WHERE id <= 20");
    w.drain();
    // Less than the time-out of the endpoint that does not answer.
    assert!(began.elapsed() < Duration::from_secs(8), "evictions waited for an endpoint");
    let back = |prefix: &'static str, value: &'static str| {
        w.wait_keys(&format!("all of {prefix} to be back"), move |redis| {
            (1..=20).all(|n| {
                redis
                    .get::<_, Option<String>>(format!("{prefix}:{n}"))
                    .is_ok_and(|v| v.is_some_and(|v| v.starts_with(value)))
            })
        });
    };
    back("sql", "new");
    assert!(began.elapsed() < Duration::from_secs(8), "a query waited for an endpoint");
    back("user", "made by request");
    assert!(began.elapsed() < Duration::from_secs(18), "a healthy endpoint waited for a dead one");
    w.wait_line(mark, &["warming of dead rests", "warm.http: no connection"]);
    w.wait_line(mark, &["warm away:", "failed: warm.http: 302", "no redirect is followed"]);
    w.wait_line(mark, &["warming of slow rests", "warm.http: no answer within 10s"]);
    w.wait_line(mark, &["warming of failing rests", "warm.http: it answers 500"]);
    let visited = elsewhere.accept();
    assert!(visited.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "a redirect was followed");
    // Endpoints that do not answer are left alone: twenty keys were not tried six times each.
    let tries = |path: &str| app.asked().iter().filter(|a| a.line.contains(path)).count();
    assert!(tries("/fail/") < 60, "{} requests to an endpoint that fails", tries("/fail/"));
    assert_eq!(tries("/away/"), 20, "what sends elsewhere is not tried again");
    drop(dead);
}

#[test]
fn a_key_that_changes_while_the_application_is_asked_is_asked_for_again() {
    let w = World::new(&Setup { schema: SCHEMA, ..Setup::default() });
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let app = App::start(redis_of(&w), 1, Some(gate));
    w.write_config(&format!(
        "[cache.user]\nkey = \"user:{{id}}\"\nwarm.http = {{ url = \"http://127.0.0.1:{}/ok/{{id}}\", timeout = \"30s\" }}\n\
         [table.users]\nevict = [\"user\"]\n",
        app.port
    ));
    w.apply();
    w.start();
    w.wait_position();
    let _: () = w.redis().set("user:1", "old").unwrap();
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'first' WHERE id = 1");
    let deadline = Instant::now() + crate::support::PATIENCE;
    while app.asked().is_empty() {
        assert!(Instant::now() < deadline, "the application was not asked");
        std::thread::yield_now();
    }
    // It has looked at the database; this change is evicted before it stores what it saw.
    w.sql("UPDATE users SET name = 'second' WHERE id = 1");
    w.wait_line(mark, &["evict users.update", "user:1 absent"]);
    open.send(()).unwrap();
    open.send(()).unwrap();
    w.wait_keys("the second answer", |redis| {
        redis.get::<_, Option<String>>("user:1").is_ok_and(|v| v.as_deref() == Some("made by request 2"))
    });
}
