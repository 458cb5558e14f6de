//! SCAN passes: one walk over the keyspace serves all patterns that wait.
//!
//! A pass only finds; deleting is the position's business. It runs beside the deletes of exact keys on a connection of
//! its own, and never resumes: a cursor is worth nothing after a reconnect (HAZARDS R9), so a pass that fails is
//! forgotten with the whole session.

use super::connect;
use super::position::fault;
use crate::config::model::Redis;
use crate::planted;
use crate::rules::matcher::Matcher;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Keys looked at per SCAN call: about 0.1 ms of the server's thread, which others want meanwhile.
const COUNT: usize = 250;
/// Finds that wait for their delete; a slow Redis slows the walk down, not the daemon's memory.
const WAITING: usize = 4;

/// What a pass reports.
#[derive(Debug)]
pub enum Found {
    /// Keys, each with the indices of all patterns that match it.
    Keys(Vec<(Vec<u8>, Vec<usize>)>),
    /// The walk is over; that many keys were looked at.
    End {
        /// Keys looked at.
        scanned: u64,
    },
    /// The walk broke; says why.
    Broken(String),
    /// The index can no longer say what is left.
    Lost,
}

/// A walk under way; dropping it ends the walk.
#[derive(Debug)]
pub struct Pass {
    /// What it finds.
    pub found: mpsc::Receiver<Found>,
    task: JoinHandle<()>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins a walk for `patterns`.
#[must_use]
pub fn begin(redis: Redis, patterns: Vec<Vec<u8>>) -> Pass {
    let (sender, found) = mpsc::channel(WAITING);
    let task = tokio::spawn(async move {
        let end = match walk(&redis, patterns, &sender).await {
            Ok(scanned) => Found::End { scanned },
            Err(why) => Found::Broken(why),
        };
        // The receiver is gone when the session has ended; then nobody wants to know.
        let _ = sender.send(end).await;
    });
    Pass { found, task }
}

async fn walk(redis: &Redis, patterns: Vec<Vec<u8>>, sender: &mpsc::Sender<Found>) -> Result<u64, String> {
    let mut connection = connect::connect(redis).await.map_err(|e| e.to_string())?;
    let matcher = Matcher::new(patterns);
    let pattern = matcher.scan_match();
    let (mut cursor, mut scanned) = (planted::left_at(), 0u64);
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(&pattern)
            .arg("COUNT")
            .arg(COUNT)
            .query_async(&mut connection)
            .await
            .map_err(|e| fault(&e).to_string())?;
        scanned += COUNT as u64;
        let hits: Vec<_> = keys
            .into_iter()
            .filter_map(|key| {
                let which = matcher.matching(&key);
                (!which.is_empty()).then_some((key, which))
            })
            .collect();
        if !hits.is_empty() && sender.send(Found::Keys(hits)).await.is_err() {
            return Ok(scanned);
        }
        planted::leave_at(next);
        if next == 0 {
            return Ok(scanned);
        }
        cursor = next;
    }
}
