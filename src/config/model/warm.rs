//! What the configuration says about warming.

use super::PgUrl;
use crate::rules::query::Query;
use std::time::Duration;

/// `[warm]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// Where queries run; None: at the server of `postgres.url`, with its role.
    pub url: Option<PgUrl>,
    /// Queries at the same time, all caches together. Default 4.
    pub concurrency: usize,
    /// Queries begun in a second, all caches together. Default 50.
    pub max_per_second: u32,
    /// How long a query may take. Default 5 s.
    pub statement_timeout: Duration,
    /// Keys that may wait. Default 10 000.
    pub queue: usize,
}

impl Default for Warm {
    fn default() -> Self {
        Self { url: None, concurrency: 4, max_per_second: 50, statement_timeout: Duration::from_secs(5), queue: 10_000 }
    }
}

/// `warm.*` of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheWarm {
    /// How the value is made.
    pub query: Query,
    /// What is stored.
    pub format: WarmFormat,
    /// Keys that were absent when they were evicted are warmed too.
    pub always: bool,
    /// Of this cache, queries at the same time; None: only the global limit.
    pub concurrency: Option<usize>,
    /// Of this cache, queries begun in a second; None: only the global limit.
    pub max_per_second: Option<u32>,
}

/// What a warmed key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WarmFormat {
    /// A string: the query's one column if it is json or text, otherwise JSON of what it returns.
    #[default]
    Json,
    /// A string: the query's one column as PostgreSQL casts it to text.
    Text,
    /// A hash: a field for each column that is not NULL.
    Hash,
}
