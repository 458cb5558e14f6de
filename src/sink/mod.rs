//! Floor 2: Redis, where keys go from.

pub mod connect;
pub mod fill;
pub mod portion;
pub mod position;
pub mod scan;
pub mod script;
pub mod tracking;
pub mod uses;
