//! Deletes and the position, in one script: the only way in which the daemon deletes.
//!
//! The script compares the record with the one we wrote last and changes nothing if it is another: Redis rolled back,
//! somebody else works, or somebody deleted it. The session ends then and starts from what is there (HAZARDS 3.3, B1,
//! B3). Every call writes a record that was never written before, so no roll-back goes unnoticed.

use super::connect::{describe, remedy};
use super::portion::{MOST_ASKED, MOST_KEYS, room};
use super::script::Call;
use crate::flow::record::Record;
use crate::flow::tombstones::{BATCH, FLOOR, GUARDED, HISTORY, TOMBSTONE, Tombstones, Writes};
use crate::flow::worth::Worths;
use crate::planted;
use crate::rules::snapshot::Snapshot;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, Script, ServerErrorKind, Value};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Readers that ask for `…:alive` stop trusting the cache this long after evictions have stopped.
const ALIVE: Duration = Duration::from_secs(5);
/// Within this it is not set anew: a change that somebody waits for has no need of it.
const FRESH: Duration = Duration::from_secs(1);

/// Names of fields.
type Fields = Vec<Vec<u8>>;

/// Why a call did not work.
#[derive(Debug)]
pub enum Fault {
    /// Redis refused or is gone; says why and what to do.
    Redis(String),
    /// The record is not the one we wrote; this is what was found (empty: none).
    Moved(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(why) => f.write_str(why),
            Self::Moved(found) if found.is_empty() => f.write_str("the position is gone"),
            Self::Moved(_) => f.write_str("the position is another one than we wrote"),
        }
    }
}

/// Wraps an error of Redis with its remedy.
#[must_use]
pub fn fault(e: &RedisError) -> Fault {
    let remedy = remedy(e);
    let what = describe(e);
    Fault::Redis(if remedy.is_empty() { what } else { format!("{what} ({remedy})") })
}

/// What Redis remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The record's text; empty where there is none.
    pub record: String,
    /// Field `edges`: which edges were proven.
    pub edges: String,
    /// Field `tables`: what the tables looked like at the last audit.
    pub tables: String,
}

/// The position, held by one session.
#[derive(Debug)]
pub struct Position {
    connection: MultiplexedConnection,
    script: Script,
    keys: [String; 3],
    record: Record,
    written: String,
    nonce: String,
    steps: u64,
    /// The record that the next delete writes, made before anybody waits for it.
    ready: Option<(Record, String)>,
    alive: bool,
    /// When `…:alive` was set last; None: it was not.
    refreshed: Option<Instant>,
    probe: (Script, String),
    /// What late fills must have seen. Whatever is named here is written before or with the next deletes.
    pub tombstones: Tombstones,
    /// What was warmed: Redis is asked how it was used when it goes. None: nothing is warmed.
    pub worths: Option<Arc<Mutex<Worths>>>,
}

/// What guards the fills: written beside the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The history that tokens must be of.
    pub history: String,
    /// What fills must have seen at least.
    pub floor: Snapshot,
    /// The guarded caches, with `key` or `pattern`.
    pub caches: Vec<(String, &'static str)>,
}

/// Reads what Redis remembers under `state`.
///
/// # Errors
/// [`Fault::Redis`].
pub async fn remember(connection: &mut MultiplexedConnection, state: &str) -> Result<Memory, Fault> {
    let fields: (Option<String>, Option<String>, Option<String>) = redis::cmd("HMGET")
        .arg(format!("{state}:position"))
        .arg(&["rec", "edges", "tables"])
        .query_async(connection)
        .await
        .map_err(|e| fault(&e))?;
    Ok(Memory {
        record: planted::saved().or(fields.0).unwrap_or_default(),
        edges: fields.1.unwrap_or_default(),
        tables: fields.2.unwrap_or_default(),
    })
}

/// The record's text as it is now; empty where there is none. For a daemon that only watches.
///
/// # Errors
/// [`Fault::Redis`].
pub async fn glance(connection: &mut MultiplexedConnection, state: &str) -> Result<String, Fault> {
    let mut get = redis::cmd("HGET");
    get.arg(format!("{state}:position")).arg("rec");
    let record: Option<String> = get.query_async(connection).await.map_err(|e| fault(&e))?;
    Ok(record.unwrap_or_default())
}

impl Position {
    /// Takes the position over: `found` is the record's text as it was read, `record` what shall stand there from now
    /// on, `nonce` is random and this session's own.
    ///
    /// # Errors
    /// [`Fault::Moved`] when somebody else was faster.
    pub async fn take(
        connection: MultiplexedConnection,
        state: &str,
        found: String,
        record: Record,
        nonce: String,
    ) -> Result<Self, Fault> {
        let mut position = Self {
            connection,
            script: Script::new(planted::script(include_str!("apply.lua"))),
            keys: ["position", "nothing", "alive"].map(|name| format!("{state}:{name}")),
            record,
            written: found,
            nonce,
            steps: 0,
            ready: None,
            alive: false,
            refreshed: None,
            probe: (Script::new(include_str!("probe.lua")), format!("{state}:probe")),
            tombstones: Tombstones::default(),
            worths: None,
        };
        position.step(&[], &[], |_| {}).await?;
        Ok(position)
    }

    /// Whether readers may trust the caches from now on: not before the first flush is over, not while nothing is
    /// deleted (HAZARDS B11). Only then the scripts refresh `…:alive`; otherwise they take it away at once.
    pub fn vouch(&mut self, alive: bool) {
        self.alive = alive;
    }

    /// This session's own.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The connection that deletes: what is asked on it before a delete is answered before it.
    #[must_use]
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// How many keys a script may delete now: at most [`MOST_KEYS`].
    #[must_use]
    pub fn most_keys(&self) -> usize {
        if self.worths.is_some() { MOST_ASKED } else { MOST_KEYS }
    }

    /// What the record says.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Nothing is to be done now: makes what the next delete writes beside.
    pub fn prepare(&mut self) {
        if self.ready.is_none() {
            self.ready = Some(self.next(|_| {}));
        }
    }

    /// Another record than any before, with its text.
    fn next(&mut self, change: impl FnOnce(&mut Record)) -> (Record, String) {
        let mut record = self.record.clone();
        change(&mut record);
        self.steps += 1;
        record.step = format!("{}-{}", self.nonce, self.steps);
        let text = record.to_text();
        (record, text)
    }

    /// Deletes `keys` (at most [`MOST_KEYS`]). Returns for each whether it was there.
    ///
    /// # Errors
    /// As [`Position::step`].
    pub async fn delete(&mut self, keys: &[&[u8]]) -> Result<Vec<bool>, Fault> {
        let writes = self.writes(keys.len()).await?;
        let next = self.ready.take().unwrap_or_else(|| self.next(|_| {}));
        self.replace(keys, &writes, next).await
    }

    /// Deletes `keys` (at most [`MOST_KEYS`]), lets `change` alter the record, writes `fields` beside it: all or
    /// nothing. Returns for each key whether it was there.
    ///
    /// # Errors
    /// [`Fault::Moved`]: nothing was changed. [`Fault::Redis`]: unknown whether anything was; a replay is right either way.
    pub async fn step(
        &mut self,
        keys: &[&[u8]],
        fields: &[(&str, &str)],
        change: impl FnOnce(&mut Record),
    ) -> Result<Vec<bool>, Fault> {
        let mut writes = self.writes(keys.len()).await?;
        writes.set.extend(fields.iter().map(|(field, value)| ((*field).into(), (*value).into())));
        let next = self.next(change);
        self.replace(keys, &writes, next).await
    }

    /// What goes with a script of so many keys: it holds Redis no longer than that many keys do. What is evicted is named before it goes.
    async fn writes(&mut self, keys: usize) -> Result<Writes, Fault> {
        debug_assert!(keys <= MOST_KEYS);
        while self.tombstones.pending() > room(keys) {
            self.rewrite().await?;
        }
        Ok(self.tombstones.next(room(keys)))
    }

    /// The record anew, with the tombstones that fit.
    async fn rewrite(&mut self) -> Result<(), Fault> {
        let (writes, next) = (self.tombstones.next(room(0)), self.next(|_| {}));
        self.replace(&[], &writes, next).await.map(drop)
    }

    /// The script, with another record than before.
    async fn replace(
        &mut self,
        keys: &[&[u8]],
        writes: &Writes,
        (mut record, mut text): (Record, String),
    ) -> Result<Vec<bool>, Fault> {
        if !keys.is_empty() && planted::is("last-page-only") {
            (record, text) = (self.record.clone(), self.written.clone());
        }
        // It was made of a record that will have been replaced.
        self.ready = None;
        let answer = match self.call(keys, &text, writes).await {
            Err(Fault::Redis(_)) if !keys.is_empty() && planted::is("reply-ignored") => {
                return Ok(vec![true; keys.len()]);
            }
            answer => answer?,
        };
        planted::save(&text);
        self.record = record;
        self.written = text;
        Ok(answer)
    }

    /// Writes the tombstones and the floor that Redis still lacks: to be called before a SCAN looks for what they name.
    ///
    /// # Errors
    /// As [`Position::step`].
    pub async fn entomb(&mut self) -> Result<(), Fault> {
        while self.tombstones.owes() {
            self.rewrite().await?;
        }
        Ok(())
    }

    /// Whether Redis holds a guard, whoever wrote it.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn is_guarded(&mut self) -> Result<bool, Fault> {
        Ok(!self.field(HISTORY).await?.is_empty())
    }

    /// Guards fills from now on, or with None no more: what an earlier session left goes, the floor stands in for it.
    ///
    /// # Errors
    /// As [`Position::step`].
    pub async fn guard(&mut self, guard: Option<Guard>) -> Result<(), Fault> {
        let (guards, leftovers) = self.leftovers().await?;
        let mut writes = Writes::default();
        match guard {
            Some(guard) => {
                writes.drop = guards;
                writes.set.push((HISTORY.into(), guard.history.into()));
                writes.set.extend(
                    guard.caches.iter().map(|(name, kind)| (format!("{GUARDED}{name}").into(), kind.as_bytes().into())),
                );
                writes.set.push((FLOOR.into(), guard.floor.to_string().into()));
                self.tombstones.begin(guard.floor);
            }
            None => {
                writes.drop = guards;
                writes.drop.extend([HISTORY, FLOOR].map(|f| f.as_bytes().to_vec()));
                self.tombstones.end();
            }
        }
        let next = self.next(|_| {});
        self.replace(&[], &writes, next).await?;
        for drop in leftovers.chunks(MOST_KEYS) {
            let next = self.next(|_| {});
            self.replace(&[], &Writes { drop: drop.to_vec(), set: Vec::new() }, next).await?;
        }
        Ok(())
    }

    /// The fields of guarded caches, and those of tombstones, that stand in Redis.
    async fn leftovers(&mut self) -> Result<(Fields, Fields), Fault> {
        let (mut guards, mut graves, mut cursor) = (Vec::new(), Vec::new(), 0u64);
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&self.keys[0]).arg(cursor).arg("COUNT").arg(MOST_KEYS);
            let (next, pairs): (u64, Fields) = scan.query_async(&mut self.connection).await.map_err(|e| fault(&e))?;
            // Fields and values in turn.
            for field in pairs.into_iter().step_by(2) {
                if field.starts_with(GUARDED.as_bytes()) {
                    guards.push(field);
                } else if [TOMBSTONE, BATCH].iter().any(|p| field.starts_with(p.as_bytes())) {
                    graves.push(field);
                }
            }
            if next == 0 {
                return Ok((guards, graves));
            }
            cursor = next;
        }
    }

    /// The key that a probe deletes.
    #[must_use]
    pub fn probe_key(&self) -> &str {
        &self.probe.1
    }

    /// Sets the key that a probe deletes; it goes by itself after `ttl`. Nothing is compared: the key is pgevict's own and means nothing.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn plant_probe(&mut self, nonce: &str, ttl: Duration) -> Result<(), Fault> {
        let (script, key) = &self.probe;
        let mut call = script.prepare_invoke();
        call.key(key).arg(nonce).arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        call.invoke_async(&mut self.connection).await.map_err(|e| fault(&e))
    }

    /// Reads another field beside the record; empty where there is none.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn field(&mut self, name: &str) -> Result<String, Fault> {
        let mut get = redis::cmd("HGET");
        get.arg(&self.keys[0]).arg(name);
        let value: Option<String> = get.query_async(&mut self.connection).await.map_err(|e| fault(&e))?;
        Ok(value.unwrap_or_default())
    }

    /// Comes back when everything that Redis said before is taken in: reports of tracked keys come on this connection.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn fence(&mut self) -> Result<(), Fault> {
        if planted::is("unfenced") {
            return Ok(());
        }
        let nonce = format!("{}-{}", self.nonce, self.steps);
        let echo: String =
            redis::cmd("PING").arg(&nonce).query_async(&mut self.connection).await.map_err(|e| fault(&e))?;
        if echo == nonce { Ok(()) } else { Err(odd()) }
    }

    /// Redis reports no keys on this connection from now on.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn stop_reports(&mut self) -> Result<(), Fault> {
        let mut off = redis::cmd("CLIENT");
        off.arg("TRACKING").arg("OFF").query_async(&mut self.connection).await.map_err(|e| fault(&e))
    }

    /// Whether each of these keys is there. MEMORY USAGE, because it neither touches a key nor counts as a hit or a miss:
    /// those are what operators judge their caches by.
    ///
    /// # Errors
    /// [`Fault::Redis`].
    pub async fn exist(&mut self, keys: &[Vec<u8>]) -> Result<Vec<bool>, Fault> {
        let mut pipeline = redis::Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(1);
        }
        let there: Vec<Option<u64>> = pipeline.query_async(&mut self.connection).await.map_err(|e| fault(&e))?;
        Ok(there.iter().map(Option::is_some).collect())
    }

    /// Writes the record anew without moving it: finds a roll-back while nothing happens, keeps `alive` alive, and shows
    /// a waiting daemon that this one works. Tombstones that are old enough go.
    ///
    /// # Errors
    /// As [`Position::step`].
    pub async fn heartbeat(&mut self) -> Result<(), Fault> {
        self.tombstones.age(Instant::now());
        self.rewrite().await
    }

    fn worths(&self) -> Option<MutexGuard<'_, Worths>> {
        self.worths.as_ref().map(|w| w.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes down how the keys were used that `ask` asked for.
    fn said(&self, keys: &[&[u8]], ask: &str, said: &[Value]) {
        let Some(mut worths) = self.worths() else { return };
        let now = Instant::now();
        let asked = keys.iter().zip(ask.bytes()).filter(|(_, letter)| *letter != b'-');
        for ((key, letter), answer) in asked.zip(said) {
            match answer {
                Value::Int(n) => worths.gone(key, letter, u64::try_from(*n).ok(), now),
                Value::BulkString(why) => worths.refused(key, letter, &String::from_utf8_lossy(why)),
                _ => worths.refused(key, letter, ""),
            }
        }
    }

    async fn call(&mut self, keys: &[&[u8]], text: &str, writes: &Writes) -> Result<Vec<bool>, Fault> {
        let fields = || writes.set.iter().flat_map(|(field, value)| [field, value]).chain(&writes.drop);
        let words = self.keys.len() + keys.len() + 5 + 2 * writes.set.len() + writes.drop.len();
        let names = self.keys.iter().map(String::len).sum::<usize>() + keys.iter().map(|key| key.len()).sum::<usize>();
        let bytes = names + self.written.len() + text.len() + keys.len() + fields().map(Vec::len).sum::<usize>();
        let mut call = Call::of(&self.script, self.keys.len() + keys.len(), words, bytes);
        self.keys.iter().for_each(|key| call.word(key));
        keys.iter().for_each(|key| call.word(*key));
        call.word(&self.written);
        call.word(text);
        let now = Instant::now();
        let refreshed = match self.refreshed {
            _ if !self.alive => {
                call.word("");
                None
            }
            Some(at) if now.saturating_duration_since(at) < FRESH => {
                call.word("-");
                Some(at)
            }
            _ => {
                call.word(u64::try_from(ALIVE.as_millis()).unwrap_or(5_000));
                Some(now)
            }
        };
        call.word(writes.set.len());
        let ask = self.worths().filter(|_| !keys.is_empty()).map(|w| w.ask(keys)).unwrap_or_default();
        call.word(&ask);
        fields().for_each(|field| call.word(field));
        let answer = call.run(&mut self.connection).await.map_err(|e| fault(&e))?;
        let Value::Array(parts) = answer else { return Err(odd()) };
        match parts.split_first() {
            Some((Value::Int(1), [gone @ .., Value::Array(said)])) if !ask.is_empty() && gone.len() == keys.len() => {
                self.refreshed = refreshed;
                self.said(keys, &ask, said);
                deleted(gone)
            }
            Some((Value::Int(1), gone)) if gone.len() == keys.len() => {
                self.refreshed = refreshed;
                deleted(gone)
            }
            Some((Value::Int(0), [Value::BulkString(found)])) => {
                Err(Fault::Moved(String::from_utf8_lossy(found).into_owned()))
            }
            _ => Err(odd()),
        }
    }
}

/// Whether each key was there.
fn deleted(gone: &[Value]) -> Result<Vec<bool>, Fault> {
    gone.iter().map(|v| if let Value::Int(n) = v { Ok(*n > 0) } else { Err(odd()) }).collect()
}

/// A reply that no Redis gives.
fn odd() -> Fault {
    fault(&RedisError::from((
        ErrorKind::Server(ServerErrorKind::ResponseError),
        "the script answered in another form than it has",
    )))
}
