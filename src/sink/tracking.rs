//! The connection that carries what Redis reports about tracked keys, beside the deletes.
//!
//! One connection for both (HAZARDS B8): whatever ends it ends the session and the index with it, and a PING that comes
//! back on it says that all earlier reports have been taken in.

use super::connect::{self, ConnectError};
use crate::config::model::Redis;
use crate::flow::index::Index;
use crate::planted;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError};

/// The index, and what feeds it.
#[derive(Debug, Clone)]
pub struct Tracking {
    index: Arc<Mutex<Index>>,
}

impl Tracking {
    /// An index that nothing feeds but the test.
    #[cfg(test)]
    pub(crate) fn of(index: Index) -> Self {
        Self { index: Arc::new(Mutex::new(index)) }
    }

    /// Asks or changes the index. `ask` must be short: reports wait meanwhile.
    pub fn with<R>(&self, ask: impl FnOnce(&mut Index) -> R) -> R {
        ask(&mut self.index.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Invalidate, [Value::Array(keys)]) => self.with(|index| {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        index.add(key);
                    }
                }
            }),
            // Everything may have changed: FLUSHALL, also of another database, a reload, a resynchronisation.
            (PushKind::Invalidate, _) => self.with(Index::broken),
            _ => {}
        }
    }
}

/// Connects as [`connect::connect`] does, and lets Redis report the keys under the index's prefixes. Where the server or
/// the ACL refuses that, the reason stands in the place of the tracking: SCAN serves then.
///
/// # Errors
/// As [`connect::connect`].
pub async fn connect(
    redis: &Redis,
    index: Option<Index>,
) -> Result<(MultiplexedConnection, Result<Option<Tracking>, String>), ConnectError> {
    let Some(index) = index.filter(|index| !index.prefixes().is_empty()) else {
        return Ok((connect::connect(redis).await?, Ok(None)));
    };
    let prefixes = index.prefixes().to_vec();
    let tracking = Tracking { index: planted::kept(Arc::new(Mutex::new(index))) };
    let reports = tracking.clone();
    let pushed = move |push: PushInfo| {
        reports.report(&push);
        Ok::<(), redis::aio::SendError>(())
    };
    let mut connection = match connect::connect_resp3(redis, pushed).await {
        Ok(connection) => connection,
        // A server that knows no RESP3, or a user who may not say HELLO; whatever else it was, it comes back here.
        Err(refused) => return Ok((connect::connect(redis).await?, Err(refused.what))),
    };
    let state = format!("{}:reports", redis.state);
    match begin(&mut connection, &prefixes, &state).await {
        Ok(()) => Ok((connection, Ok(Some(tracking)))),
        Err(refused) => Ok((connection, Err(connect::describe(&refused)))),
    }
}

async fn begin(connection: &mut MultiplexedConnection, prefixes: &[Vec<u8>], channel: &str) -> Result<(), RedisError> {
    // Nobody publishes there. A client that subscribes is under Redis' buffer limit for subscribers: if this process is
    // frozen, Redis drops the connection instead of keeping reports without end (HAZARDS B17).
    connection.subscribe(channel).await?;
    let mut on = redis::cmd("CLIENT");
    on.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in prefixes {
        on.arg("PREFIX").arg(prefix);
    }
    on.query_async(connection).await
}
