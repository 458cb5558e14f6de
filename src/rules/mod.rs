//! Floor 0: values and rules, without sockets and clocks.

pub mod binding;
pub mod capture;
pub mod endpoint;
pub mod evaluate;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
pub mod glob;
pub mod layout;
pub mod mapping;
pub mod matcher;
pub mod payload;
pub mod probe;
pub mod query;
pub mod schedule;
pub mod snapshot;
pub mod sql;
pub mod template;
