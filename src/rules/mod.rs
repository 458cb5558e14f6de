//! Floor 0: values and rules, without sockets and clocks.

pub mod capture;
pub mod filter;
pub mod glob;
pub mod layout;
pub mod snapshot;
pub mod sql;
pub mod template;
