//! Floor 1: decisions over time, without sockets.
