//! Floor 3: wiring and lifetimes.
