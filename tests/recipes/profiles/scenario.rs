//! profiles: every row of the recipe's table.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
use redis::Commands as _;

const CONFIG: &str = include_str!("config.toml");
const ANN: &str = "6f0c5a4e-58ab-4c1b-9d2f-0a3d7a4b1c11";
const BEN: &str = "b1946ac9-2f4b-4f6e-8a39-93a1f1f1c0de";
const USER: [&str; 7] = ["profile", "full_profile", "preferences", "languages", "accessibility", "interests", "stats"];
const ACHIEVEMENTS: [&str; 3] = ["achievements", "summary", "stats"];
const GLOBAL: [&str; 2] =
    ["katiba360:achievements:global:leaderboard", "katiba360:achievements:global:recent_achievements"];

fn user(id: &str) -> Vec<String> {
    USER.iter().map(|k| format!("katiba360:user:{id}:{k}")).collect()
}

fn achievements(id: &str) -> Vec<String> {
    ACHIEVEMENTS.iter().map(|k| format!("katiba360:achievements:{id}:{k}")).collect()
}

fn as_refs(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

fn setup(delivery: Delivery) -> Setup<'static> {
    Setup { delivery, config: CONFIG, schema: include_str!("schema.sql"), prefix: "katiba360:", ..Setup::default() }
}

fn world(setup: &Setup<'_>) -> World {
    let w = World::running(setup);
    rows(&w);
    w
}

fn rows(w: &World) {
    w.sql(&format!("INSERT INTO users (id, display_name) VALUES ('{ANN}', 'Ann'), ('{BEN}', 'Ben')"));
    w.sql(&format!("INSERT INTO user_preferences (user_id) VALUES ('{ANN}'), ('{BEN}')"));
    w.drain();
    for id in [ANN, BEN] {
        w.fill(&as_refs(&user(id)));
        w.fill(&as_refs(&achievements(id)));
    }
    w.fill(&GLOBAL);
    // The same names outside the namespace belong to somebody else.
    w.fill(&[&format!("user:{ANN}:profile"), "achievements:global:leaderboard"]);
}

/// Both tables' changes take the full profile: one names it, the other one's pattern finds it. Whatever was not cached stays away.
#[test]
fn what_preferences_and_profiles_evict_is_warmed_again() {
    let config = CONFIG.replace("# warm.", "warm.");
    assert_eq!(config.matches("\nwarm.").count(), 3);
    let w = world(&Setup { config: &config, ..setup(Delivery::Journal) });
    w.wait_position();
    let (preferences, full) =
        (format!("katiba360:user:{ANN}:preferences"), format!("katiba360:user:{ANN}:full_profile"));
    let back = |said: &str, key: &str, value: &str| {
        w.wait_keys(&format!("{key} after {said}"), |redis| {
            redis.get::<_, Option<String>>(key).is_ok_and(|v| v.as_deref() == Some(value))
        });
    };
    w.sql(&format!("UPDATE user_preferences SET theme = 'dark' WHERE user_id = '{ANN}'"));
    let of = |sql: &str| w.value(&format!("SELECT row_to_json(r) FROM ({sql}) r"));
    let profile = format!(
        "SELECT u.display_name, u.county, p.theme FROM users u JOIN user_preferences p ON p.user_id = u.id WHERE u.id = '{ANN}'"
    );
    back("preferences", &preferences, r#"{"theme":"dark","notifications":true}"#);
    back("preferences", &full, &of(&profile));

    w.sql(&format!("UPDATE users SET display_name = 'Ann the Second' WHERE id = '{ANN}'"));
    back("a profile", &full, &of(&profile));
    back("a profile", &preferences, r#"{"theme":"dark","notifications":true}"#);
    assert!(of(&profile).contains("Ann the Second"));
    assert!(
        !w.redis().exists::<_, bool>(format!("katiba360:user:{ANN}:interests")).unwrap(),
        "nobody says how it is made"
    );
}

over_both_deliveries! {
    a_profile_evicts_everything_about_the_user
    preferences_evict_themselves_and_the_full_profile
    an_award_evicts_the_users_achievements_and_the_global_ones
    by_hand_one_user_his_achievements_or_the_global_ones
}

fn a_profile_evicts_everything_about_the_user(delivery: Delivery) {
    let w = world(&setup(delivery));
    w.check(&format!("UPDATE users SET display_name = 'Anne' WHERE id = '{ANN}'"), &as_refs(&user(ANN)));
    w.check(&format!("UPDATE users SET interests = '[1]' WHERE id = upper('{ANN}')::uuid"), &as_refs(&user(ANN)));
    w.check("UPDATE users SET last_login = now()", &[]);
}

fn preferences_evict_themselves_and_the_full_profile(delivery: Delivery) {
    let w = world(&setup(delivery));
    w.check(
        &format!("UPDATE user_preferences SET theme = 'dark' WHERE user_id = '{ANN}'"),
        &[&format!("katiba360:user:{ANN}:preferences"), &format!("katiba360:user:{ANN}:full_profile")],
    );
}

fn an_award_evicts_the_users_achievements_and_the_global_ones(delivery: Delivery) {
    let w = world(&setup(delivery));
    let of_ann = achievements(ANN);
    let gone: Vec<&str> = of_ann.iter().map(String::as_str).chain(GLOBAL).collect();
    w.check(&format!("INSERT INTO user_achievements (user_id, badge) VALUES ('{ANN}', 'reader')"), &gone);
}

fn by_hand_one_user_his_achievements_or_the_global_ones(delivery: Delivery) {
    let w = world(&setup(delivery));
    let hole = format!("user_id={ANN}");
    let by_hand = |args: &[&str], deleted: usize| {
        let ran = w.pgevict(&[&["evict"], args, &["-o", "json"]].concat()).exits(0);
        assert_eq!(ran.json()["deleted"], deleted, "{}", ran.out);
    };
    w.check_after("one user", &as_refs(&user(ANN)), || by_hand(&["user", &hole], USER.len()));
    w.check_after("one user's achievements", &as_refs(&achievements(ANN)), || by_hand(&["achievements", &hole], 3));
    w.check_after("all global achievements", &GLOBAL, || {
        by_hand(&["--pattern", "katiba360:achievements:global:*"], 2);
    });
}

#[test]
fn a_table_can_be_observed_before_it_is_enforced() {
    let observed = CONFIG.replace("[table.users]", "[table.users]\nmode = \"observe\"");
    let w = world(&Setup { config: &observed, ..setup(Delivery::Journal) });
    let mark = w.mark();
    let change = format!("UPDATE users SET display_name = 'Anne' WHERE id = '{ANN}'");
    w.check(&change, &[]);
    w.wait_line(mark, &[&format!("katiba360:user:{ANN}:*")]);
    w.check(
        &format!("UPDATE user_preferences SET theme = 'dark' WHERE user_id = '{ANN}'"),
        &[&format!("katiba360:user:{ANN}:preferences"), &format!("katiba360:user:{ANN}:full_profile")],
    );
}

#[test]
fn the_environment_switches_it_to_observing_and_back() {
    let mut w = World::new(&setup(Delivery::Journal));
    w.apply();
    w.start();
    rows(&w);
    w.stop();
    w.set_env("PGEVICT_MODE", "observe");
    w.start();
    let change = format!("UPDATE users SET display_name = display_name || '.' WHERE id = '{ANN}'");
    w.check(&change, &[]);
    w.stop();
    w.set_env("PGEVICT_MODE", "enforce");
    w.start();
    w.check(&change, &as_refs(&user(ANN)));
}
