//! Floor 2: PostgreSQL, where changes come from.

pub mod connect;
pub mod tls;
