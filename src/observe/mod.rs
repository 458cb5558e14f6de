//! Floor 1: the one place that words logs and metrics.

pub mod event;
