//! pgevict against real servers. Every test has its own database, its own Redis and its own daemon; the servers are
//! started here and gone afterwards (`tests/support`).

mod support;

#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/lifecycle.rs"]
mod lifecycle;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/strange_schema.rs"]
mod strange_schema;

#[path = "recipes/analyses/scenario.rs"]
mod recipe_analyses;
#[path = "recipes/bookings/scenario.rs"]
mod recipe_bookings;
#[path = "recipes/metrics/scenario.rs"]
mod recipe_metrics;
#[path = "recipes/profiles/scenario.rs"]
mod recipe_profiles;
