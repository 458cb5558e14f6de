//! Floor 2: PostgreSQL, where changes come from.
