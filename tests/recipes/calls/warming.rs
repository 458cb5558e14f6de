//! calls: the recipe's rows about warming, with what its configuration says about it turned on.

use super::recipe_calls::{CONFIG, ROWS, SCHEMA};
use crate::support::{Setup, World, without_repeats};
use crate::warm::refreshes;
use redis::Commands as _;
use std::time::Duration;

/// As a user would turn it on; `ttl` for the dashboard's ten minutes. Not started.
fn warming(ttl: &str) -> World {
    let config = without_repeats(CONFIG).replace("# warm.", "warm.");
    assert_eq!(config.matches("\nwarm.").count(), 4, "the configuration says how the dashboard is warmed");
    let config = config.replacen("ttl = \"10m\"", &format!("ttl = \"{ttl}\""), 1);
    let w = World::new(&Setup { config: &config, schema: SCHEMA, ..Setup::default() });
    w.sql(ROWS);
    w.sql("UPDATE users SET last_seen_at = now() - interval '1 hour' * CASE id WHEN 7 THEN 1 ELSE 100 END");
    w.sql("UPDATE calls SET cost_cents = 5");
    w.apply();
    w
}

const FRESH: &str = r#"{"calls" : 1, "cost_cents" : 5}"#;

fn get(w: &World, key: &str) -> Option<String> {
    w.redis().get(key).unwrap()
}

#[test]
fn at_the_start_the_dashboards_of_those_who_were_here_today_are_filled() {
    let w = warming("10m");
    w.start();
    w.wait_keys("the dashboard of user 7", |redis| {
        redis.get::<_, Option<String>>("user_dashboard:7").is_ok_and(|v| v.as_deref() == Some(FRESH))
    });
    assert_eq!(get(&w, "user_dashboard:8"), None);
}

#[test]
fn by_hand_one_dashboard_is_filled_or_all_of_today() {
    let w = warming("10m");
    w.start();
    w.wait_position();
    w.pgevict(&["warm", "user_dashboard", "user_id=8"]).exits(0);
    assert_eq!(get(&w, "user_dashboard:8").as_deref(), Some(FRESH));
    let dry = w.pgevict(&["warm", "user_dashboard", "--all", "--dry-run"]).exits(0);
    assert_eq!(dry.out.trim(), "user_dashboard:7");
    w.pgevict(&["warm", "user_dashboard", "--all"]).exits(0);
    assert_eq!(get(&w, "user_dashboard:7").as_deref(), Some(FRESH));
}

/// Time is the subject, so the test waits for it. From four fifths on there are four seconds left: less, and a slow moment of the
/// machine is longer.
#[test]
fn once_four_fifths_of_its_time_are_over_what_is_read_is_read_anew_and_nothing_else() {
    let w = warming("20s");
    w.start();
    w.wait_position();
    // The start is over: what it fills must not be taken for a refresh.
    w.wait_line(0, &["warm user_dashboard:7: stored"]);
    let times = [20, 16].map(Duration::from_secs);
    refreshes(&w, ["user_dashboard:7", "user_dashboard:8"], FRESH, times, Duration::from_millis(50));
}

#[test]
fn a_day_without_triggers_flushes_the_dashboards_and_those_that_were_read_are_back() {
    let w = warming("10m");
    let mut redis = w.redis();
    for user in [7, 8] {
        let _: () = redis.set(format!("user_dashboard:{user}"), "of yesterday").unwrap();
    }
    w.start();
    for user in [7, 8] {
        let key = format!("user_dashboard:{user}");
        w.wait_keys(&format!("{key} to be back"), |redis| {
            redis.get::<_, Option<String>>(&key).is_ok_and(|v| v.as_deref() == Some(FRESH))
        });
    }
}
