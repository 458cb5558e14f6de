//! A NOTIFY queue that fills, really: an idle listener in a transaction, and payloads until a tenth is full (HAZARDS N7, B12).

use crate::support::{Db, Setup, World};
use nix::sys::signal::Signal;
use pgevict::cli::demo::servers::Down;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, NoTls};

const SCHEMA: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'u'), (2, 'u')";
const CONFIG: &str = "[cache.user]\nkey = \"user:{id}\"\n[table.users]\nevict = [\"user\"]";
const CHANGE: &str = "UPDATE users SET name = name || '.' WHERE id = 1";

/// A session that LISTENs, and keeps who rang: the daemon's probe rings, too.
struct Listener {
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// The sessions that rang.
    heard: Arc<Mutex<Vec<i32>>>,
}

impl Listener {
    fn new(w: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = w.pg.url(&w.database);
        let (client, mut connection) = runtime.block_on(tokio_postgres::connect(&url, NoTls)).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeps = heard.clone();
        runtime.spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(rung) = message {
                    keeps.lock().unwrap().push(rung.process_id());
                }
            }
        });
        Self { runtime, client, heard }
    }

    fn sql(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    /// How often these sessions were heard until now: the answer to a query comes behind all of it.
    fn heard_of(&self, writers: &[i32]) -> usize {
        self.sql("SELECT 1");
        self.heard.lock().unwrap().iter().filter(|pid| writers.contains(pid)).count()
    }
}

fn pid(db: &Db) -> i32 {
    db.sql("SELECT pg_backend_pid()")[0][0].as_ref().unwrap().parse().unwrap()
}

fn usage(db: &Db) -> f64 {
    db.sql("SELECT pg_notification_queue_usage()")[0][0].as_ref().unwrap().parse().unwrap()
}

/// The queue's files. Counting them asks nothing of the queue: asking how full it is would drain it.
fn files(w: &World) -> usize {
    w.value("SELECT count(*) FROM pg_ls_dir('pg_notify')").parse().unwrap()
}

#[test]
fn a_notify_queue_that_fills_fails_no_writer_is_told_of_and_drains_again() {
    let w = World::new(&Setup { config: CONFIG, schema: SCHEMA, own_postgres: Some(&[]), ..Setup::default() });
    if w.value("SHOW server_version_num").parse::<u32>().unwrap() >= 170_000 {
        // Before 17 the queue has 8 GB, and a tenth takes some seconds.
        w.sql("ALTER SYSTEM SET max_notify_queue_pages = 4096");
        let mut server = w.pg.server();
        server.down(Down::Clean);
        server.up().unwrap();
    }
    w.apply();
    w.start();
    w.wait_position();
    w.fill(&["user:1", "user:2"]);
    let few = files(&w);

    let lazy = Listener::new(&w);
    lazy.sql("SET application_name = 'lazy worker'; LISTEN pgevict");
    lazy.sql("BEGIN; SELECT 1");
    let filler = w.connect();
    while usage(&filler) < 0.1 {
        // Different payloads, since equal ones of a transaction fold into one; and longer than half a page, so that each takes a whole one.
        filler.sql("SELECT count(pg_notify('noise', i::text || repeat('x', 4100))) FROM generate_series(1, 200) AS i");
    }
    assert!(files(&w) > few + 10, "{} files", files(&w));

    // The daemon sleeps now, so this writer would ring.
    let writer = w.value("SELECT pg_backend_pid()").parse().unwrap();
    w.sql(CHANGE);
    let mark = w.mark();
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_line(mark, &["the NOTIFY queue is filling", "lazy worker", "idle in transaction"]);
    // Writers write as ever, nobody rings, and the daemon finds what they wrote.
    for _ in 0..3 {
        w.check(CHANGE, &["user:1"]);
    }
    lazy.sql("COMMIT");
    assert_eq!(lazy.heard_of(&[writer]), 0, "somebody rang though the queue was over a tenth full");

    // Nobody but the daemon asks how full the queue is; without that it would stay full for ever.
    w.wait_line(mark, &["the NOTIFY queue has drained"]);
    assert!(files(&w) < few + 10, "{} files", files(&w));
    let deadline = Instant::now() + Duration::from_secs(30);
    while lazy.heard_of(&[writer]) == 0 {
        // After work the daemon stays awake for a moment, and nobody rings for who is awake.
        while w.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1885431413 AND mode = 'ExclusiveLock' AND granted") == "0" {
            assert!(Instant::now() < deadline, "the daemon never sleeps again");
        }
        assert!(Instant::now() < deadline, "the bell is never rung again");
        w.check(CHANGE, &["user:1"]);
    }
}

/// NOTIFY makes commits wait for each other. Who changes something now and then rings once, however much it is; those who never
/// stop ring hardly ever: only while the daemon wakes.
#[test]
fn a_burst_rings_once_for_who_sleeps_and_writers_that_never_stop_do_not_ring() {
    const COMMITS: usize = 2_000;
    const WRITERS: usize = 3;
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.sql("INSERT INTO users SELECT n, 'u' FROM generate_series(10, 50) n");
    w.wait_position();
    let listener = Listener::new(&w);
    listener.sql("LISTEN pgevict");
    let writer = w.connect();
    // The daemon's probe may wake it just before the burst does: then nobody needs to ring.
    let (mut heard, mut bursts) = (0, 0);
    while heard < 10 {
        super::load::wait_asleep(&w);
        writer.sql(&format!("BEGIN; {CHANGE}; UPDATE users SET name = 'v' WHERE id > 9; {CHANGE}; COMMIT"));
        w.drain();
        bursts += 1;
        let now = listener.heard_of(&[pid(&writer)]);
        assert!(now - heard <= 1, "{} rings of one burst", now - heard);
        assert!(bursts <= 20, "{now} rings of {bursts} bursts");
        heard = now;
    }
    // Transactions one behind the other ring until the first of them has woken the daemon.
    let (steps, hasty) = (50, w.connect());
    for _ in 0..10 {
        super::load::wait_asleep(&w);
        (0..steps).for_each(|_| drop(hasty.sql(CHANGE)));
    }
    let rings = listener.heard_of(&[pid(&hasty)]);
    println!("{rings} rings of 10 bursts of {steps} transactions each");
    // However late it gets a core: not every transaction of every burst has to wake it.
    assert!((5..10 * steps).contains(&rings), "{rings} rings of 10 bursts of {steps} transactions each");

    let writers: Vec<Db> = (0..WRITERS).map(|_| w.connect()).collect();
    let pids: Vec<i32> = writers.iter().map(pid).collect();
    super::load::wait_asleep(&w);
    std::thread::scope(|scope| {
        for (n, writer) in writers.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..COMMITS {
                    writer.sql(&format!("UPDATE users SET name = name || '.' WHERE id = {}", 10 + n));
                }
            });
        }
    });
    let rings = listener.heard_of(&pids);
    println!("{rings} rings of {} commits", WRITERS * COMMITS);
    // (None at all, if a probe came just before; that sleepers are woken is tested above.)
    // A machine that gives nobody its cores for 20 ms lets the daemon sleep in between.
    assert!(rings * 10 < WRITERS * COMMITS, "{rings} rings of {} commits", WRITERS * COMMITS);
}
