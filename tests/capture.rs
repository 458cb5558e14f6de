//! The capture against private PostgreSQL servers: what a statement writes into the journal, tuple by tuple.

#[path = "capture/support.rs"]
mod support;

#[path = "capture/algebra.rs"]
mod algebra;
#[path = "capture/command.rs"]
mod command;
#[path = "capture/degrade.rs"]
mod degrade;
#[path = "capture/hypertables.rs"]
mod hypertables;
#[path = "capture/install.rs"]
mod install;
#[path = "capture/notify.rs"]
mod notify;
#[path = "capture/recipe.rs"]
mod recipe;
#[path = "capture/relations.rs"]
mod relations;
#[path = "capture/relief.rs"]
mod relief;
#[path = "capture/session.rs"]
mod session;
#[path = "capture/statements.rs"]
mod statements;
#[path = "capture/twin.rs"]
mod twin;
#[path = "capture/values.rs"]
mod values;
