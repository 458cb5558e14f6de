//! pgevict against real servers. Every test has its own database, its own Redis and its own daemon; the servers are
//! started here and gone afterwards (`tests/support`).

mod support;

#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/commands.rs"]
mod commands;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/drift.rs"]
mod drift;
#[path = "e2e/faults/mod.rs"]
mod faults;
#[path = "e2e/fill_costs.rs"]
mod fill_costs;
#[path = "e2e/fill_storm.rs"]
mod fill_storm;
#[path = "e2e/fills.rs"]
mod fills;
#[path = "e2e/forks/mod.rs"]
mod forks;
#[path = "e2e/hypertables.rs"]
mod hypertables;
#[path = "e2e/index.rs"]
mod index;
#[path = "e2e/lifecycle.rs"]
mod lifecycle;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/load.rs"]
mod load;
#[path = "e2e/pause.rs"]
mod pause;
#[path = "e2e/poison.rs"]
mod poison;
#[path = "e2e/pooler.rs"]
mod pooler;
#[path = "e2e/probe.rs"]
mod probe;
#[path = "e2e/queue.rs"]
mod queue;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/second_actions.rs"]
mod second_actions;
#[path = "e2e/snippets.rs"]
mod snippets;
#[path = "e2e/storm.rs"]
mod storm;
#[path = "e2e/strange_schema.rs"]
mod strange_schema;
#[path = "e2e/systemd.rs"]
mod systemd;

#[path = "e2e/two_daemons.rs"]
mod two_daemons;
#[path = "e2e/two_daemons_storm.rs"]
mod two_daemons_storm;
#[path = "e2e/warm.rs"]
mod warm;
#[path = "e2e/warm_after.rs"]
mod warm_after;
#[path = "e2e/warm_check.rs"]
mod warm_check;
#[path = "e2e/warm_flush.rs"]
mod warm_flush;
#[path = "e2e/warm_hand.rs"]
mod warm_hand;
#[path = "e2e/warm_http.rs"]
mod warm_http;
#[path = "e2e/warm_https.rs"]
mod warm_https;
#[path = "e2e/warm_replica.rs"]
mod warm_replica;
#[path = "e2e/warm_schedule.rs"]
mod warm_schedule;
#[path = "e2e/warm_watched.rs"]
mod warm_watched;

#[path = "recipes/analyses/scenario.rs"]
mod recipe_analyses;
#[path = "recipes/bookings/scenario.rs"]
mod recipe_bookings;
#[path = "recipes/calls/scenario.rs"]
mod recipe_calls;
#[path = "recipes/calls/warming.rs"]
mod recipe_calls_warming;
#[path = "recipes/metrics/scenario.rs"]
mod recipe_metrics;
#[path = "recipes/profiles/scenario.rs"]
mod recipe_profiles;

/// What all recipes have in common.
mod recipes {
    use crate::support::{Delivery, Setup, World};

    /// The cases in each recipe's file hold, and the file suits the schema beside it.
    #[test]
    fn every_recipe_passes_its_own_tests_and_checks_against_its_schema() {
        for (name, config, schema) in [
            ("calls", include_str!("../config.toml"), include_str!("recipes/calls/schema.sql")),
            ("analyses", include_str!("recipes/analyses/config.toml"), include_str!("recipes/analyses/schema.sql")),
            ("metrics", include_str!("recipes/metrics/config.toml"), include_str!("recipes/metrics/schema.sql")),
            ("profiles", include_str!("recipes/profiles/config.toml"), include_str!("recipes/profiles/schema.sql")),
            ("bookings", include_str!("recipes/bookings/config.toml"), include_str!("recipes/bookings/schema.sql")),
        ] {
            for delivery in [Delivery::Journal, Delivery::Notify] {
                let w = World::new(&Setup { delivery, config, schema, ..Setup::default() });
                for command in [&["test"][..], &["check", "--offline"]] {
                    let ran = w.pgevict(command);
                    assert_eq!(ran.code, Some(0), "{name}: pgevict {command:?}: {ran:?}");
                }
                w.apply();
                let ran = w.pgevict(&["check"]);
                assert_eq!(ran.code, Some(0), "{name}: pgevict check: {ran:?}");
            }
        }
    }
}
