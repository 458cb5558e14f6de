//! The checked configuration: what the program needs, not what the operator typed.
//!
//! Values of these types come only from [`super::load`] (or from tests): every reference resolves, every template
//! is parsed, every default is filled in.

mod connection;
mod warm;

pub use connection::{ChannelBinding, PgHost, PgTls, PgUrl, RedisAddress, RedisUrl, Secret, SslMode};
pub use warm::{CacheWarm, Http, Method, Quiet, Refill, Refresh, Warm, WarmFormat};

use crate::rules::template::Template;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Global mode; a table's own overrides it.
    pub mode: Mode,
    /// Where changes come from.
    pub postgres: Postgres,
    /// Where keys go from.
    pub redis: Redis,
    /// What stands in front of every key.
    pub namespace: Namespace,
    /// What bounds the daemon.
    pub limits: Limits,
    /// What bounds warming.
    pub warm: Warm,
    /// What the application caches, in the file's order.
    pub caches: Vec<Cache>,
    /// Which changes make which cache stale, in the file's order.
    pub tables: Vec<Table>,
    /// The admin socket and listener.
    pub admin: Admin,
    /// How the log looks.
    pub log: Log,
    /// The `[[test]]` cases.
    pub tests: Vec<Test>,
}

/// What becomes of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Keys are deleted.
    #[default]
    Enforce,
    /// What would be deleted is logged; nothing is.
    Observe,
    /// Changes are passed over.
    Off,
}

impl Mode {
    /// As configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// `[postgres]`.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Connection parameters, password included; `Debug` prints no secret.
    pub url: PgUrl,
    /// How changes travel.
    pub delivery: Delivery,
    /// Schema of journal and functions. Default `pgevict`.
    pub schema: String,
    /// NOTIFY channel. Default `pgevict`.
    pub channel: String,
    /// Whether writers may ring.
    pub bell: Bell,
    /// Notify delivery after a cut.
    pub on_gap: OnGap,
    /// How long journal rows are kept at least. Default 1 h.
    pub retention: Duration,
    /// How long they are kept at most while a target has not confirmed. Default 24 h.
    pub retention_max: Duration,
    /// How large the journal may become while a target has not confirmed, in bytes. Default 1 GB (10⁹).
    pub journal_max_bytes: u64,
}

/// How changes travel from PostgreSQL to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// A durable journal table; NOTIFY only wakes.
    #[default]
    Journal,
    /// The payload in NOTIFY, no table: what happens while the daemon is away is a gap.
    Notify,
}

impl Delivery {
    /// As configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Notify => "notify",
        }
    }
}

/// Whether writers may ring (NOTIFY with an empty payload) while the daemon sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Bell {
    /// Where it harms nobody.
    #[default]
    Auto,
    /// Poll only.
    Never,
}

/// What a gap of notify delivery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnGap {
    /// All caches are evicted whole.
    #[default]
    Evict,
    /// It is logged and counted, and the daemon is not ready until the next start.
    Alert,
}

/// `[redis]`.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where.
    pub url: RedisUrl,
    /// Prefix of pgevict's own keys. Default `{pgevict}`.
    pub state: String,
}

/// `[namespace]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// As written, `{version}` included; empty when not set. Literal otherwise: doubled braces are already single
    /// in [`Namespace::prefixes`].
    pub prefix: String,
    /// `(version, rendered prefix)`, in the file's order; exactly one entry with `None` where no versions are set.
    pub prefixes: Vec<(Option<String>, String)>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Redis globs over full keys that are never deleted.
    pub never_delete: Vec<String>,
    /// Default 100 000.
    pub max_keys_per_change: u64,
    /// What happens past it.
    pub over_limit: OverLimit,
    /// Bytes that the live key index may take; 0: there is none, SCAN serves all patterns. Default 128 MB.
    pub index_memory: u64,
}

/// What happens when one pattern of one row change matches more than `max_keys_per_change` keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OverLimit {
    /// Deletes go on in throttled slices, with an alert.
    #[default]
    Slow,
    /// The edge is not evicted, counted, and the daemon not ready until an operator acts.
    Refuse,
}

/// `[cache.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// NAME.
    pub name: String,
    /// From `key` or `pattern`.
    pub template: Template,
    /// What the application sets.
    pub ttl: Option<Duration>,
    /// Delete once more after this long.
    pub repeat_after: Option<Duration>,
    /// Evictions leave tombstones that late fills must respect: as written, or because pgevict itself warms keys that
    /// evictions of this cache may delete.
    pub guard_fills: bool,
    /// How it is filled again.
    pub warm: Option<CacheWarm>,
    /// A whole form that begins with a wildcard is meant.
    pub allow_broad: bool,
    /// Redis reports its keys to the live key index. Default: true for a pattern, false for a key.
    pub index: bool,
}

/// A table's name as the catalog has it: case-sensitive, unfolded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Default `public`. Both are shared: every statement that is delivered names its table.
    pub schema: Arc<str>,
    /// The table.
    pub name: Arc<str>,
}

impl TableName {
    /// Both parts quoted for SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", crate::rules::sql::ident(&self.schema), crate::rules::sql::ident(&self.name))
    }
}

impl fmt::Display for TableName {
    /// As configuration spells it: without `public`, parts that hold a dot or a quote in SQL quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |s: &str| if s.contains(['.', '"']) { crate::rules::sql::ident(s) } else { s.to_owned() };
        if &*self.schema == "public" {
            write!(f, "{}", part(&self.name))
        } else {
            write!(f, "{}.{}", part(&self.schema), part(&self.name))
        }
    }
}

/// `[table.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// NAME.
    pub name: TableName,
    /// UPDATEs that change none of these are ignored; None: every UPDATE counts. Edges may narrow it with their own.
    pub columns: Option<Vec<String>>,
    /// Same key again within this: one delete now, one at the end.
    pub debounce: Option<Duration>,
    /// Overrides [`Config::mode`].
    pub mode: Option<Mode>,
    /// Only rows that have, before or after, such a value.
    pub when: Vec<When>,
    /// Holes that come through a foreign key.
    pub lookups: Vec<Lookup>,
    /// Triggers fire under `session_replication_role = replica` too.
    pub always: bool,
    /// Whether triggers fire once a statement or once a row.
    pub capture: CaptureLevel,
    /// What an error of the trigger does.
    pub on_error: OnError,
    /// The edges, in the file's order.
    pub edges: Vec<Edge>,
}

/// How often the triggers of a table fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CaptureLevel {
    /// Once a statement; once a row where the database says that the table is a Timescale hypertable.
    #[default]
    Auto,
    /// Once a row, whatever the table is: for migrations that are made without asking the database.
    Row,
}

/// What an error in a trigger does to the application's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnError {
    /// Nothing: capture degrades in layers.
    #[default]
    Open,
    /// It fails the statement: for tables where a stale cache is worse than a failed write.
    Closed,
}

/// One column's condition of `when`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct When {
    /// The column.
    pub column: String,
    /// Its values as PostgreSQL casts them to text.
    pub values: Vec<String>,
}

/// `lookup.HOLE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lookup {
    /// HOLE.
    pub hole: String,
    /// Column of this table.
    pub follow: String,
    /// The parent.
    pub to: TableName,
    /// Column of the parent that fills the hole.
    pub take: String,
    /// Column of the parent that `follow` is joined to; None: its primary key.
    pub by: Option<String>,
}

/// One entry of `evict`: this table → that cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Name of the cache; it exists in [`Config::caches`].
    pub cache: String,
    /// Overrides the table's `columns` for this edge.
    pub columns: Option<Vec<String>>,
    /// Which operations count. Default all three.
    pub ops: Ops,
    /// Hole → column, where they are called differently.
    pub with: BTreeMap<String, String>,
    /// Conditions of this edge alone, beside the table's.
    pub when: Vec<When>,
}

/// A set of operations. TRUNCATE counts as `delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ops {
    /// INSERT, COPY, MERGE … INSERT.
    pub insert: bool,
    /// UPDATE, ON CONFLICT DO UPDATE, MERGE … UPDATE.
    pub update: bool,
    /// DELETE, TRUNCATE, cascades.
    pub delete: bool,
}

impl Ops {
    /// All three.
    pub const ALL: Self = Self { insert: true, update: true, delete: true };

    /// Whether `op` is in the set.
    #[must_use]
    pub fn has(self, op: Op) -> bool {
        match op {
            Op::Insert => self.insert,
            Op::Update => self.update,
            Op::Delete | Op::Truncate => self.delete,
        }
    }
}

/// What happened to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Rows came.
    Insert,
    /// Rows changed.
    Update,
    /// Rows went.
    Delete,
    /// All rows went.
    Truncate,
}

impl Op {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// `insert`, `update`, `delete`, `truncate`: as logs, metrics and JSON spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The letter in the journal's column `op`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Insert => 'i',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Truncate => 't',
        }
    }

    /// The inverse of [`Op::letter`].
    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.letter() == letter as char)
    }
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket. Default `/run/pgevict/admin.sock`.
    pub socket: PathBuf,
    /// TCP address of the read-only listener; None: not opened. Default none.
    pub listen: Option<std::net::SocketAddr>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// How keys and hole values appear.
    pub keys: LogKeys,
    /// The lowest level that is printed. Default info.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// journald under systemd, text on a terminal, json otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// Native fields.
    Journald,
}

/// How keys and hole values appear in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogKeys {
    /// As they are, escaped and cut at 256 bytes.
    #[default]
    Full,
    /// As a short hash, the same for the same text.
    Hashed,
    /// Not at all.
    None,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Operations that failed for good.
    Error,
    /// Failures that are retried, and what an operator should look at.
    Warn,
    /// What was evicted.
    #[default]
    Info,
    /// Also what was absent, and each step.
    Debug,
}

/// One `[[test]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Shown in the result.
    pub name: String,
    /// Line of the file where the case begins, from 1.
    pub line: usize,
    /// The table.
    pub table: TableName,
    /// The row before, None for INSERT.
    pub old: Option<Row>,
    /// The row after, None for DELETE.
    pub new: Option<Row>,
    /// `truncate = true`: the whole table goes; no rows then.
    pub truncate: bool,
    /// Expected keys and patterns, without namespace prefix; a set.
    pub expect: Vec<String>,
}

/// A row as a test or `explain` gives it: column (or looked-up hole) → text, None for NULL.
pub type Row = BTreeMap<String, Option<String>>;

impl Config {
    /// The cache of that name.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<&Cache> {
        self.caches.iter().find(|c| c.name == name)
    }

    /// The table of that name.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == *name)
    }

    /// The mode in which the edges of `table` run.
    #[must_use]
    pub fn mode_of(&self, table: &TableName) -> Mode {
        self.table(table).and_then(|t| t.mode).unwrap_or(self.mode)
    }
}
