//! bookings: every row of the recipe's table, with both key versions cached.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
use redis::Commands as _;

fn both(keys: &[&str]) -> Vec<String> {
    ["v1", "v2"].iter().flat_map(|v| keys.iter().map(move |k| format!("myhibachi:{v}:booking:{k}"))).collect()
}

fn world(delivery: Delivery) -> World {
    let w = World::running(&Setup {
        delivery,
        config: include_str!("config.toml"),
        schema: include_str!("schema.sql"),
        prefix: "myhibachi:v2:",
        ..Setup::default()
    });
    w.sql("INSERT INTO bookings (id, event_date) VALUES (1, '2026-07-01'), (2, '2026-07-02')");
    w.drain();
    let keys = both(&["stats:get_dashboard_stats:ab12", "stats:get_dashboard_stats:cd34"]);
    w.fill(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    for day in ["2026-07-01", "2026-07-02", "2026-07-03"] {
        let keys = both(&[&format!("availability:{day}:noon"), &format!("availability:{day}:evening:10")]);
        w.fill(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }
    w.fill(&["myhibachi:v3:booking:stats:x", "myhibachi:lock:2026-07-01", "booking:stats:get_dashboard_stats:ab12"]);
    w
}

/// The statistics and these days go, in both versions, and nothing else.
fn check(w: &World, sql: &str, days: &[&str]) {
    let mut gone = both(&["stats:get_dashboard_stats:ab12", "stats:get_dashboard_stats:cd34"]);
    for day in days {
        gone.extend(both(&[&format!("availability:{day}:noon"), &format!("availability:{day}:evening:10")]));
    }
    w.check(sql, &gone.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A figure that is warmed, beside what the recipe has: of two versions in use, the newest is worth the query.
fn warming() -> World {
    let warmed = r#"
[cache.day]
key = "booking:day:{event_date}"
ttl = "5m"
warm.sql = "SELECT count(*) AS bookings, :version::text AS version FROM bookings WHERE event_date = :event_date"
[table.bookings]"#;
    let config = include_str!("config.toml").replace("\n[table.bookings]", warmed);
    let config = config.replace("evict = [\"booking_stats\"", "evict = [\"day\", \"booking_stats\"");
    let w = World::running(&Setup {
        config: &config,
        schema: include_str!("schema.sql"),
        prefix: "myhibachi:v2:",
        ..Setup::default()
    });
    w.wait_position();
    w
}

#[test]
fn only_the_newest_version_is_warmed() {
    let w = warming();
    let (old, new) = ("myhibachi:v1:booking:day:2026-07-01", "myhibachi:v2:booking:day:2026-07-01");
    let _: () = w.redis().mset(&[(old, "cached"), (new, "cached")]).unwrap();
    w.sql("INSERT INTO bookings (id, event_date) VALUES (1, '2026-07-01')");
    w.wait_keys("the newest to be back", |redis| {
        redis.get::<_, Option<String>>(new).is_ok_and(|v| v.as_deref() == Some(r#"{"bookings":1,"version":"v2"}"#))
    });
    assert!(!w.redis().exists::<_, bool>(old).unwrap());
}

/// A deploy may lose the position; what goes whole then has both versions, too.
#[test]
fn of_a_flush_only_the_newest_version_is_warmed() {
    let w = warming();
    w.sql("INSERT INTO bookings (id, event_date) VALUES (1, '2026-07-01')");
    w.drain();
    let key = |version: &str, day: u32| format!("myhibachi:{version}:booking:day:2026-07-0{day}");
    for day in 1..=3 {
        let _: () = w.redis().mset(&[(key("v1", day), "cached"), (key("v2", day), "cached")]).unwrap();
    }
    let mark = w.mark();
    w.sql("TRUNCATE bookings");
    for day in 1..=3 {
        w.wait_line(mark, &[&format!("warm {}: stored", key("v2", day))]);
        assert_eq!(w.redis().get::<_, String>(key("v2", day)).unwrap(), r#"{"bookings":0,"version":"v2"}"#);
        assert!(!w.redis().exists::<_, bool>(key("v1", day)).unwrap());
    }
}

over_both_deliveries! {
    a_booking_that_comes_or_goes_evicts_the_statistics_and_its_day
    a_confirmation_leaves_availability_alone
    a_booking_that_moves_evicts_both_days
    a_transaction_that_is_rolled_back_evicts_nothing
}

fn a_booking_that_comes_or_goes_evicts_the_statistics_and_its_day(delivery: Delivery) {
    let w = world(delivery);
    check(&w, "INSERT INTO bookings (id, event_date) VALUES (3, '2026-07-03')", &["2026-07-03"]);
    check(&w, "UPDATE bookings SET status = 'cancelled', cancelled_at = now() WHERE id = 1", &["2026-07-01"]);
    check(&w, "DELETE FROM bookings WHERE id = 2", &["2026-07-02"]);
}

fn a_confirmation_leaves_availability_alone(delivery: Delivery) {
    let w = world(delivery);
    check(&w, "UPDATE bookings SET status = 'confirmed' WHERE id = 1", &[]);
    w.check("UPDATE bookings SET notes = 'no garlic' WHERE id = 1", &[]);
}

fn a_booking_that_moves_evicts_both_days(delivery: Delivery) {
    let w = world(delivery);
    check(&w, "UPDATE bookings SET event_date = '2026-07-03' WHERE id = 1", &["2026-07-01", "2026-07-03"]);
}

fn a_transaction_that_is_rolled_back_evicts_nothing(delivery: Delivery) {
    let w = world(delivery);
    w.check("BEGIN; DELETE FROM bookings; TRUNCATE bookings; ROLLBACK", &[]);
    w.check("BEGIN; SAVEPOINT a; DELETE FROM bookings; ROLLBACK TO a; COMMIT", &[]);
    check(
        &w,
        "BEGIN; SAVEPOINT a; DELETE FROM bookings; ROLLBACK TO a; DELETE FROM bookings WHERE id = 1; COMMIT",
        &["2026-07-01"],
    );
}
