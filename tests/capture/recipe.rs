//! The calls recipe's migration is checked in, so that it can be read and reviewed: it must be what the compiler makes.

use pgevict::config::{self, Environment};
use pgevict::rules::capture::{Facts, Settings, script, up};
use pgevict::rules::layout::layouts;

#[test]
fn the_checked_in_migration_of_the_calls_recipe_is_current() {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/config.toml")).unwrap();
    let (config, _) =
        config::parse(&text, "config.toml", &Environment::empty()).unwrap_or_else(|r| panic!("{}", r.to_text(false)));
    // Its one lookup goes by the primary key of calls.
    let mut facts = Facts::default();
    for layout in layouts(&config) {
        facts.primary_keys.insert(layout.table, vec!["id".to_owned()]);
    }
    let steps = up(&layouts(&config), &Settings::of(&config), &facts).unwrap();
    let made = script(&steps, "installs or mends everything; safe to run again");
    let path = format!("{root}/sql/examples/calls.sql");
    if std::env::var_os("BLESS_RECIPE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "sql/examples/calls.sql is not what the compiler makes: BLESS_RECIPE=1 cargo test --test capture recipe"
    );
}
