//! analyses: every row of the recipe's table.

use crate::support::{Delivery, Setup, World, over_both_deliveries, without_repeats};
use redis::Commands as _;

const CONFIG: &str = include_str!("config.toml");
const SCHEMA: &str = include_str!("schema.sql");

/// What goes for user 7 and his analysis 41.
const OF_41: [&str; 6] = [
    "user_dashboard:7",
    "user_analytics:7",
    "user_stats:7:week",
    "user_stats:7:month:2026-06",
    "user_preferences:7",
    "analysis_result:41",
];

fn world(delivery: Delivery) -> World {
    let config = without_repeats(CONFIG);
    let w = World::running(&Setup { config: &config, ..setup(delivery) });
    w.sql("INSERT INTO analyses (id, user_id) VALUES (41, 7), (42, 8)");
    w.drain();
    fill(&w);
    w
}

fn fill(w: &World) {
    w.fill(&OF_41);
    w.fill(&[
        "user_dashboard:8",
        "user_stats:8:week",
        "user_preferences:8",
        "analysis_result:42",
        "user_stats:77:week",
    ]);
}

fn setup(delivery: Delivery) -> Setup<'static> {
    Setup { delivery, config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

/// The recipe with what it says about warming.
fn warming() -> World {
    let config = without_repeats(CONFIG).replace("# warm.", "warm.");
    assert!(config.contains("\nwarm.sql"));
    let w = World::running(&Setup { config: &config, ..setup(Delivery::Journal) });
    w.wait_position();
    w.sql("INSERT INTO analyses (id, user_id, status) VALUES (41, 7, 'processing')");
    w.drain();
    w
}

/// What the service was there for: the worker has never heard of the cache, and the page is right when the user looks.
#[test]
fn when_the_worker_is_done_the_dashboard_says_so_before_anybody_looks() {
    let w = warming();
    let _: () = w.redis().set("user_dashboard:7", r#"{"readings" : 0}"#).unwrap();
    w.sql("UPDATE analyses SET status = 'completed' WHERE id = 41");
    w.wait_keys("the reading", |redis| {
        redis.get::<_, Option<String>>("user_dashboard:7").is_ok_and(|v| v.as_deref() == Some(r#"{"readings" : 1}"#))
    });
}

#[test]
fn a_refresh_that_is_forced_leaves_no_gap() {
    let w = warming();
    let _: () = w.redis().set("user_dashboard:7", "wrong, for whatever reason").unwrap();
    let mut listener = w.redis();
    listener.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut events = listener.as_pubsub();
    events.psubscribe("__keyevent@0__:*").unwrap();
    w.pgevict(&["warm", "user_dashboard", "user_id=7"]).exits(0);
    assert_eq!(w.redis().get::<_, String>("user_dashboard:7").unwrap(), r#"{"readings" : 0}"#);
    let _: () = w.redis().del("user_dashboard:7").unwrap();
    let mut told: Vec<String> = Vec::new();
    while told.last().is_none_or(|t| t != "del") {
        let event = events.get_message().unwrap();
        if event.get_payload::<String>().unwrap() == "user_dashboard:7" {
            told.push(event.get_channel_name().rsplit(':').next().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(told, ["set", "expire", "del"], "the last one is the test's");
}

over_both_deliveries! {
    every_step_of_an_analysis_evicts_what_shows_it
    progress_alone_evicts_nothing
    one_users_dashboard_can_be_evicted_by_hand
}

fn every_step_of_an_analysis_evicts_what_shows_it(delivery: Delivery) {
    let w = world(delivery);
    w.sql("DELETE FROM analyses WHERE id = 41");
    w.drain();
    w.check("INSERT INTO analyses (id, user_id) VALUES (41, 7)", &OF_41);
    for status in ["processing", "completed", "failed"] {
        w.check(&format!("UPDATE analyses SET status = '{status}' WHERE id = 41"), &OF_41);
    }
    w.check("DELETE FROM analyses WHERE id = 41", &OF_41);
}

fn progress_alone_evicts_nothing(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE analyses SET progress = progress + 1", &[]);
}

fn one_users_dashboard_can_be_evicted_by_hand(delivery: Delivery) {
    let w = world(delivery);
    w.check_after("evict by hand", &["user_dashboard:7"], || {
        let ran = w.pgevict(&["evict", "user_dashboard", "user_id=7", "-o", "json"]).exits(0);
        assert_eq!(ran.json()["deleted"], 1, "{}", ran.out);
    });
    let again = w.pgevict(&["evict", "user_dashboard", "user_id=999", "-o", "json"]).exits(0).json();
    assert_eq!((&again["deleted"], &again["absent"]), (&0.into(), &1.into()), "{again}");
}

#[test]
fn it_can_be_switched_off() {
    let mut w = World::new(&setup(Delivery::Journal));
    w.set_env("PGEVICT_MODE", "off");
    w.apply();
    w.start();
    fill(&w);
    w.check("INSERT INTO analyses (id, user_id) VALUES (41, 7)", &[]);
}

#[test]
fn an_eviction_is_information_and_a_lost_cache_a_warning() {
    let w = world(Delivery::Journal);
    let mark = w.mark();
    w.check("UPDATE analyses SET status = 'completed' WHERE id = 41", &OF_41);
    let line = w.wait_line(mark, &["user_dashboard:7", "analyses"]);
    assert!(line.to_lowercase().contains("info"), "{line}");
    let mark = w.mark();
    w.redis.borrow_mut().kill();
    let line = w.wait_line(mark, &["Redis"]);
    assert!(line.to_lowercase().contains("warn"), "{line}");
    w.redis.borrow_mut().up().unwrap();
    w.wait_ready();
}

#[test]
fn the_application_goes_on_while_the_cache_is_down_and_the_keys_go_when_it_is_back() {
    let w = world(Delivery::Journal);
    redis::cmd("SAVE").exec(&mut w.redis()).unwrap();
    w.redis.borrow_mut().kill();
    w.sql("UPDATE analyses SET status = 'completed' WHERE id = 41");
    w.redis.borrow_mut().up().unwrap();
    w.wait_gone(&OF_41);
    w.drain();
    // Replay begins where the dump's position stands, which may be before the rows of the other user.
    assert!(!w.missing().contains("user_stats:77:week"));
}
