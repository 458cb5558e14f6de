//! Floor 3: wiring and lifetimes.

pub mod systemd;
