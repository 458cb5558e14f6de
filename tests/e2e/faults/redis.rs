//! Every fault of Redis has a verdict: what the daemon says, that it is not ready while the fault lasts, that it goes on afterwards, and that no
//! stale key is left.

use super::{CHANGE, GONE, fill, setup, world};
use crate::support::proxy::{Dice, Proxy};
use crate::support::{Setup, World};
use pgevict::cli::demo::servers::Redis;
use rand::Rng as _;
use redis::Commands as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A command of an operator, words split at blanks.
#[track_caller]
fn tell(redis: &mut redis::Connection, command: &str) -> redis::Value {
    let mut words = command.split_whitespace();
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|w| {
        cmd.arg(w);
    });
    cmd.query(redis).unwrap_or_else(|e| panic!("{command}: {e}"))
}

fn config(w: &World, setting: &str) {
    tell(&mut w.redis(), &format!("CONFIG SET {setting}"));
}

/// The verdict while the fault lasts: a line that says what, where and what to do; not ready, with the same reason, at
/// every moment; `alive` lapses.
#[track_caller]
fn refused(w: &World, mark: usize, what: &str, remedy: &str) {
    let line = w.wait_line(mark, &["Redis down", what, remedy]);
    let url = w.env.iter().find(|(n, _)| n == "PGEVICT_REDIS__URL").unwrap().1.clone();
    let place = url.rsplit('@').next().unwrap().trim_start_matches("redis://");
    assert!(line.contains(place), "where is not said ({place}): {line}");
    let not_ready = || {
        let ran = w.pgevict(&["ready"]).exits(1);
        assert!(ran.out.contains(what), "the reason is not said ({what}): {}", ran.out);
    };
    // What broke the connection may be told first; from the refusal on, every answer is the same.
    until("`ready` to say why", || w.pgevict(&["ready"]).out.contains(what));
    // Longer than `alive` lives: nothing may refresh it, not even a session that opens well and breaks at its first delete.
    let mut redis = w.redis();
    let (until, mut left) = (Instant::now() + Duration::from_secs(6), i64::MAX);
    for round in 0.. {
        let now: i64 = redis.pttl("{pgevict}:alive").unwrap();
        assert!(now <= left, "alive was refreshed: {now} ms after {left} ms");
        left = now;
        if round % 20 == 0 {
            not_ready();
        }
        if Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(left < 0, "alive lives for another {left} ms");
    not_ready();
}

/// A fault that is there from `begin` to `end`: a change meanwhile is refused with a verdict, and goes afterwards.
#[track_caller]
fn verdict(w: &World, what: &str, remedy: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    w.check_after(what, &GONE, || {
        let mark = w.mark();
        begin();
        w.sql(CHANGE);
        refused(w, mark, what, remedy);
        end();
        w.wait_gone(&GONE);
    });
    w.wait_ready();
    w.wait_keys("readers to trust the caches again", |redis| redis.exists("{pgevict}:alive").unwrap_or(false));
    w.check(CHANGE, &GONE);
    assert!(!w.daemon(|d| d.ended()));
}

fn version(w: &World) -> String {
    redis::cmd("INFO").arg("server").query(&mut w.redis()).unwrap()
}

/// Redis 6.2 does not apply these refusals to what a script does.
fn lets_scripts_write(w: &World) -> bool {
    version(w).contains("redis_version:6.")
}

#[test]
fn a_redis_that_comes_back_from_an_old_dump_is_healed_by_replay() {
    let w = world(&setup());
    redis::cmd("SAVE").exec(&mut w.redis()).unwrap();
    w.check(CHANGE, &GONE);
    w.redis.borrow_mut().kill();
    w.redis.borrow_mut().up().unwrap();
    // The dump has brought the deleted keys back, and the position with them.
    w.wait_gone(&GONE);
    w.drain();
    assert_eq!(w.missing(), GONE.map(String::from).into());
}

#[test]
fn a_redis_that_comes_back_empty_gets_a_new_position() {
    let w = world(&setup());
    w.redis.borrow_mut().kill();
    w.redis.borrow_mut().up().unwrap();
    w.drain();
    w.wait_ready();
    w.check(CHANGE, &GONE);
}

#[test]
fn a_position_that_is_flushed_deleted_or_evicted_is_noticed_and_everything_is_flushed() {
    let w = world(&setup());
    let all = [&GONE[..], &["user:2", "posts:2:a"]].concat();
    for (what, lose) in [
        (
            "DEL",
            &(|r: &mut redis::Connection| tell(r, "DEL {pgevict}:position")) as &dyn Fn(&mut redis::Connection) -> _,
        ),
        ("RENAME", &|r| tell(r, "RENAME {pgevict}:position elsewhere")),
        ("an expiry", &|r| tell(r, "PEXPIRE {pgevict}:position 1")),
    ] {
        w.check_after(what, &all, || {
            let mark = w.mark();
            lose(&mut w.redis());
            w.wait_line(mark, &["flush of", "Redis holds no position"]);
            w.wait_gone(&["user:2"]);
        });
        w.wait_position();
    }
    // Memory so short that any key may go, the position too.
    config(&w, "maxmemory-policy allkeys-random");
    let mark = w.mark();
    config(&w, "maxmemory 1");
    let mut redis = w.redis();
    let deadline = Instant::now() + crate::support::PATIENCE;
    while redis.exists::<_, bool>("{pgevict}:position").unwrap_or(true) {
        assert!(Instant::now() < deadline, "Redis evicts nothing");
        let _: Result<(), _> = redis.set("filler", "x");
    }
    config(&w, "maxmemory 0");
    w.wait_line(mark, &["flush of", "Redis holds no position"]);
    w.wait_ready();
    w.wait_position();
    w.check(CHANGE, &GONE);
    tell(&mut w.redis(), "FLUSHALL");
    w.drain();
    w.wait_ready();
    w.check(CHANGE, &GONE);
}

/// Every file of a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
}

#[test]
fn a_log_of_commands_that_was_cut_anywhere_leaves_no_stale_key() {
    let w = World::running(&Setup { redis: &[("appendonly", "yes")], ..setup() });
    w.wait_position();
    let mut dice = Dice::new();
    for round in 0..4 {
        // What an application does: caches what the database says, changes it, caches again.
        for _ in 0..10 {
            let id = dice.0.random_range(1..=9);
            let name = w.value(&format!("SELECT name FROM users WHERE id = {id}"));
            w.redis().set::<_, _, ()>(format!("user:{id}"), name).unwrap();
            w.sql(&format!("UPDATE users SET name = name || '{round}' WHERE id = {id}"));
        }
        w.drain();
        let mut server = w.redis.borrow_mut();
        server.kill();
        let log = files(server.folder()).into_iter().filter(|p| p.to_string_lossy().ends_with(".aof"));
        let log = log.max_by_key(|p| std::fs::metadata(p).unwrap().modified().unwrap()).unwrap();
        let whole = std::fs::metadata(&log).unwrap().len();
        let rest = dice.0.random_range(whole / 2..whole);
        println!("round {round}: {} cut from {whole} to {rest}", log.display());
        std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(rest).unwrap();
        server.up().unwrap();
        drop(server);
        w.drain();
        for id in 1..=9 {
            let cached: Option<String> = w.redis().get(format!("user:{id}")).unwrap();
            let truth = w.value(&format!("SELECT name FROM users WHERE id = {id}"));
            assert!(cached.as_ref().is_none_or(|c| *c == truth), "user:{id} is {cached:?}, the database says {truth}");
        }
        w.wait_ready();
    }
}

/// A second server that follows the first through a link that can break.
fn replica_of(w: &World) -> (Redis, Proxy) {
    let link = Proxy::before(&w.redis.borrow().url(0));
    let replica = Redis::start(&[("notify-keyspace-events", "EA")]).unwrap();
    let mut there = connect(&replica);
    let place = link.url("127.0.0.1:1");
    tell(&mut there, &format!("REPLICAOF {}", place.replace(':', " ")));
    until("the replica to follow", || info(&mut there, "replication").contains("master_link_status:up"));
    (replica, link)
}

fn connect(server: &Redis) -> redis::Connection {
    redis::Client::open(server.url(0)).unwrap().get_connection().unwrap()
}

fn info(redis: &mut redis::Connection, section: &str) -> String {
    redis::cmd("INFO").arg(section).query(redis).unwrap()
}

/// Redis tells nobody about its replication; asked in short intervals.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A world whose daemon finds Redis by a name that can lead elsewhere.
fn world_with_a_name() -> (World, Proxy) {
    let mut w = World::new(&setup());
    w.apply();
    let url = w.redis.borrow().url(0);
    let name = Proxy::before(&url);
    w.set_env("PGEVICT_REDIS__URL", &name.url(&url));
    w.start();
    w.wait_position();
    fill(&w);
    (w, name)
}

#[test]
fn a_promoted_replica_that_missed_deletes_is_healed_by_replay() {
    let (w, name) = world_with_a_name();
    let (replica, link) = replica_of(&w);
    let mut there = connect(&replica);
    until("the keys to be copied", || there.exists(&GONE[..]).unwrap_or(false));
    link.inflict(crate::support::proxy::Fault::Silent);
    w.check(CHANGE, &GONE);
    assert!(there.exists::<_, bool>("user:1").unwrap(), "the replica has heard of the delete: nothing is tested");
    tell(&mut there, "REPLICAOF NO ONE");
    name.lead_to(&replica.url(0));
    let old = w.redis.replace(replica);
    drop(old);
    // The acknowledged deletes are lost on the history that survives, and the position with them.
    w.wait_gone(&GONE);
    w.drain();
    assert_eq!(w.missing(), GONE.map(String::from).into());
    w.wait_ready();
    w.check(CHANGE, &GONE);
}

#[test]
fn a_demoted_master_is_left_for_the_new_one() {
    let (w, name) = world_with_a_name();
    let (replica, _link) = replica_of(&w);
    let mut there = connect(&replica);
    tell(&mut there, "REPLICAOF NO ONE");
    let mark = w.mark();
    let place = replica.url(0).trim_start_matches("redis://").trim_end_matches("/0").replace(':', " ");
    tell(&mut w.redis(), &format!("REPLICAOF {place}"));
    w.sql(CHANGE);
    refused(&w, mark, "READONLY", "point redis.url at the master");
    let mark = w.mark();
    name.lead_to(&replica.url(0));
    let old = w.redis.replace(replica);
    w.wait_line(mark, &["Redis connected"]);
    w.wait_gone(&GONE);
    w.wait_ready();
    w.check(CHANGE, &GONE);
    drop(old);
}

#[test]
fn a_replica_without_its_master_is_not_worked_with() {
    let w = world(&setup());
    config(&w, "replica-serve-stale-data no");
    let mut redis = w.redis();
    w.check_after("MASTERDOWN", &GONE, || {
        let mark = w.mark();
        tell(&mut redis, "REPLICAOF 127.0.0.1 1");
        w.sql(CHANGE);
        w.wait_line(mark, &["Redis down", "point redis.url at the master"]);
        let ran = w.pgevict(&["ready"]).exits(1);
        assert!(ran.out.contains("MASTERDOWN") || ran.out.contains("READONLY"), "{}", ran.out);
        tell(&mut redis, "REPLICAOF NO ONE");
        w.wait_gone(&GONE);
    });
    w.wait_ready();
}

#[test]
fn a_redis_that_loads_its_data_is_waited_for() {
    // A big value a second, until the test has seen enough; Redis answers others every 2 MB.
    let w = world(&Setup { redis: &[("key-load-delay", "1000000"), ("rdbcompression", "no")], ..setup() });
    let mut redis = w.redis();
    for n in 0..24 {
        redis.set::<_, _, ()>(format!("big:{n}"), vec![b'x'; 1 << 20]).unwrap();
    }
    redis::cmd("SAVE").exec(&mut redis).unwrap();
    w.check(CHANGE, &GONE);
    w.redis.borrow_mut().kill();
    let (mark, url) = (w.mark(), w.redis.borrow().url(0));
    let mut borrowed = w.redis.borrow_mut();
    let server = &mut *borrowed;
    std::thread::scope(|threads| {
        let up = threads.spawn(move || server.up().unwrap());
        w.wait_line(mark, &["Redis down", "LOADING", "it is tried again"]);
        assert_eq!(w.pgevict(&["ready"]).code, Some(1));
        assert!(!up.is_finished(), "it was loaded before anybody could ask");
        let mut loading = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
        tell(&mut loading, "CONFIG SET key-load-delay 0");
        up.join().unwrap();
    });
    drop(borrowed);
    w.wait_gone(&GONE);
    w.drain();
    assert_eq!(w.missing(), GONE.map(String::from).into());
    w.wait_ready();
}

#[test]
fn a_redis_without_memory_still_evicts_and_moves_the_position() {
    let w = world(&setup());
    w.check_after("OOM under noeviction", &GONE, || {
        config(&w, "maxmemory 1");
        assert!(w.redis().set::<_, _, ()>("more", "x").unwrap_err().to_string().contains("OOM"));
        w.sql(CHANGE);
        w.wait_gone(&GONE);
        w.pgevict(&["ready"]).exits(0);
        // Also a daemon that starts now, and goes on from there: the position has moved.
        w.restart();
        config(&w, "maxmemory 0");
    });
    w.check_after("a restart", &[], || w.restart());
}

#[test]
fn a_redis_that_cannot_save_its_dump_is_waited_for() {
    let w = world(&Setup { redis: &[("save", "3600 1000000")], ..setup() });
    if lets_scripts_write(&w) {
        return;
    }
    // A folder stands where the dump should be: the disk is full, or not ours.
    let dump = w.redis.borrow().folder().join("dump.rdb");
    let saved = |w: &World, how: &str| {
        let mut redis = w.redis();
        tell(&mut redis, "BGSAVE");
        until("the dump to end", || {
            let info = info(&mut redis, "persistence");
            info.contains("rdb_bgsave_in_progress:0") && info.contains(&format!("rdb_last_bgsave_status:{how}"))
        });
    };
    let begin = || {
        std::fs::create_dir(&dump).unwrap();
        saved(&w, "err");
    };
    let end = || {
        std::fs::remove_dir(&dump).unwrap();
        saved(&w, "ok");
    };
    verdict(&w, "MISCONF", "mend its disk", begin, end);
}

#[test]
fn a_redis_without_enough_replicas_is_waited_for() {
    let w = world(&setup());
    if lets_scripts_write(&w) {
        return w.check_after("NOREPLICAS on 6.2", &GONE, || {
            config(&w, "min-replicas-to-write 1");
            w.sql(CHANGE);
            w.wait_gone(&GONE);
            config(&w, "min-replicas-to-write 0");
        });
    }
    verdict(
        &w,
        "NOREPLICAS",
        "bring the replicas back",
        || config(&w, "min-replicas-to-write 1"),
        || config(&w, "min-replicas-to-write 0"),
    );
}

/// A world whose daemon logs in as a user of its own.
fn world_with_a_user() -> World {
    let mut w = World::new(&setup());
    tell(&mut w.redis(), "ACL SETUSER daemon on >right ~* +@all");
    let url = w.redis.borrow().url(0).replace("redis://", "redis://daemon:right@");
    w.set_env("PGEVICT_REDIS__URL", &url);
    w.apply();
    w.start();
    w.wait_position();
    fill(&w);
    w
}

/// Rights and passwords count at the next log-in at the latest.
fn acl(w: &World, rule: &str) {
    tell(&mut w.redis(), &format!("ACL SETUSER daemon {rule}"));
    tell(&mut w.redis(), "CLIENT KILL USER daemon");
}

#[test]
fn a_wrong_password_that_is_repaired_later_needs_no_restart() {
    let w = world_with_a_user();
    let remedy = "correct redis.password or the ACL user";
    // The client says in words of its own what the server calls WRONGPASS.
    verdict(&w, "uthentication", remedy, || acl(&w, "resetpass >other"), || acl(&w, ">right"));
    verdict(&w, "uthentication", remedy, || acl(&w, "off"), || acl(&w, "on"));
}

#[test]
fn a_password_that_is_asked_for_suddenly_needs_no_restart() {
    let w = world(&setup());
    let mut admin = w.redis();
    w.check_after("NOAUTH", &GONE, || {
        let mark = w.mark();
        tell(&mut admin, "CONFIG SET requirepass secret");
        tell(&mut admin, "CLIENT KILL TYPE normal SKIPME yes");
        // The connection that hears which keys change counts as a subscriber.
        tell(&mut admin, "CLIENT KILL TYPE pubsub");
        w.sql(CHANGE);
        w.wait_line(mark, &["Redis down", "the server wants a password"]);
        assert!(w.pgevict(&["ready"]).exits(1).out.contains("NOAUTH"));
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(&mut admin).unwrap();
        w.wait_gone(&GONE);
    });
    w.wait_ready();
}

macro_rules! commands_that_may_be_forbidden {
    ($($name:ident: $command:expr;)*) => {
        mod a_right_that_is_missing_and_given_later_needs_no_restart {
            $( #[test] fn $name() { super::forbidden($command); } )*
        }
    };
}

commands_that_may_be_forbidden! {
    ping: "ping";
    hmget: "hmget";
    hget: "hget";
    hset: "hset";
    set: "set";
    unlink: "unlink";
    evalsha: "evalsha";
    script: "script";
    scan: "scan";
}

fn forbidden(command: &str) {
    let w = world_with_a_user();
    let remedy = "the ACL user lacks a right: `pgevict check` prints the line to set";
    let begin = || {
        acl(&w, &format!("-{command}"));
        // It is loaded only when the server does not have it yet.
        tell(&mut w.redis(), "SCRIPT FLUSH");
    };
    // NOPERM, or one of the wordings for what a script may not do.
    verdict(&w, "Redis", remedy, begin, || acl(&w, &format!("+{command}")));
}

#[test]
fn keys_that_are_forbidden_and_allowed_later_need_no_restart() {
    let w = world_with_a_user();
    let remedy = "the ACL user lacks a right: `pgevict check` prints the line to set";
    verdict(&w, "NOPERM", remedy, || acl(&w, "resetkeys ~{pgevict}:*"), || acl(&w, "~*"));
}

#[test]
fn a_command_that_nothing_needs_may_stay_forbidden() {
    let w = world_with_a_user();
    acl(&w, "-info");
    w.check(CHANGE, &GONE);
    w.wait_ready();
}

#[test]
fn killed_connections_are_replaced() {
    let w = world(&setup());
    for _ in 0..3 {
        w.check_after("a change while all clients are killed", &GONE, || {
            tell(&mut w.redis(), "CLIENT KILL TYPE normal SKIPME yes");
            tell(&mut w.redis(), "CLIENT KILL TYPE pubsub");
            w.sql(CHANGE);
        });
    }
    w.wait_ready();
}

#[test]
fn a_server_that_takes_no_more_connections_is_waited_for() {
    let w = world(&setup());
    let mut admin = w.redis();
    w.check_after("maxclients", &GONE, || {
        let mark = w.mark();
        tell(&mut admin, "CONFIG SET maxclients 1");
        tell(&mut admin, "CLIENT KILL TYPE normal SKIPME yes");
        // The connection that hears which keys change counts as a subscriber.
        tell(&mut admin, "CLIENT KILL TYPE pubsub");
        w.sql(CHANGE);
        w.wait_line(mark, &["Redis down", "maxclients"]);
        tell(&mut admin, "CONFIG SET maxclients 1000");
        w.wait_gone(&GONE);
    });
    w.wait_ready();
}

#[test]
fn a_short_pause_of_redis_ends_no_session_and_a_long_one_is_a_dead_peer() {
    let w = world(&setup());
    let mark = w.mark();
    for kind in ["WRITE", "ALL"] {
        w.check_after("CLIENT PAUSE", &GONE, || {
            tell(&mut w.redis(), &format!("CLIENT PAUSE 1500 {kind}"));
            w.sql(CHANGE);
            w.wait_gone(&GONE);
        });
    }
    assert!(!w.daemon(|d| d.log().tail(1000)).contains("Redis down"), "{mark}");
    w.check_after("a long CLIENT PAUSE", &GONE, || {
        let mark = w.mark();
        tell(&mut w.redis(), "CLIENT PAUSE 60000 WRITE");
        w.sql(CHANGE);
        let line = w.wait_line(mark, &["Redis down", "no answer within 10s"]);
        assert!(line.contains("frozen or busy"), "{line}");
        tell(&mut w.redis(), "CLIENT UNPAUSE");
        w.wait_gone(&GONE);
    });
    w.wait_ready();
}
