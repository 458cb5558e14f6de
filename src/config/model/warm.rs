//! What the configuration says about warming.

use super::{PgUrl, Secret};
use crate::rules::endpoint::{Body, Endpoint};
use crate::rules::query::Query;
use crate::rules::schedule::Schedule;
use std::time::Duration;

/// `[warm]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// Where queries run; None: at the server of `postgres.url`, with its role.
    pub url: Option<PgUrl>,
    /// A standby where they run instead, while it has replayed what they must see.
    pub replica: Option<PgUrl>,
    /// Queries at the same time, all caches together; and as many requests. Default 4.
    pub concurrency: usize,
    /// Queries begun in a second, all caches together; and as many requests. Default 50.
    pub max_per_second: u32,
    /// How long a query may take. Default 5 s.
    pub statement_timeout: Duration,
    /// Keys that may wait for the database, and as many for applications. Default 10 000.
    pub queue: usize,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            url: None,
            replica: None,
            concurrency: 4,
            max_per_second: 50,
            statement_timeout: Duration::from_secs(5),
            queue: 10_000,
        }
    }
}

/// `warm.*` of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheWarm {
    /// Who makes the value.
    pub refill: Refill,
    /// Keys that a change evicts are warmed.
    pub at_evict: bool,
    /// Keys that `startup` names are warmed when the daemon starts.
    pub at_start: bool,
    /// Keys that are read are warmed before they expire.
    pub refresh: Option<Refresh>,
    /// Keys that it names are warmed in quiet hours.
    pub schedule: Option<Quiet>,
    /// Names keys, by the values of their holes.
    pub startup: Option<Query>,
    /// Keys that were absent when they were evicted are warmed too.
    pub always: bool,
    /// Of this cache, questions at the same time; None: the global limit, for applications half of it.
    pub concurrency: Option<usize>,
    /// Of this cache, questions begun in a second; None: only the global limit.
    pub max_per_second: Option<u32>,
    /// Caches, by name, that are warmed first where one change evicts both.
    pub after: Vec<String>,
}

impl CacheWarm {
    /// The query, where pgevict stores the value itself.
    #[must_use]
    pub fn query(&self) -> Option<&Query> {
        match &self.refill {
            Refill::Sql { query, .. } => Some(query),
            Refill::Http(_) => None,
        }
    }
}

/// When what is read is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// After so many thousandths of its time to live. Default 800.
    pub at: u32,
    /// Only what was read within this; None: since it was stored.
    pub read_within: Option<Duration>,
}

/// `warm.schedule`: quiet hours, and what is filled in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// When.
    pub schedule: Schedule,
    /// Only while Redis does less than this in a second.
    pub below: Option<u64>,
    /// Names the keys; `warm.startup.sql` unless it has a query of its own.
    pub query: Query,
}

/// Who makes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refill {
    /// The database; pgevict stores it.
    Sql {
        /// How it is read.
        query: Query,
        /// What is stored.
        format: WarmFormat,
    },
    /// The application, which stores it itself.
    Http(Http),
}

/// `warm.http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where to.
    pub url: Endpoint,
    /// Default POST.
    pub method: Method,
    /// Sent as they are.
    pub headers: Vec<(String, Secret)>,
    /// Sent where it is set.
    pub body: Option<Body>,
    /// For all of the request. Default 3 s.
    pub timeout: Duration,
    /// Status codes that mean "done"; empty: 200 to 299.
    pub success: Vec<u16>,
}

/// Methods of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

impl Method {
    /// As HTTP and the configuration spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
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
