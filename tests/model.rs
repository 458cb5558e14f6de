//! A model of delivery, searched exhaustively: every interleaving of commits, pages, fills and faults within small bounds.
//!
//! The rules that HAZARDS found by argument stand here as steps; left out one at a time, each must lead to a stale key, or the model could not
//! see that it matters. What it is a model of stands in `model/world.rs`.

#[path = "model/search.rs"]
mod search;
#[path = "model/world.rs"]
mod world;

use search::{Found, search};
use world::{Bounds, Rule, World};

/// The bounds of one search: small, but each fault can meet every step.
fn redis_faults() -> Bounds {
    Bounds { writes: &[0b11, 0b01], fills: 1, saves: 1, rollbacks: 1, daemon_crashes: 1, ..Bounds::default() }
}

fn postgres_crashes() -> Bounds {
    Bounds { writes: &[0b01, 0b01], fills: 1, postgres_crashes: 1, idle_moves: 1, ..Bounds::default() }
}

fn failovers() -> Bounds {
    Bounds { writes: &[0b01, 0b01], fills: 1, failovers: 1, ..Bounds::default() }
}

fn late_commits() -> Bounds {
    Bounds { writes: &[0b01, 0b01, 0b10], fills: 1, ..Bounds::default() }
}

fn two_daemons() -> Bounds {
    Bounds { writes: &[0b11], daemons: 2, saves: 1, rollbacks: 1, ..Bounds::default() }
}

/// Searches everything; the number of states is printed, so that nobody mistakes an empty search for a proof.
#[track_caller]
fn holds(name: &str, bounds: Bounds) {
    match search(&World::new(bounds, None)) {
        Found::Nothing { states, quiet } => {
            println!("{name}: {states} states, {quiet} of them at rest");
            assert!(states > 5_000 && quiet > 100, "{name}: too little was searched: {states} states, {quiet} at rest");
        }
        Found::Stale { trace, .. } => panic!("{name}: the cache differs from the database at rest, after\n{trace}"),
    }
}

/// Without the rule some run ends stale.
#[track_caller]
fn breaks(rule: Rule, bounds: Bounds) {
    match search(&World::new(bounds, Some(rule))) {
        Found::Stale { states, trace } => println!("without {rule:?}, after {states} states:\n{trace}"),
        Found::Nothing { states, .. } => {
            panic!("{states} states without {rule:?}, and no key is stale: the model is blind to it")
        }
    }
}

#[test]
fn at_rest_the_cache_equals_the_database_whatever_redis_and_the_daemon_do() {
    holds("Redis rolls back, the daemon crashes", redis_faults());
}

#[test]
fn at_rest_the_cache_equals_the_database_whatever_postgresql_does() {
    holds("PostgreSQL crashes", postgres_crashes());
    holds("PostgreSQL fails over", failovers());
}

#[test]
fn at_rest_the_cache_equals_the_database_in_whatever_order_commits_come() {
    holds("commits out of order, fills between them", late_commits());
}

#[test]
fn at_rest_the_cache_equals_the_database_with_two_daemons() {
    holds("two daemons, Redis rolls back", two_daemons());
}

#[test]
fn a_position_that_moves_before_the_deletes_loses_them() {
    breaks(Rule::DeletesBeforePosition, redis_faults());
}

#[test]
fn a_position_that_moves_with_the_last_page_only_misses_a_roll_back() {
    breaks(Rule::EveryPageMovesTheRecord, redis_faults());
}

#[test]
fn a_position_in_a_local_file_does_not_roll_back_with_redis() {
    breaks(Rule::PositionInRedis, redis_faults());
}

#[test]
fn a_position_that_is_a_number_loses_late_commits() {
    breaks(Rule::PositionIsASnapshot, late_commits());
}

#[test]
fn without_a_sentinel_a_failover_goes_unnoticed() {
    breaks(Rule::Sentinel, failovers());
}

#[test]
fn an_idle_move_without_a_beacon_counts_what_a_crash_hands_out_again() {
    breaks(Rule::BeaconBeforeIdleMove, postgres_crashes());
}

#[test]
fn a_plain_fill_stores_what_was_read_before_the_change() {
    breaks(Rule::GuardedFills, late_commits());
}

#[test]
fn a_tombstone_of_one_transaction_lets_a_fill_between_two_commits_in() {
    breaks(Rule::TombstoneIsASnapshot, late_commits());
}

#[test]
fn a_fill_from_before_a_failover_needs_another_history() {
    breaks(Rule::History, failovers());
}
