//! What can be reported. The code reports values; only [`super::Observer`] words them.

use crate::config::model::{Mode, Op, TableName};
use crate::rules::template::Kind;
use std::sync::Arc;
use std::time::Duration;

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Server {
    /// The truth.
    Postgres,
    /// The cache.
    Redis,
}

impl Server {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        }
    }
}

/// A reason for not being ready. Set and cleared by [`super::Observer::condition`]; ready means that none is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// No session has begun yet.
    Starting,
    /// The server cannot be used; the text of the condition says why and what to do.
    Down(Server),
    /// The schema of pgevict is missing in the database.
    SchemaMissing,
    /// This edge's capture is missing, disabled or older than the configuration.
    NotLive {
        /// The table.
        table: TableName,
        /// The cache.
        cache: String,
    },
    /// Another daemon leads.
    Standby,
    /// An edge was refused by `over_limit = "refuse"`; an operator must evict or dismiss it.
    Refused {
        /// The table.
        table: TableName,
        /// The cache.
        cache: String,
    },
    /// A gap of notify delivery under `on_gap = "alert"`.
    Gap,
    /// A flush is under way: caches may still hold what could not be proven fresh.
    Flushing,
    /// The last probe did not arrive.
    Probe,
    /// Delivery was paused by an operator.
    Paused,
}

/// The text of [`Condition::Probe`] until the first probe of a session has arrived: no news for the log.
pub const PROBE_UNDER_WAY: &str = "the first probe of this session is under way; this takes a moment";

/// Why caches are flushed whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushReason {
    /// Redis holds no position: first start, FLUSHALL, or the key was evicted.
    NoPosition,
    /// The position is older than what the journal still has.
    PositionTooOld,
    /// PostgreSQL's history has forked or crashed in a way that may have lost commits; says what was found.
    Fork(String),
    /// Edges that are new, changed, newly live or newly enforced.
    Unproven,
    /// DDL that changed rows silently; says what was found.
    Ddl(String),
    /// The trigger's last layer counted captures that could not be written.
    LostCaptures(i64),
    /// A gap of notify delivery; says why.
    Gap(String),
    /// The second flush, `repeat_after` after another one: no reason for not being ready.
    Again,
    /// An operator asked.
    Operator,
}

/// What became of one key or pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// That many keys were deleted (1 for a key).
    Deleted(u64),
    /// Nothing was there.
    Absent,
    /// The second delete of `repeat_after`; that many keys were deleted.
    Repeat(u64),
    /// Exempt by `never_delete` or pgevict's own.
    Protected,
    /// Refused by `over_limit = "refuse"`: that many matched at least.
    Refused(u64),
    /// Mode observe: would have been deleted.
    Observed,
    /// Within the window of `debounce`: goes at its end.
    Debounced,
}

/// One key or pattern with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOutcome {
    /// The cache.
    pub cache: Arc<str>,
    /// Key or pattern.
    pub kind: Kind,
    /// The full Redis key or pattern, raw bytes.
    pub key: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a key that was to be warmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WarmOutcome {
    /// It is filled again.
    Stored,
    /// The application was asked to fill it, and says that it has.
    Asked,
    /// The query has no row for it: nothing is stored.
    Empty,
    /// A change overtook the value, or something failed: it is tried again.
    Retried,
    /// Its values were overtaken again and again: left to the next reader.
    Refused,
    /// It could not be done: left to the next reader.
    Failed,
    /// The queue was full: left to the next reader.
    Dropped,
    /// A reader has filled it while it waited: nothing was asked.
    Present,
}

impl WarmOutcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Stored,
        Self::Asked,
        Self::Empty,
        Self::Retried,
        Self::Refused,
        Self::Failed,
        Self::Dropped,
        Self::Present,
    ];

    /// As metrics spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Asked => "asked",
            Self::Empty => "empty",
            Self::Retried => "retried",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Present => "present",
        }
    }
}

/// What has happened in quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduled {
    /// The keys are named.
    Begun,
    /// All of them have been looked at.
    Done,
    /// The window closed before that.
    Closed,
}

/// How a journalled statement named its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// By the tuples.
    Rows,
    /// Whole table: TRUNCATE, or more than a statement may carry.
    Whole,
    /// Whole table, because the trigger failed: renamed column, missing parent, oversized value.
    Degraded,
    /// A row that this pgevict cannot read: treated as whole table, a copy is kept.
    Poison,
}

/// One journalled statement, after its evictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The table.
    pub table: TableName,
    /// What happened to it.
    pub op: Op,
    /// How rows were named.
    pub extent: Extent,
    /// Why, where [`Extent::Degraded`] or [`Extent::Poison`].
    pub note: Option<String>,
    /// `(hole, value)` of the first tuples, for the log; at most 8 pairs.
    pub values: Vec<(Arc<str>, Option<Vec<u8>>)>,
    /// Keys and patterns, at most 10 000; sorted.
    pub keys: Vec<KeyOutcome>,
    /// How many more there were.
    pub more_keys: u64,
    /// Edges skipped because a hole was NULL: cache → how often.
    pub skipped_null: Vec<(String, u64)>,
    /// Edges whose parent row was gone: cache → how often.
    pub unresolved: Vec<(String, u64)>,
    /// This is the second delete of `repeat_after`, or the end of a `debounce` window: the statement was counted and had its
    /// lag before, and what comes late by design has none.
    pub again: bool,
    /// From the capture (`clock_timestamp()` in the trigger) to the last delete, by the servers' and our clock; for
    /// people and metrics, nothing decides by it. Zero where `again`.
    pub lag: Duration,
    /// From reading the row to the last delete.
    pub took: Duration,
}

/// Everything that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The daemon begins.
    Started {
        /// Configuration file.
        config: String,
        /// Global mode.
        mode: Mode,
    },
    /// Draining has begun.
    Stopping {
        /// Which signal.
        why: String,
    },
    /// The end.
    Stopped,
    /// A server is connected and fit.
    Connected {
        /// Which.
        server: Server,
        /// Where, without secrets.
        to: String,
        /// Its version.
        version: String,
    },
    /// A server was lost or could not be reached.
    Disconnected {
        /// Which.
        server: Server,
        /// Why, with its remedy.
        why: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Delivery goes on from here.
    Resumed {
        /// The position.
        position: String,
    },
    /// Somebody else moved, evicted or rolled back the position: it is read again.
    PositionMoved {
        /// What was found, for the log.
        found: String,
    },
    /// A statement was delivered.
    Statement(Box<Statement>),
    /// Caches go whole.
    FlushBegun {
        /// Which; all when empty.
        caches: Vec<String>,
        /// Why.
        reason: FlushReason,
    },
    /// They are gone.
    FlushDone {
        /// Which; all when empty.
        caches: Vec<String>,
        /// Keys deleted.
        deleted: u64,
        /// How long it took.
        took: Duration,
    },
    /// A SCAN pass ended.
    PassDone {
        /// Patterns it served.
        patterns: usize,
        /// Keys it looked at.
        scanned: u64,
        /// Keys it deleted.
        deleted: u64,
        /// How long it took.
        took: Duration,
    },
    /// The live key index can do something else than before.
    Index {
        /// `live`, `broken` or `full`.
        state: &'static str,
        /// Keys it holds.
        keys: usize,
        /// Bytes they take, about.
        bytes: usize,
        /// Since its walk began.
        took: Duration,
    },
    /// A pattern matched more than `max_keys_per_change`.
    OverLimit {
        /// The cache.
        cache: String,
        /// The pattern.
        pattern: Vec<u8>,
        /// Keys matched so far.
        matched: u64,
        /// Whether deletes go on (slow) or not (refuse).
        refused: bool,
    },
    /// Evictions that were handed on but belong to no cache of the configuration any more.
    UnknownCache {
        /// The table.
        table: TableName,
        /// The cache's name in the layout.
        cache: String,
    },
    /// A key was warmed, or was not.
    Warmed {
        /// The cache.
        cache: String,
        /// The full Redis key.
        key: Vec<u8>,
        /// What became of it.
        outcome: WarmOutcome,
        /// Why, where it was not stored.
        why: Option<String>,
        /// From the beginning of its query to the answer of Redis.
        took: Duration,
    },
    /// Of many keys that went at once these were too cold for the queue.
    WarmsDropped {
        /// The cache.
        cache: String,
        /// How many.
        keys: u64,
    },
    /// Warming failed too often in a row: the cache is left alone for a while, then one try decides.
    WarmRests {
        /// The cache.
        cache: String,
        /// The last failure.
        why: String,
    },
    /// Warming in quiet hours.
    WarmSchedule {
        /// The cache.
        cache: String,
        /// What has happened.
        what: Scheduled,
        /// Keys that are left.
        keys: usize,
    },
    /// An operator has paused warming, or goes on with it.
    WarmingPaused {
        /// Whether it stands still now.
        paused: bool,
    },
    /// Retention deleted journal rows.
    Retired {
        /// How many.
        rows: u64,
    },
    /// The NOTIFY queue is not filling any more.
    QueueDrained,
    /// A probe has travelled the whole way.
    ProbeArrived {
        /// How long it took.
        took: Duration,
        /// The bell should have rung for it, and was not heard.
        unheard: bool,
    },
    /// A probe did not arrive in time, or cannot.
    ProbeLost {
        /// At which station, and what to do.
        why: String,
    },
    /// A new configuration is live.
    Reloaded,
    /// A new configuration was refused; the old one stays.
    ReloadRefused {
        /// The problems, as `check` prints them.
        why: String,
    },
    /// Something an operator should know that has no kind of its own.
    Warning {
        /// Short, constant: repeats of it are rate-limited together.
        what: &'static str,
        /// The particulars.
        detail: String,
    },
}
