//! Floor 2: PostgreSQL, where changes come from.

pub mod catalog;
pub mod connect;
pub mod house;
pub mod journal;
pub mod notifications;
pub mod pool;
pub mod session;
pub mod side;
pub mod tls;
