//! analyses: every row of the recipe's table.

use crate::support::{Delivery, Setup, World, over_both_deliveries, without_repeats};

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
