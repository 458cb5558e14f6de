//! Floor 2: where warmed values come from.

pub mod sql;
