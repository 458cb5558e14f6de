//! Floor 0: the configuration, from text to checked values.

pub mod model;
