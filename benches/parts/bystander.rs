//! What others feel who use the same Redis: a client that GETs, and those that SET keys of which pgevict is told.

use super::backlog::reader;
use super::patterns::{CONFIG, fill, schema};
use crate::numbers::{factor, figure, median, median_ratio, percentile};
use crate::report::Section;
use crate::stage::pgbench::Pgbench;
use crate::stage::{Db, Resp, Site, address, postgres, process, redis};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const USERS: u32 = 200_000;
const ROUNDS: usize = 3;
const SECONDS: u64 = 4;
/// Writers of a storm, a second: each evicts a pattern.
const RATE: f64 = 3000.0;

/// Somebody else's client: one GET every half millisecond, of a key that nobody touches.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Bystander {
    fn start(address: &str) -> Self {
        let (stop, mut redis) = (Arc::new(AtomicBool::new(false)), Resp::connect(address));
        redis.ask(&["SET", "bystander", "value"]);
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                redis.ask(&["GET", "bystander"]);
                took.push(begun.elapsed().as_secs_f64() * 1e6);
                std::thread::sleep(Duration::from_micros(500));
            }
            took
        });
        Self { stop, thread }
    }

    /// p99 of what it waited, in microseconds.
    fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        percentile(&self.thread.join().expect("the bystander lives"), 0.99)
    }
}

/// Takes as much processor time as it is told, in slices of a fraction of a millisecond, and touches nothing else.
struct Burner {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How long a slice takes where nobody disturbs it.
fn slice() -> Duration {
    let begun = Instant::now();
    (0..20_000_u64).for_each(|n| {
        std::hint::black_box(n.wrapping_mul(n));
    });
    begun.elapsed()
}

impl Burner {
    /// `cores`: processor time for each second, on two threads.
    fn start(cores: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // By count and not by the clock: who is interrupted has burnt nothing meanwhile.
        let one = (0..200).map(|_| slice()).min().unwrap_or_default().as_secs_f64();
        let burn = move |told: Arc<AtomicBool>| {
            let (begun, mut burnt) = (Instant::now(), 0.0);
            while !told.load(Ordering::Relaxed) {
                while burnt < begun.elapsed().as_secs_f64() * cores / 2.0 {
                    slice();
                    burnt += one;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        };
        let thread = |_| {
            let told = Arc::clone(&stop);
            std::thread::spawn(move || burn(told))
        };
        Self { threads: [0, 1].map(thread).into(), stop }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|t| t.join().expect("the burner lives"));
    }
}

/// Waits until the daemon rests: after a flush it asks for the keys that its index still holds.
fn rest(pid: u32) {
    let busy = || {
        let before = process::cpu(pid);
        std::thread::sleep(Duration::from_secs(1));
        process::cpu(pid) - before > Duration::from_millis(20)
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while busy() {
        assert!(Instant::now() < deadline, "the daemon never rests");
    }
}

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let address = address(&server);
    let mut redis = Resp::connect(&address);
    let mut site = Site::new(&postgres, &server, "pgevict", &schema(USERS), CONFIG);
    let without = Db::create(&postgres, "none", &schema(USERS));
    site.settle();
    site.stop();
    fill(&mut redis, 1, USERS);
    site.start();
    site.wait_line("the key index is live");
    // From here on what Redis took longer for than a millisecond is on record.
    redis.ask(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]);
    redis.ask(&["CONFIG", "SET", "slowlog-max-len", "100000"]);

    let writers = Pgbench::new(&format!("\\set id random(1, {USERS})\nUPDATE users SET n = n + 1 WHERE id = :id;\n"));
    let (mut storm, mut flush) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]]);
    let redis_pid: u32 = redis.info("server", "process_id").parse().expect("a pid");
    let (session, postmaster) = (reader(&site.db), process::parent(site.db.pid()));
    // What all of it takes but for pgbench, which does the same each time. Sessions count when they are buried.
    let spent = |all: bool| {
        std::thread::sleep(Duration::from_millis(200));
        let busy = process::cpu_of_the_dead(postmaster) + process::cpu(redis_pid);
        if all { busy + process::cpu(session) + process::cpu(site.pid()) } else { busy }.as_secs_f64()
    };
    let mut shares = [vec![], vec![]];
    let mut lasted = vec![];
    let mut slow = [[0, 0], [0, 0]];
    for _ in 0..ROUNDS {
        let mut took = [0.0, 0.0];
        for (which, name) in [(0, "none"), (1, "pgevict")] {
            redis.ask(&["SLOWLOG", "RESET"]);
            let before = spent(which == 1);
            let bystander = Bystander::start(&address);
            writers.start(&postgres, name, SECONDS, Some(RATE)).wait();
            storm[which].push(bystander.end());
            took[which] = spent(which == 1) - before;
            slow[0][which] += redis.ask(&["SLOWLOG", "LEN"]).int();
        }
        let share = (took[1] - took[0]) / SECONDS as f64;
        let (bystander, burner) = (Bystander::start(&address), Burner::start(share));
        writers.start(&postgres, "none", SECONDS, Some(RATE)).wait();
        storm[2].push(bystander.end());
        burner.end();
        shares[0].push(share);
        fill(&mut redis, 1, USERS);
        redis.ask(&["SLOWLOG", "RESET"]);
        let before = spent(true);
        let (bystander, begun) = (Bystander::start(&address), Instant::now());
        site.db.sql("TRUNCATE users");
        // The bystander's own key and pgevict's stay.
        redis.wait_size(20, Duration::from_secs(60)).expect("the cache is flushed");
        let took = begun.elapsed();
        flush[1].push(bystander.end());
        let share = (spent(true) - before) / took.as_secs_f64();
        slow[1][1] += redis.ask(&["SLOWLOG", "LEN"]).int();
        rest(site.pid());
        let (bystander, burner) = (Bystander::start(&address), Burner::start(share));
        std::thread::sleep(took);
        flush[2].push(bystander.end());
        burner.end();
        shares[1].push(share);
        // As long, and with as many keys.
        fill(&mut redis, 1, USERS);
        redis.ask(&["SLOWLOG", "RESET"]);
        let bystander = Bystander::start(&address);
        without.sql("TRUNCATE users");
        std::thread::sleep(took);
        flush[0].push(bystander.end());
        slow[1][0] += redis.ask(&["SLOWLOG", "LEN"]).int();
        lasted.push(took.as_secs_f64());
        for db in [&without, &site.db] {
            db.sql(&format!("INSERT INTO users SELECT g, 0 FROM generate_series(1, {USERS}) g"));
        }
        fill(&mut redis, 1, USERS);
    }
    let mut section = Section::default();
    for (what, took, slow) in
        [("a storm of pattern evictions", &storm[..], slow[0]), ("a whole-cache flush of 1 M keys", &flush, slow[1])]
    {
        let ratio = median_ratio(&took[1], &took[0]);
        section.goal(
            &format!("p99 of a bystander's GET during {what}"),
            format!("{} µs", figure(median(&took[1]))),
            format!(
                "{} the same load without pgevict ({} µs); commands over 1 ms: {}, without it {}",
                factor(ratio),
                figure(median(&took[0])),
                slow[1],
                slow[0]
            ),
            "≤ 1.2 ×",
            ratio <= 1.2,
        );
    }
    for (what, took, share, of) in [
        (
            "the storm's writers without pgevict, and as much processor time burnt",
            &storm,
            &shares[0],
            "what the triggers, the daemon, its session and Redis' part take",
        ),
        (
            "no flush, and as much processor time burnt for as long",
            &flush,
            &shares[1],
            "what the daemon, its session and Redis take",
        ),
    ] {
        section.step(
            what,
            format!("{} µs", figure(median(&took[2]))),
            format!(
                "{} the same load; {} of a core, which is {of}",
                factor(median_ratio(&took[2], &took[0])),
                figure(median(share))
            ),
        );
    }
    tracking(&mut section, &address);
    section.note(format!(
        "{} keys, of which Redis reports every change. The storm: {RATE} one-row `UPDATE`s a second, each evicting a pattern with 5 keys, against the same \
         writes to a table without triggers; the flush: `TRUNCATE`, which lasts {} s. {ROUNDS} rounds of {SECONDS} s. PostgreSQL, pgbench, the daemon, Redis and the bystander share the cores.",
        figure(f64::from(USERS * 5)),
        figure(median(&lasted))
    ));
    section
}

/// SETs of keys that are reported, beside SETs of keys that are not, in turn.
fn tracking(section: &mut Section, address: &str) {
    let port = address.rsplit(':').next().unwrap_or_default();
    let rate = |depth: u32, count: u32, prefix: &str| -> Option<f64> {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", port, "-q", "--csv", "-r", "1000000", "-n", &count.to_string(), "-P", &depth.to_string()]);
        command.args(["SET", &format!("{prefix}:__rand_int__:x"), "cached"]);
        let out = String::from_utf8(command.output().ok()?.stdout).ok()?;
        // A line of titles, then "name","requests a second",…
        out.lines().last()?.split(',').nth(1)?.trim_matches('"').parse().ok()
    };
    for (what, depth, count) in [("one by one", 1, 100_000), ("16 deep", 16, 400_000)] {
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (Some(t), Some(s)) = (rate(depth, count, "user_stats"), rate(depth, count, "other_stat")) else {
                eprintln!("   skipped: what tracking costs (redis-benchmark is not on the PATH)");
                return;
            };
            told.push(t);
            silent.push(s);
        }
        section.step(
            &format!("SETs of tracked keys, 50 clients, {what}"),
            format!("{} a second", figure(median(&told))),
            format!("{} keys that are not tracked", factor(median_ratio(&told, &silent))),
        );
    }
}
