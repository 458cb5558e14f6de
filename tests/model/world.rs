//! What is modelled: a database with transactions, a cache of two keys with position, tombstones and floor, daemons, fills, and faults.
//!
//! A transaction gets its id when it begins and writes when it commits, so commits come in any order of ids. A snapshot is what
//! PostgreSQL says: ids below `xmax` that are not in `xip` are seen. A page is one key of one transaction, a script is one step. Both keys are cached
//! at the start. A crash of PostgreSQL hands out again the ids that left no trace in the WAL; a failover goes back to where the standby
//! was. A roll-back of Redis restores all of it at once, and no connection needs to break for it.

/// The cached keys.
const KEYS: usize = 2;
/// The most transactions.
const TXS: usize = 3;
/// The most daemons.
const DAEMONS: usize = 2;

/// What the design rests on; left out, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    DeletesBeforePosition,
    EveryPageMovesTheRecord,
    PositionInRedis,
    PositionIsASnapshot,
    Sentinel,
    BeaconBeforeIdleMove,
    GuardedFills,
    TombstoneIsASnapshot,
    History,
}

/// How often things may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    /// The keys that each transaction writes, as bits.
    pub(crate) writes: &'static [u8],
    pub(crate) daemons: u8,
    /// Sessions of all daemons together: two of them could take over from each other for ever.
    pub(crate) sessions: u8,
    pub(crate) fills: u8,
    pub(crate) saves: u8,
    pub(crate) rollbacks: u8,
    pub(crate) daemon_crashes: u8,
    pub(crate) postgres_crashes: u8,
    pub(crate) failovers: u8,
    /// Moves of the position without a change.
    pub(crate) idle_moves: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            writes: &[],
            daemons: 1,
            sessions: 3,
            fills: 0,
            saves: 0,
            rollbacks: 0,
            daemon_crashes: 0,
            postgres_crashes: 0,
            failovers: 0,
            idle_moves: 0,
        }
    }
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Begin(u8),
    Commit(u8),
    Abort(u8),
    ReadForFill(u8),
    StoreFill,
    OpenSession(u8),
    Heartbeat(u8),
    ReadJournal(u8),
    DeletePage(u8),
    CommitBeacon(u8),
    MovePosition(u8),
    CrashDaemon(u8),
    SaveRedis,
    RollBackRedis,
    CrashPostgres,
    CopyToStandby,
    FailOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Snapshot {
    xmax: u8,
    xip: u16,
}

impl Snapshot {
    fn sees(self, xid: u8) -> bool {
        xid < self.xmax && self.xip & (1 << xid) == 0
    }

    fn contains(self, other: Self) -> bool {
        (0..16).all(|xid| !other.sees(xid) || self.sees(xid))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Tx {
    #[default]
    Absent,
    Open(u8),
    Committed(u8),
    Ended,
}

/// One history of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Postgres {
    txs: [Tx; TXS],
    /// Per key, the transaction that wrote it last, counted from 1; 0: what was there before.
    values: [u8; KEYS],
    next: u8,
    /// The highest id that the WAL knows.
    durable: u8,
    timeline: u8,
    /// Another one after each crash and failover.
    sentinel: u8,
}

impl Postgres {
    fn snapshot(&self) -> Snapshot {
        let open = self.txs.iter().filter_map(|t| if let Tx::Open(xid) = t { Some(1 << *xid) } else { None });
        Snapshot { xmax: self.next, xip: open.sum() }
    }

    /// Everything that runs is gone, and so are ids that nothing durable knows.
    fn crash(&mut self) {
        for tx in &mut self.txs {
            if matches!(tx, Tx::Open(_)) {
                *tx = Tx::Ended;
            }
        }
        self.next = self.durable + 1;
        self.sentinel += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Record {
    /// None: flushed, but not over yet.
    position: Option<Snapshot>,
    timeline: u8,
    sentinel: u8,
    beacon: u8,
    /// The daemon that wrote it.
    writer: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Redis {
    cache: [Option<u8>; KEYS],
    record: Record,
    tombs: [Option<Snapshot>; KEYS],
    floor: Snapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Batch {
    target: Snapshot,
    /// Bit `tx * KEYS + key`; for a flush, bit `key`.
    pages: u16,
    flush: bool,
    /// Nothing had changed.
    idle: bool,
    /// The beacon that was committed after `target` was taken.
    beacon: Option<u8>,
    /// The position was written before the deletes, as it must not be.
    moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Daemon {
    open: bool,
    /// The record in Redis is the one that it wrote last.
    holds: bool,
    /// The record that was saved is the one that it wrote last.
    saved: bool,
    seen: Snapshot,
    batch: Option<Batch>,
}

/// A value on its way to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Fill {
    key: u8,
    value: u8,
    token: Snapshot,
    history: u8,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    left: Bounds,
    without: Option<Rule>,
    postgres: Postgres,
    standby: Option<Postgres>,
    redis: Redis,
    saved: Option<Redis>,
    daemons: [Daemon; DAEMONS],
    fill: Option<Fill>,
    /// A position that does not live in Redis.
    file: Option<Snapshot>,
}

impl World {
    /// Both keys cached, the first flush long over.
    pub(crate) fn new(left: Bounds, without: Option<Rule>) -> Self {
        let postgres =
            Postgres { txs: [Tx::Absent; TXS], values: [0; KEYS], next: 1, durable: 0, timeline: 1, sentinel: 1 };
        let start = postgres.snapshot();
        let record = Record { position: Some(start), timeline: 1, sentinel: 1, beacon: 0, writer: 0 };
        let redis = Redis { cache: [Some(0); KEYS], record, tombs: [None; KEYS], floor: start };
        Self {
            left,
            without,
            postgres,
            standby: None,
            redis,
            saved: None,
            daemons: [Daemon::default(); DAEMONS],
            fill: None,
            file: Some(start),
        }
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    /// Every step that could be made; [`World::after`] says which can.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::StoreFill, Step::SaveRedis, Step::RollBackRedis, Step::CrashPostgres];
        steps.extend([Step::CopyToStandby, Step::FailOver]);
        for n in 0..u8::try_from(self.left.writes.len()).expect("few") {
            steps.extend([Step::Begin(n), Step::Commit(n), Step::Abort(n)]);
        }
        steps.extend([Step::ReadForFill(0), Step::ReadForFill(1)]);
        for d in 0..self.left.daemons {
            steps.extend([Step::OpenSession(d), Step::Heartbeat(d), Step::ReadJournal(d), Step::DeletePage(d)]);
            steps.extend([Step::CommitBeacon(d), Step::MovePosition(d), Step::CrashDaemon(d)]);
        }
        steps
    }

    /// The world after a step; None where it cannot be made.
    pub(crate) fn after(&self, step: Step) -> Option<Self> {
        let mut w = self.clone();
        match step {
            Step::Begin(n) => w.begin(n)?,
            Step::Commit(n) => w.commit(n)?,
            Step::Abort(n) => {
                let Tx::Open(_) = w.postgres.txs[usize::from(n)] else { return None };
                w.postgres.txs[usize::from(n)] = Tx::Ended;
            }
            Step::ReadForFill(key) => {
                if !w.left.writes.iter().any(|keys| keys & (1 << key) != 0) {
                    return None;
                }
                take(&mut w.left.fills)?;
                if w.fill.is_some() {
                    return None;
                }
                let value = w.postgres.values[usize::from(key)];
                w.fill = Some(Fill { key, value, token: w.postgres.snapshot(), history: w.postgres.sentinel });
            }
            Step::StoreFill => w.store()?,
            Step::OpenSession(d) => w.open(d)?,
            Step::Heartbeat(d) => {
                let daemon = w.daemons[usize::from(d)];
                if !daemon.open || daemon.holds {
                    return None;
                }
                w.end(d);
            }
            Step::ReadJournal(d) => w.read(d)?,
            Step::DeletePage(d) => w.delete(d)?,
            Step::CommitBeacon(d) => w.beacon(d)?,
            Step::MovePosition(d) => w.move_position(d)?,
            Step::CrashDaemon(d) => {
                take(&mut w.left.daemon_crashes)?;
                w.end(d);
            }
            Step::SaveRedis => {
                take(&mut w.left.saves)?;
                w.saved = Some(w.redis);
                w.daemons.iter_mut().for_each(|d| d.saved = d.holds);
            }
            Step::RollBackRedis => {
                take(&mut w.left.rollbacks)?;
                w.redis = w.saved?;
                w.daemons.iter_mut().for_each(|d| d.holds = d.saved);
            }
            Step::CrashPostgres => {
                take(&mut w.left.postgres_crashes)?;
                w.postgres.crash();
                (0..w.left.daemons).for_each(|d| w.end(d));
            }
            Step::CopyToStandby => {
                if w.left.failovers == 0 || w.standby == Some(w.postgres) {
                    return None;
                }
                w.standby = Some(w.postgres);
            }
            Step::FailOver => {
                take(&mut w.left.failovers)?;
                let lost = w.postgres;
                w.postgres = w.standby?;
                w.postgres.crash();
                w.postgres.timeline = lost.timeline + 1;
                w.postgres.sentinel = lost.sentinel + 1;
                (0..w.left.daemons).for_each(|d| w.end(d));
            }
        }
        Some(w)
    }

    fn begin(&mut self, n: u8) -> Option<()> {
        let n = usize::from(n);
        // Which of them begins first makes no difference that the others' order does not make.
        if self.postgres.txs[n] != Tx::Absent || self.postgres.txs[..n].contains(&Tx::Absent) {
            return None;
        }
        self.postgres.txs[n] = Tx::Open(self.postgres.next);
        self.postgres.next += 1;
        Some(())
    }

    /// Synchronous: what is committed is durable.
    fn commit(&mut self, n: u8) -> Option<()> {
        let Tx::Open(xid) = self.postgres.txs[usize::from(n)] else { return None };
        self.postgres.txs[usize::from(n)] = Tx::Committed(xid);
        self.postgres.durable = self.postgres.durable.max(xid);
        let writes = self.left.writes[usize::from(n)];
        for key in (0..KEYS).filter(|k| writes & (1 << k) != 0) {
            self.postgres.values[key] = n + 1;
        }
        Some(())
    }

    fn store(&mut self) -> Option<()> {
        let fill = self.fill.take()?;
        let key = usize::from(fill.key);
        let tomb = self.redis.tombs[key];
        let fresh = (self.lacks(Rule::History) || fill.history == self.redis.record.sentinel)
            && fill.token.contains(self.redis.floor)
            && tomb.is_none_or(|tomb| {
                if self.lacks(Rule::TombstoneIsASnapshot) {
                    fill.token.sees(tomb.xmax)
                } else {
                    fill.token.contains(tomb)
                }
            });
        if fresh || self.lacks(Rule::GuardedFills) {
            self.redis.cache[key] = Some(fill.value);
        }
        Some(())
    }

    fn end(&mut self, d: u8) {
        self.daemons[usize::from(d)] = Daemon::default();
    }

    /// A session begins: it takes the record over, and flushes where the record does not fit the server.
    fn open(&mut self, d: u8) -> Option<()> {
        if self.daemons[usize::from(d)].open {
            return None;
        }
        take(&mut self.left.sessions)?;
        let (record, pg) = (self.redis.record, self.postgres);
        // A crash on the same timeline that kept the beacon has lost nothing: this goes on, where the daemon today still flushes.
        let fork = record.timeline != pg.timeline || (record.sentinel != pg.sentinel && record.beacon > pg.durable);
        let flush = record.position.is_none() || (fork && !self.lacks(Rule::Sentinel));
        let mut daemon = Daemon { open: true, ..Daemon::default() };
        let target = pg.snapshot();
        let in_redis = !self.lacks(Rule::PositionInRedis);
        let record = &mut self.redis.record;
        (record.timeline, record.sentinel) = (pg.timeline, pg.sentinel);
        if flush {
            record.position = None;
            self.redis.floor = target;
            self.redis.tombs = [None; KEYS];
            daemon.batch =
                Some(Batch { target, pages: (1 << KEYS) - 1, flush: true, idle: false, beacon: None, moved: false });
        } else {
            daemon.seen = if in_redis { record.position? } else { self.file? };
        }
        self.daemons[usize::from(d)] = daemon;
        self.wrote(d);
        Some(())
    }

    /// This daemon has written the record; every other one will find another than its own.
    fn wrote(&mut self, d: u8) {
        self.redis.record.writer = d;
        for (n, daemon) in self.daemons.iter_mut().enumerate() {
            daemon.holds = n == usize::from(d);
            if daemon.holds {
                daemon.saved = false;
            }
        }
    }

    /// The rows that `now` sees and `seen` does not, as bits.
    fn rows(&self, seen: Snapshot, now: Snapshot) -> u16 {
        let mut rows = 0;
        for (n, tx) in self.postgres.txs.iter().enumerate() {
            let Tx::Committed(xid) = *tx else { continue };
            let new = if self.lacks(Rule::PositionIsASnapshot) { xid >= seen.xmax } else { !seen.sees(xid) };
            if new && now.sees(xid) {
                let writes = self.left.writes[n];
                rows |= (0..KEYS).filter(|k| writes & (1 << k) != 0).fold(0, |bits, k| bits | 1 << (n * KEYS + k));
            }
        }
        rows
    }

    /// A batch begins, also an empty one: the position follows.
    fn read(&mut self, d: u8) -> Option<()> {
        let target = self.postgres.snapshot();
        let seen = self.daemons[usize::from(d)].seen;
        let pages = self.rows(seen, target);
        let daemon = &self.daemons[usize::from(d)];
        if !daemon.open || daemon.batch.is_some() || target == seen {
            return None;
        }
        if pages == 0 {
            take(&mut self.left.idle_moves)?;
        }
        let target = if self.without == Some(Rule::PositionIsASnapshot) {
            // The highest id that was read, and nothing about those below it.
            let highest =
                self.postgres.txs.iter().filter_map(|t| if let Tx::Committed(x) = t { Some(x + 1) } else { None });
            Snapshot { xmax: highest.max().unwrap_or(0).max(seen.xmax), xip: 0 }
        } else {
            target
        };
        let idle = pages == 0;
        self.daemons[usize::from(d)].batch =
            Some(Batch { target, pages, flush: false, idle, beacon: None, moved: false });
        Some(())
    }

    /// One script: the comparison, a delete, its tombstone, and a record that was never there before.
    fn delete(&mut self, d: u8) -> Option<()> {
        let early = self.lacks(Rule::DeletesBeforePosition);
        let daemon = &mut self.daemons[usize::from(d)];
        let batch = daemon.batch.as_mut()?;
        if batch.pages == 0 || (early && !batch.flush && !batch.moved) {
            return None;
        }
        if !daemon.holds {
            self.end(d);
            return Some(());
        }
        let page = batch.pages.trailing_zeros() as usize;
        batch.pages &= batch.pages - 1;
        let (target, flush) = (batch.target, batch.flush);
        if early && batch.moved && batch.pages == 0 {
            (daemon.seen, daemon.batch) = (target, None);
        }
        let key = page % KEYS;
        self.redis.cache[key] = None;
        if !flush {
            self.redis.tombs[key] = Some(match self.postgres.txs[page / KEYS] {
                Tx::Committed(xid) if self.lacks(Rule::TombstoneIsASnapshot) => Snapshot { xmax: xid, xip: 0 },
                _ => target,
            });
        }
        if !self.lacks(Rule::EveryPageMovesTheRecord) {
            self.wrote(d);
        }
        Some(())
    }

    /// A synchronous commit of our own, after the batch's snapshot was taken.
    fn beacon(&mut self, d: u8) -> Option<()> {
        let early = self.lacks(Rule::DeletesBeforePosition);
        let batch = self.daemons[usize::from(d)].batch.as_mut()?;
        if batch.beacon.is_some() || (batch.pages != 0 && !early) {
            return None;
        }
        batch.beacon = Some(self.postgres.next);
        self.postgres.durable = self.postgres.next;
        self.postgres.next += 1;
        Some(())
    }

    fn move_position(&mut self, d: u8) -> Option<()> {
        let (early, idle) = (self.lacks(Rule::DeletesBeforePosition), self.lacks(Rule::BeaconBeforeIdleMove));
        let daemon = &mut self.daemons[usize::from(d)];
        let batch = daemon.batch.as_mut()?;
        if batch.moved || ((batch.flush || !early) && batch.pages != 0) {
            return None;
        }
        let beacon = if idle && batch.idle { batch.beacon.unwrap_or(0) } else { batch.beacon? };
        if !daemon.holds {
            self.end(d);
            return Some(());
        }
        let target = batch.target;
        batch.moved = true;
        if batch.pages == 0 {
            (daemon.seen, daemon.batch) = (target, None);
        }
        (self.redis.record.position, self.redis.record.beacon) = (Some(target), beacon);
        self.file = Some(target);
        self.wrote(d);
        Some(())
    }

    /// Nothing runs, and a daemon that holds the record says that everything is done.
    pub(crate) fn is_quiet(&self) -> bool {
        let pg = &self.postgres;
        let done = |d: &Daemon| d.open && d.holds && d.batch.is_none() && self.rows(d.seen, pg.snapshot()) == 0;
        self.fill.is_none() && !pg.txs.iter().any(|t| matches!(t, Tx::Open(_))) && self.daemons.iter().any(done)
    }

    /// A key whose cached value is not the database's: one that was overwritten, or one of a commit that is gone.
    pub(crate) fn stale(&self) -> Option<String> {
        (0..KEYS).find_map(|key| {
            let (cached, is) = (self.redis.cache[key]?, self.postgres.values[key]);
            (cached != is).then(|| format!("key {key} is cached as of write {cached}, the database has write {is}"))
        })
    }
}

/// One of so many.
fn take(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}
