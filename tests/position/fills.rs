//! The fill script, and what the position's script writes for it.

use super::{direct, settings, take};
use pgevict::cli::demo::servers::Redis;
use pgevict::rules::snapshot::Snapshot;
use pgevict::sink::connect::connect;
use pgevict::sink::fill::{Fill, Filled, Filler, Refusal, SCRIPT, Shape};
use pgevict::sink::position::{Guard, Position};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands as _;
use std::time::{Duration, Instant};

const STATE: &str = "{pgevict}:position";

fn at(text: &str) -> Snapshot {
    text.parse().unwrap()
}

fn guard() -> Guard {
    Guard {
        history: "h1".into(),
        floor: at("10:10:"),
        caches: vec![("user".into(), "key"), ("stats".into(), "pattern")],
    }
}

async fn guarded(server: &Redis, nonce: &str) -> Position {
    let mut position = take(server, nonce).await;
    position.guard(Some(guard())).await.unwrap();
    position
}

/// One fill of `key`, and the script's word.
fn fill(server: &Redis, key: &str, token: &str, caches: &[(&str, &str)]) -> String {
    let mut eval = redis::cmd("EVAL");
    eval.arg(SCRIPT).arg(2).arg(STATE).arg(key).arg(token).arg(60_000).arg("value").arg("");
    caches.iter().for_each(|(cache, name)| {
        eval.arg(*cache).arg(*name);
    });
    eval.query(&mut direct(server)).unwrap()
}

#[tokio::test]
async fn a_fill_is_stored_only_if_it_has_seen_every_eviction_of_its_key() {
    let server = Redis::start(&[]).unwrap();
    let user = |token: &str| fill(&server, "user:7", token, &[("user", "")]);
    let stats = |token: &str| fill(&server, "stats:7:day", token, &[("stats", "stats:7:*")]);
    assert_eq!(user("h1/12:12:"), "unguarded", "without a position nobody evicts");
    let mut position = take(&server, "a").await;
    assert_eq!(user("h1/12:12:"), "unguarded", "a position alone guards nothing");
    position.guard(Some(guard())).await.unwrap();
    assert_eq!((user("h1/10:10:"), stats("h1/10:10:")), ("stored".into(), "stored".into()));
    assert!(direct(&server).pttl::<_, i64>("user:7").unwrap() > 50_000);
    position.tombstones.read_by(&at("10:13:11"));
    position.tombstones.bury(b"user:7", Instant::now());
    position.tombstones.bury(b"stats:7:*", Instant::now());
    position.step(&[b"user:7"], &[], |_| {}).await.unwrap();
    assert!(!direct(&server).exists::<_, bool>("user:7").unwrap());
    // 12 is the change. 11 still runs, so fills need not have seen it.
    for (token, word) in [
        ("h1/10:12:", "evicted"),
        ("h1/10:14:12", "evicted"),
        ("h1/11:11:", "evicted"),
        ("h1/10:13:11", "stored"),
        ("h1/13:13:", "stored"),
        ("h1/11:14:11,13", "stored"),
        ("h2/13:13:", "history"),
        ("", "no-token"),
        ("13:13:", "malformed"),
        ("h1/13:x:", "malformed"),
    ] {
        assert_eq!((user(token).as_str(), stats(token).as_str()), (word, word), "{token}");
    }
    // A key that was absent when its pattern was evicted is refused like one that was there.
    assert_eq!(fill(&server, "stats:7:new", "h1/10:12:", &[("stats", "stats:7:*")]), "evicted");
    assert_eq!(fill(&server, "stats:8:day", "h1/10:12:", &[("stats", "stats:8:*")]), "stored");
    // The floor is for what no tombstone names.
    assert_eq!(fill(&server, "user:8", "h1/9:9:", &[("user", "")]), "floor");
    position.tombstones.widen();
    position.entomb().await.unwrap();
    assert_eq!(fill(&server, "user:8", "h1/10:12:", &[("user", "")]), "floor");
    position.guard(None).await.unwrap();
    assert_eq!(user("h1/20:20:"), "unguarded");
    assert_eq!(direct(&server).hlen::<_, usize>(STATE).unwrap(), 1, "only the record stays");
}

#[tokio::test]
async fn a_fill_that_names_its_caches_wrong_is_refused() {
    let server = Redis::start(&[]).unwrap();
    let _position = guarded(&server, "a").await;
    for (key, caches, word) in [
        ("user:7", &[("usr", "")][..], "unguarded"),
        ("user:7", &[("user", ""), ("other", "")], "unguarded"),
        ("user:7", &[("user", "user:7")], "mismatch"),
        ("stats:7:day", &[("stats", "")], "mismatch"),
        ("stats:7:day", &[("stats", "stats:8:*")], "mismatch"),
        ("v1:stats:7:day", &[("stats", "stats:7:*")], "mismatch"),
        ("stats:7", &[("stats", "stats:7:*")], "mismatch"),
        ("stats:*:day", &[("stats", r"stats:\*:*")], "stored"),
        ("stats:7:day", &[("stats", "stats:7:day")], "stored"),
        ("stats:7:days", &[("stats", "stats:7:day")], "mismatch"),
        ("user:7", &[], "malformed"),
    ] {
        assert_eq!(fill(&server, key, "h1/12:12:", caches), word, "{key} {caches:?}");
    }
}

#[tokio::test]
async fn whoever_takes_over_drops_the_tombstones_and_stands_in_for_them_with_the_floor() {
    let server = Redis::start(&[]).unwrap();
    let mut first = guarded(&server, "a").await;
    first.tombstones.read_by(&at("20:20:"));
    (0..2_500).for_each(|n| first.tombstones.bury(format!("user:{n}").as_bytes(), Instant::now()));
    first.step(&[b"user:1"], &[], |_| {}).await.unwrap();
    assert!(direct(&server).hlen::<_, usize>(STATE).unwrap() > 2_500);
    let mut second = take(&server, "b").await;
    let guard = Guard { history: "h2".into(), floor: at("21:21:"), caches: vec![("user".into(), "key")] };
    second.guard(Some(guard)).await.unwrap();
    assert_eq!(direct(&server).hlen::<_, usize>(STATE).unwrap(), 4, "record, history, floor and one cache");
    assert_eq!(fill(&server, "user:1", "h2/20:20:", &[("user", "")]), "floor");
    assert_eq!(fill(&server, "user:1", "h1/21:21:", &[("user", "")]), "history");
    assert_eq!(fill(&server, "user:1", "h2/21:21:", &[("user", "")]), "stored");
    // Who was overtaken leaves no tombstone and no floor (HAZARDS B3).
    first.tombstones.bury(b"user:9", Instant::now());
    first.tombstones.raise(at("99:99:"));
    assert!(first.entomb().await.is_err());
    assert_eq!(direct(&server).hlen::<_, usize>(STATE).unwrap(), 4);
}

/// HAZARDS B4: lost together or not at all, also when Redis may write nothing new.
#[tokio::test]
async fn a_full_redis_still_gets_its_tombstones() {
    let server = Redis::start(&[]).unwrap();
    let mut position = guarded(&server, "a").await;
    let mut redis = direct(&server);
    let () = redis.set("user:7", "x".repeat(1000)).unwrap();
    for setting in [["maxmemory-policy", "noeviction"], ["maxmemory", "1"]] {
        redis::cmd("CONFIG").arg("SET").arg(&setting[..]).exec(&mut redis).unwrap();
    }
    position.tombstones.read_by(&at("20:20:"));
    position.tombstones.bury(b"user:7", Instant::now());
    assert_eq!(position.step(&[b"user:7"], &[], |_| {}).await.unwrap(), [true]);
    redis::cmd("CONFIG").arg("SET").arg(&["maxmemory", "0"]).exec(&mut redis).unwrap();
    assert_eq!(fill(&server, "user:7", "h1/19:19:", &[("user", "")]), "evicted");
    let () = redis.del(STATE).unwrap();
    assert_eq!(fill(&server, "user:7", "h1/99:99:", &[("user", "")]), "unguarded");
}

#[tokio::test]
async fn rust_fills_speak_the_scripts_words_and_give_their_lease_back() {
    let server = Redis::start(&[]).unwrap();
    let mut position = guarded(&server, "a").await;
    position.tombstones.read_by(&at("20:20:"));
    position.tombstones.bury(b"user:7", Instant::now());
    position.entomb().await.unwrap();
    let settings = settings(&server);
    let (filler, mut connection) = (Filler::new(&settings.state), connect(&settings).await.unwrap());
    let () = direct(&server).mset(&[("lease:7", "me"), ("lease:8", "other")]).unwrap();
    let mut one = Fill {
        key: b"user:7",
        value: b"\x00\xff",
        ttl: Duration::from_micros(1),
        token: Some("h1/19:19:"),
        shape: Shape::Text,
        caches: &[("user", None)],
        lease: Some((b"lease:7", b"me")),
    };
    assert_eq!(filler.fill(&mut connection, &one).await.unwrap(), Filled::Refused(Refusal::Evicted));
    (one.token, one.ttl) = (Some("h1/20:20:"), Duration::from_secs(9));
    one.lease = Some((b"lease:8", b"me"));
    assert_eq!(filler.fill(&mut connection, &one).await.unwrap(), Filled::Stored);
    assert_eq!(direct(&server).get::<_, Vec<u8>>("user:7").unwrap(), b"\x00\xff");
    let left: [bool; 2] = ["lease:7", "lease:8"].map(|k| direct(&server).exists(k).unwrap());
    assert_eq!(left, [false, true], "its own goes, also after a refusal; another's stays");
    one.token = None;
    assert_eq!(filler.fill(&mut connection, &one).await.unwrap(), Filled::Refused(Refusal::NoToken));
    let page = include_str!("../../docs/fills.md");
    for refusal in Refusal::ALL {
        assert!(SCRIPT.contains(&format!("'{refusal}'")) && page.contains(&format!("| `{refusal}` |")), "{refusal}");
    }
}

/// Snapshots as a primary makes them, with ids beyond 2^53: the id below an xmax has ended, unless nothing runs.
fn snapshots() -> impl Strategy<Value = Snapshot> {
    let base = prop_oneof![Just(95u64), Just(999_999_999_999_999_995), Just((1 << 53) - 3)];
    (base, 0u64..7, prop::collection::btree_set(0u64..7, 0..5)).prop_map(|(base, span, xip)| {
        let running: Vec<u64> = xip.into_iter().filter(|x| x + 1 < span).map(|x| base + x).collect();
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        let xmin = running.first().copied().unwrap_or(base + span);
        format!("{xmin}:{}:{}", base + span, list.join(",")).parse().unwrap()
    })
}

#[tokio::test]
async fn the_script_and_the_daemon_agree_about_what_a_snapshot_contains() {
    let server = Redis::start(&[]).unwrap();
    let _position = guarded(&server, "a").await;
    let redis = std::cell::RefCell::new(direct(&server));
    TestRunner::new(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(snapshots(), snapshots()), |(fill, floor)| {
            let mut redis = redis.borrow_mut();
            let () = redis.hset(STATE, "floor", floor.to_string()).unwrap();
            let mut call = redis::cmd("EVAL");
            call.arg(SCRIPT)
                .arg(2)
                .arg(STATE)
                .arg("user:7")
                .arg(format!("h1/{fill}"))
                .arg(&["1000", "v", "", "user", ""]);
            let word: String = call.query(&mut *redis).unwrap();
            prop_assert_eq!(word == "stored", fill.contains(&floor), "{} {}", fill, floor);
            Ok(())
        })
        .unwrap();
}
