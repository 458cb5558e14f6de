//! The live key index: patterns without a walk over the keyspace.

use crate::commands::ask;
use crate::support::{PATIENCE, Setup, World};
use redis::Commands as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SCHEMA: &str = "CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text); INSERT INTO posts SELECT i, i, 't' FROM generate_series(1, 50) i";
const CONFIG: &str = r#"
[cache.posts]
pattern = "posts:{user_id}:*"
[cache.by_tag]
pattern = "tags:{user_id}:*:{id}"
[table.posts]
evict = ["posts", "by_tag"]
"#;

fn world(config: &str) -> World {
    let w = World::running(&Setup { config, schema: SCHEMA, indexed_marker: true, ..Setup::default() });
    w.fill(&["posts:7:a", "posts:7:b", "posts:70:a", "posts:8:a", "tags:7:x:7", "tags:7:y:7", "tags:7:x:8", "other:7"]);
    w
}

fn change(id: u32) -> String {
    format!("UPDATE posts SET title = title || '.' WHERE id = {id}")
}

/// How many SCANs Redis has answered. Whoever asks is on a connection of its own.
fn scans(w: &World) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut w.redis()).unwrap();
    let of = stats.lines().find_map(|l| l.strip_prefix("cmdstat_scan:calls=")).unwrap_or("0,");
    of.split(',').next().unwrap().parse().unwrap()
}

fn wait_live(w: &World, mark: usize) {
    w.wait_line(mark, &["the key index is live"]);
    // The first flush may still walk; what is committed now travels behind it.
    w.drain();
}

/// Waits until the index holds as many keys as it should.
fn wait_index(w: &World, done: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut held = f64::MAX;
    while !done(held) {
        assert!(Instant::now() < deadline, "the index still holds {held} keys");
        let metrics = ask(&w.config_path().with_file_name("admin.sock"), "/metrics");
        let line = metrics.lines().find_map(|l| l.strip_prefix("pgevict_index_keys "));
        held = line.and_then(|v| v.parse().ok()).unwrap_or(f64::MAX);
    }
}

#[test]
fn once_it_is_live_a_pattern_needs_no_scan_and_deletes_exactly_its_keys() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    let before = scans(&w);
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
    w.check(&change(8), &["posts:8:a"]);
    w.check(
        "TRUNCATE posts",
        &["posts:7:a", "posts:7:b", "posts:70:a", "posts:8:a", "tags:7:x:7", "tags:7:y:7", "tags:7:x:8"],
    );
    assert_eq!(scans(&w), before);
}

#[test]
fn a_key_that_is_written_just_before_the_commit_is_found() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    let (mut redis, db) = (w.redis(), w.connect());
    let before = scans(&w);
    for n in 0..300 {
        // Acknowledged, then committed: the report may still be on its way when the change is read.
        let key = format!("posts:7:{n}");
        redis.set::<_, _, ()>(&key, "cached").unwrap();
        db.sql(&change(7));
        w.wait_gone(&[&key]);
    }
    assert_eq!(scans(&w), before);
}

#[test]
fn after_a_flush_of_redis_it_is_filled_again_and_nothing_is_missed() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    let mark = w.mark();
    // Of another database: a report without keys comes, and nothing has changed here.
    let mut other = redis::Client::open(w.redis.borrow().url(1)).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHDB").query::<()>(&mut other).unwrap();
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
    w.wait_line(mark, &["the key index is live"]);
    w.check(&change(8), &["posts:8:a"]);
    // Later than the 5 s in which nothing is walked again, it is filled at once, and that is said, too.
    std::thread::sleep(Duration::from_millis(5_500));
    let mark = w.mark();
    redis::cmd("FLUSHDB").query::<()>(&mut other).unwrap();
    w.wait_line(mark, &["the key index is live"]);
}

#[test]
fn when_its_connection_is_cut_a_walk_serves_until_it_is_filled_again() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    // A session that ends before that leaves the next one everything to flush.
    w.wait_position();
    for _ in 0..3 {
        let mark = w.mark();
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query::<i64>(&mut w.redis()).unwrap();
        w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
        w.wait_line(mark, &["the key index is live"]);
        w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
    }
}

/// What the index knows of a Redis is not true of the same Redis an hour before.
#[test]
fn what_a_roll_back_brings_back_is_found_again() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    w.wait_position();
    redis::cmd("SAVE").exec(&mut w.redis()).unwrap();
    let gone = ["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"];
    w.sql(&change(7));
    w.wait_gone(&gone);
    wait_index(&w, |keys| keys == 3.0);
    let mut server = w.redis.borrow_mut();
    server.kill();
    server.up().unwrap();
    drop(server);
    // The dump holds the keys, and a position from before the change.
    w.wait_gone(&gone);
}

#[test]
fn keys_that_expired_do_not_pile_up() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    let mut redis = w.redis();
    for n in 0..2_000 {
        redis.pset_ex::<_, _, ()>(format!("posts:1:{n}"), "cached", 50).unwrap();
    }
    wait_index(&w, |keys| keys < 100.0);
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
}

#[test]
fn a_whole_cache_that_somebody_deleted_is_soon_forgotten() {
    let w = world(CONFIG);
    wait_live(&w, 0);
    let mut redis = w.redis();
    let keys: Vec<(String, u8)> = (0..30_000).map(|n| (format!("posts:1:{n}"), 1)).collect();
    let () = redis.mset(&keys).unwrap();
    wait_index(&w, |held| held >= 30_000.0);
    let names: Vec<&String> = keys.iter().map(|(key, _)| key).collect();
    let () = redis.unlink(names).unwrap();
    wait_index(&w, |held| held < 100.0);
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
}

#[test]
fn a_full_index_is_dropped_and_walks_serve() {
    let w = world(&format!("[limits]\nindex_memory = \"20kB\"\n{CONFIG}"));
    wait_live(&w, 0);
    let mark = w.mark();
    let mut redis = w.redis();
    for n in 0..5_000u64 {
        redis.set::<_, _, ()>(format!("posts:1:{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), "cached").unwrap();
    }
    w.wait_line(mark, &["the key index is full"]);
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
}

/// The index goes while it answers: what it had not named yet must not pass for absent.
#[test]
fn an_index_that_fills_up_while_it_answers_leaves_the_rest_to_a_walk() {
    // The answer may be over before the index is full: then nothing was tried.
    assert!((0..6).any(|_| fills_up_while_it_answers()), "it was always over before the index was full");
}

/// Whether the index was full before the answer was over.
fn fills_up_while_it_answers() -> bool {
    // Over its limit, a pattern goes on in throttled slices: time enough for the index to fill up.
    let w = world(&format!("[limits]\nindex_memory = \"400kB\"\nmax_keys_per_change = 1\n{CONFIG}"));
    wait_live(&w, 0);
    let name = |n: u64| format!("posts:7:{n:05}");
    let mut redis = w.redis();
    let keys: Vec<(String, u8)> = (0..12_000).map(|n| (name(n), 1)).collect();
    let () = redis.mset(&keys).unwrap();
    wait_index(&w, |held| held >= 12_000.0);
    let mut others = redis::cmd("MSET");
    (0..40_000u64).for_each(|n| _ = others.arg(format!("posts:1:{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).arg(1));
    let others = others.get_packed_command();
    let mark = w.mark();
    w.sql(&change(7));
    w.wait_keys("the first slice", |redis| !redis.exists::<_, bool>(name(0)).unwrap());
    redis.send_packed_command(&others).unwrap();
    redis.recv_response().unwrap();
    w.wait_line(mark, &["the key index is full"]);
    let in_time = redis.exists::<_, bool>(name(11_999)).unwrap();
    // The walk that takes over goes on in slices, too; no marker travels behind it.
    let names: Vec<&String> = keys.iter().map(|(key, _)| key).collect();
    w.wait_keys("keys that the index had forgotten", |redis| redis.exists::<_, u64>(&names).unwrap() == 0);
    in_time
}

/// Two patterns of one statement that match the same keys: each key counts once for each.
#[test]
fn keys_that_two_patterns_match_are_counted_once_for_each() {
    let overlapping = r#"
        [limits]
        max_keys_per_change = 1500
        over_limit = "refuse"
        [cache.posts]
        pattern = "posts:{user_id}:*"
        [cache.first]
        pattern = "posts:{user_id}:a*"
        [table.posts]
        evict = ["posts", "first"]
    "#;
    let w = World::running(&Setup { config: overlapping, schema: SCHEMA, indexed_marker: true, ..Setup::default() });
    wait_live(&w, 0);
    // More than one page of the index.
    let keys: Vec<(String, u8)> = (0..1_200).map(|n| (format!("posts:7:a{n}"), 1)).collect();
    let () = w.redis().mset(&keys).unwrap();
    let mark = w.mark();
    w.sql(&change(7));
    // Kept until they are counted, they go with whichever pattern comes first.
    w.wait_line(mark, &["evict posts.update", "1200 deleted"]);
    w.wait_gone(&[&keys[0].0, &keys[1_199].0]);
}

/// A second client writes a key, gets its OK, then commits the change, thousands of times from several connections: while the index
/// is live, while it is broken and walks serve, and while a walk fills it again. Every try has a row and a pattern of its own: no
/// later change deletes what one has missed.
#[test]
fn no_key_that_was_written_before_its_commit_is_ever_missed() {
    const ROWS: usize = 200_000;
    const CLIENTS: usize = 4;
    let schema = SCHEMA.replace("(1, 50)", &format!("(1, {ROWS})"));
    let w = World::running(&Setup { config: CONFIG, schema: &schema, indexed_marker: true, ..Setup::default() });
    wait_live(&w, 0);
    let (tries, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| (w.redis(), w.connect())).collect();
    let mut other = redis::Client::open(w.redis.borrow().url(1)).unwrap().get_connection().unwrap();
    let (begun, before) = (Instant::now(), scans(&w));
    std::thread::scope(|scope| {
        for (client, (redis, db)) in connections.iter_mut().enumerate() {
            let (tries, stop) = (&tries, &stop);
            scope.spawn(move || {
                for id in (1 + client..=ROWS).step_by(CLIENTS).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    redis.set::<_, _, ()>(format!("posts:{id}:x"), "cached").unwrap();
                    redis.set::<_, _, ()>(format!("tags:{id}:y:{id}"), "cached").unwrap();
                    db.sql(&change(u32::try_from(id).unwrap()));
                    tries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = || {
            let (enough, deadline) = (tries.load(Ordering::Relaxed) + 1_000, Instant::now() + PATIENCE);
            while tries.load(Ordering::Relaxed) < enough {
                assert!(Instant::now() < deadline, "the writers stand still");
                std::thread::yield_now();
            }
        };
        more();
        assert_eq!(scans(&w), before, "the index answers");
        for _ in 0..2 {
            let mark = w.mark();
            // A report without a key: what the index knows is worth nothing any more.
            redis::cmd("FLUSHDB").query::<()>(&mut other).unwrap();
            more();
            w.wait_line(mark, &["the key index is live"]);
            more();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let tries = tries.into_inner();
    println!("{tries} tries took {:?}", begun.elapsed());
    assert!(tries < ROWS, "there were not rows enough");
    assert!(scans(&w) > before, "walks served");
    w.drain();
    // A walk may still be under way; nothing comes behind it that would delete what one has missed.
    let left = || -> Vec<String> { w.redis().keys("[pt][oa][sg]*s:*[xy]*").unwrap() };
    w.wait_keys("every key to go", |_| left().is_empty());
}

#[test]
fn what_is_not_to_be_tracked_is_found_by_a_walk() {
    // Of one cache: three keys of the other one are held. What the harness itself waits for walks for nothing.
    let untracked = CONFIG.replace("user_id}:*\"", "user_id}:*\"\nindex = false");
    let w = world(&untracked);
    wait_live(&w, 0);
    wait_index(&w, |held| held == 3.0);
    let before = scans(&w);
    w.sql(&change(7));
    w.wait_gone(&["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
    assert!(scans(&w) > before);
    // Of all: nobody is asked to report anything.
    let w = World::running(&Setup {
        config: &format!("[limits]\nindex_memory = \"0B\"\n{CONFIG}"),
        schema: SCHEMA,
        ..Setup::default()
    });
    w.fill(&["posts:7:a", "posts:7:b", "posts:8:a", "tags:7:x:7", "tags:7:y:7"]);
    w.check(&change(7), &["posts:7:a", "posts:7:b", "tags:7:x:7", "tags:7:y:7"]);
    let clients: String = redis::cmd("INFO").arg("clients").query(&mut w.redis()).unwrap();
    assert!(clients.contains("tracking_clients:0"), "{clients}");
}

#[test]
fn a_user_who_may_not_track_is_served_by_walks_and_the_log_says_so() {
    let mut w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    redis::cmd("ACL")
        .arg(&["SETUSER", "walker", "on", ">walks", "~*", "&*", "+@all", "-client", "+client|setname"])
        .query::<()>(&mut w.redis())
        .unwrap();
    let url = w.redis.borrow().url(0).replace("redis://", "redis://walker:walks@");
    w.set_env("PGEVICT_REDIS__URL", &url);
    w.apply();
    w.start();
    w.wait_line(0, &["Redis does not report its keys", "NOPERM"]);
    w.fill(&["posts:7:a", "posts:8:a"]);
    w.check(&change(7), &["posts:7:a"]);
}
