//! `warm.on = ["schedule"]` and `pgevict pause`: warming when it is wanted, and not when it is not.

use crate::support::{PATIENCE, Setup, World};
use redis::Commands as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 30) n;
";

fn config(schedule: &str) -> String {
    format!(
        r#"
[cache.user]
key = "user:{{id}}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.startup.sql = "SELECT id FROM users"
warm.on = ["evict", "schedule"]
warm.schedule = {schedule}
[table.users]
evict = ["user"]
"#
    )
}

/// A window of three hours around now, or one that is as far away as it can be, on the clock of another zone than this machine's.
fn window(w: &World, open: bool) -> String {
    let at = |hours: u32| {
        w.value(&format!("SELECT to_char(now() AT TIME ZONE 'Asia/Kathmandu' + interval '{hours} hours', 'HH24:MI')"))
    };
    let (from, to) = if open { (23, 2) } else { (11, 14) };
    format!("{{ windows = [\"{}-{}\"], time_zone = \"Asia/Kathmandu\" }}", at(from), at(to))
}

fn users(w: &World) -> usize {
    w.redis().keys::<_, Vec<String>>("user:*").unwrap().len()
}

fn world(schedule: &str) -> World {
    let w = World::running(&Setup { config: &config(schedule), schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w
}

fn reload(w: &World, schedule: &str) {
    let mark = w.mark();
    w.write_config(&config(schedule));
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["the new configuration is live"]);
}

/// A day of the week that is neither today nor next to it, anywhere.
fn another_day() -> &'static str {
    let days = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    // The first day of the epoch was a Thursday.
    ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][((days + 3) % 7) as usize]
}

#[test]
fn in_its_window_what_is_absent_is_filled_once_and_outside_nothing_is() {
    let w = world(&format!("{{ windows = [\"00:00-24:00\"], days = [\"{}\"] }}", another_day()));
    let _: () = w.redis().set("user:7", "by the application").unwrap();
    reload(&w, &window(&w, false));
    // The clock is looked at once a second, and that nothing comes has to be waited for.
    std::thread::sleep(Duration::from_millis(2_200));
    let mark = w.mark();
    let _: () = w.redis().set("user:1", "cached").unwrap();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(users(&w), 2, "outside its window");
    let mark = w.mark();
    reload(&w, &window(&w, true));
    w.wait_line(mark, &["scheduled warming of user: 30 keys are named"]);
    w.wait_line(mark, &["scheduled warming of user: done"]);
    w.wait_keys("all users", |redis| redis.keys::<_, Vec<String>>("user:*").is_ok_and(|k| k.len() == 30));
    assert_eq!(w.redis().get::<_, String>("user:7").unwrap(), "by the application", "it was there");
    // One round a window: what goes afterwards is not filled by it.
    let mark = w.mark();
    let _: () = w.redis().del("user:3").unwrap();
    w.sql("UPDATE users SET name = 'newer' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(users(&w), 29);
}

/// Somebody who keeps Redis busy until it is dropped.
struct Busy(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Busy {
    fn with(w: &World) -> Self {
        let (go_on, mut redis) = (Arc::new(AtomicBool::new(true)), w.redis());
        let busy = go_on.clone();
        let thread = std::thread::spawn(move || {
            let mut pipeline = redis::pipe();
            for _ in 0..500 {
                pipeline.cmd("PING").ignore();
            }
            while busy.load(Ordering::Relaxed) {
                pipeline.exec(&mut redis).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self(go_on, Some(thread))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().map(std::thread::JoinHandle::join);
    }
}

fn ops(w: &World) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query(&mut w.redis()).unwrap();
    info.lines().find_map(|l| l.strip_prefix("instantaneous_ops_per_sec:")?.trim().parse().ok()).unwrap()
}

/// Redis counts over the last second and a half: that it is busy has to be waited for, and that nothing comes, too.
#[test]
fn while_redis_is_busy_nothing_is_filled_and_when_it_is_calm_the_round_goes_on() {
    let w =
        World::new(&Setup { config: &config("{ below_ops_per_second = 500 }"), schema: SCHEMA, ..Setup::default() });
    w.apply();
    let busy = Busy::with(&w);
    let deadline = Instant::now() + PATIENCE;
    // Far above the bound, so that it stays busy where the test gets a core seldom.
    while ops(&w) < 4_000 {
        assert!(Instant::now() < deadline, "Redis should be busy: {}", ops(&w));
        std::thread::sleep(Duration::from_millis(100));
    }
    w.start();
    w.wait_position();
    let mark = w.mark();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(ops(&w) >= 500, "the test is not busy enough: {}", ops(&w));
    assert_eq!(users(&w), 0, "it was filled although Redis was busy");
    drop(busy);
    w.wait_line(mark, &["scheduled warming of user: done"]);
    w.wait_keys("all users", |redis| redis.keys::<_, Vec<String>>("user:*").is_ok_and(|k| k.len() == 30));
}

#[test]
fn a_schedule_whose_query_fails_is_told_and_harms_nothing() {
    let w = world(&window_with_query("SELECT id, nothing FROM users"));
    w.wait_line(0, &["nothing is warmed by schedule", "warm.schedule of user", "42703"]);
    let mark = w.mark();
    let _: () = w.redis().set("user:1", "cached").unwrap();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: stored"]);
}

fn window_with_query(sql: &str) -> String {
    format!("{{ windows = [\"00:00-24:00\"], sql = \"{sql}\" }}")
}
