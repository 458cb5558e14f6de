//! The script that deletes and moves the position, against a real Redis: what it must never do, and under what
//! circumstances it must still work.

use pgevict::cli::demo::servers::Redis;
use pgevict::config::model;
use pgevict::config::redis_url;
use pgevict::flow::record::Record;
use pgevict::sink::connect::connect;
use pgevict::sink::position::{Fault, Position, remember};
use redis::Commands as _;

#[path = "position/fills.rs"]
mod fills;

fn settings(server: &Redis) -> model::Redis {
    model::Redis { url: redis_url::parse(&server.url(0)).unwrap(), state: "{pgevict}".into() }
}

fn direct(server: &Redis) -> redis::Connection {
    redis::Client::open(server.url(0)).unwrap().get_connection().unwrap()
}

fn record() -> Record {
    let mut record = Record::new("1/2".into(), "00000001".into(), "n/3".into());
    record.pos = Some("10:10:".parse().unwrap());
    record
}

async fn take(server: &Redis, nonce: &str) -> Position {
    let settings = settings(server);
    let mut connection = connect(&settings).await.unwrap();
    let found = remember(&mut connection, &settings.state).await.unwrap().record;
    Position::take(connection, &settings.state, found, record(), nonce.into()).await.unwrap()
}

#[tokio::test]
async fn keys_go_and_what_was_there_is_told_apart_from_what_was_not() {
    let server = Redis::start(&[]).unwrap();
    let mut position = take(&server, "a").await;
    let () = direct(&server).set("here", 1).unwrap();
    position.heartbeat().await.unwrap();
    assert!(!direct(&server).exists::<_, bool>("{pgevict}:alive").unwrap(), "nobody vouched for the caches yet");
    position.vouch(true);
    assert_eq!(position.step(&[b"here", b"not"], &[], |_| {}).await.unwrap(), [true, false]);
    assert!(direct(&server).exists::<_, bool>("{pgevict}:alive").unwrap());
}

#[tokio::test]
async fn whoever_was_overtaken_changes_nothing() {
    let server = Redis::start(&[]).unwrap();
    let mut first = take(&server, "a").await;
    let mut second = take(&server, "b").await;
    first.vouch(true);
    let () = direct(&server).mset(&[("k", 1), ("{pgevict}:alive", 1)]).unwrap();
    let () = direct(&server).del("{pgevict}:alive").unwrap();
    let outcome = first.step(&[b"k"], &[("edges", "{}")], |r| r.beacon = 99).await;
    assert!(matches!(outcome, Err(Fault::Moved(found)) if found.contains("b-1")));
    assert!(matches!(first.heartbeat().await, Err(Fault::Moved(_))));
    let mut redis = direct(&server);
    assert!(redis.exists::<_, bool>("k").unwrap(), "it deleted");
    assert!(!redis.exists::<_, bool>("{pgevict}:alive").unwrap(), "it said that it was alive");
    assert!(!redis.hexists::<_, _, bool>("{pgevict}:position", "edges").unwrap(), "it remembered");
    second.step(&[b"k"], &[], |_| {}).await.unwrap();
}

/// A record that is made beforehand is one of its moment: what moved since must not go back with it.
#[tokio::test]
async fn what_was_prepared_before_the_position_moved_does_not_take_it_back() {
    let server = Redis::start(&[]).unwrap();
    let (mut position, mut redis) = (take(&server, "a").await, direct(&server));
    let mut stands = || Record::parse(&redis.hget::<_, _, String>("{pgevict}:position", "rec").unwrap()).unwrap();
    position.prepare();
    position.delete(&[b"k"]).await.unwrap();
    assert_eq!((stands(), stands().beacon), (position.record().clone(), 0));
    position.prepare();
    position.step(&[], &[], |r| (r.beacon, r.pos) = (7, Some("20:20:".parse().unwrap()))).await.unwrap();
    position.delete(&[b"k"]).await.unwrap();
    assert_eq!(stands(), *position.record());
    assert_eq!((stands().beacon, stands().pos), (7, Some("20:20:".parse().unwrap())));
}

#[tokio::test]
async fn a_roll_back_to_any_earlier_step_is_noticed() {
    let server = Redis::start(&[]).unwrap();
    let mut position = take(&server, "a").await;
    let mut redis = direct(&server);
    let mut earlier: Vec<String> = vec![redis.hget("{pgevict}:position", "rec").unwrap()];
    for _ in 0..5 {
        position.step(&[b"k"], &[], |_| {}).await.unwrap();
        earlier.push(redis.hget("{pgevict}:position", "rec").unwrap());
    }
    let newest = earlier.pop().unwrap();
    for old in earlier {
        assert_ne!(old, newest, "two steps look the same");
        let () = redis.hset("{pgevict}:position", "rec", &old).unwrap();
        assert!(matches!(position.step(&[b"k"], &[], |_| {}).await, Err(Fault::Moved(_))));
    }
    let () = redis.del("{pgevict}:position").unwrap();
    assert!(matches!(position.heartbeat().await, Err(Fault::Moved(found)) if found.is_empty()));
}

/// HAZARDS R5: MULTI would be refused as a whole, and the stale key served on.
#[tokio::test]
async fn a_full_redis_still_deletes_moves_and_stays_alive() {
    let server = Redis::start(&[]).unwrap();
    let mut position = take(&server, "a").await;
    let mut redis = direct(&server);
    let () = redis.set("stale", "x".repeat(1000)).unwrap();
    for setting in [["maxmemory-policy", "noeviction"], ["maxmemory", "1"]] {
        redis::cmd("CONFIG").arg("SET").arg(&setting[..]).exec(&mut redis).unwrap();
    }
    assert!(redis.set::<_, _, ()>("more", 1).is_err(), "it is not full");
    assert_eq!(position.step(&[b"stale"], &[("edges", "{}")], |r| r.beacon = 7).await.unwrap(), [true]);
    position.heartbeat().await.unwrap();
    assert_eq!(position.record().beacon, 7);
}

/// A restart or SCRIPT FLUSH forgets scripts; what was called is called again with it, once.
#[tokio::test]
async fn a_redis_that_has_forgotten_the_script_is_told_it_again() {
    let server = Redis::start(&[]).unwrap();
    let mut position = take(&server, "a").await;
    let mut redis = direct(&server);
    for _ in 0..2 {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
        let () = redis.set("k", 1).unwrap();
        assert_eq!(position.step(&[b"k"], &[], |_| {}).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn a_replica_is_refused_with_a_remedy() {
    let server = Redis::start(&[]).unwrap();
    let mut position = take(&server, "a").await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut direct(&server)).unwrap();
    let fault = position.step(&[b"k"], &[], |_| {}).await.unwrap_err().to_string();
    assert!(fault.contains("READONLY") && fault.contains("point redis.url at the master"), "{fault}");
}
