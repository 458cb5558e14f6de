//! What housekeeping needs to know of the journal and the NOTIFY queue, read in one statement.

use super::session::in_schema;
use super::side::{Failure, Side};
use crate::rules::snapshot::Snapshot;
use std::time::Duration;

/// One look at the journal.
#[derive(Debug, Clone)]
pub struct House {
    /// How full the NOTIFY queue is, 0 to 1.
    pub queue: f64,
    /// The layouts that the database knows.
    pub layouts: Vec<i64>,
    /// Rows in the journal, by the server's statistics.
    pub rows: u64,
    /// About how many bytes its rows take on disk, index included.
    pub bytes: u64,
    /// What is older than `retention`, where there is something of it to retire.
    pub kept: Option<Snapshot>,
    /// The same for `retention_max`.
    pub most: Option<Snapshot>,
    /// The newest snapshot that a beacon vouches for.
    pub newest: Option<Snapshot>,
}

impl Side {
    /// Looks at the journal, and advances the tail of the NOTIFY queue.
    ///
    /// # Errors
    /// What happened.
    pub async fn house(&self, retention: Duration, retention_max: Duration) -> Result<House, Failure> {
        let sql = in_schema(include_str!("../../sql/house.sql"), self.schema());
        let parameters = [retention.as_secs_f64(), retention_max.as_secs_f64()];
        let row = self
            .run(async |client| {
                let statement = client.prepare_cached(&sql).await?;
                client.query_one(&statement, &[&parameters[0], &parameters[1]]).await
            })
            .await?;
        let snapshot = |i: usize| row.get::<_, Option<&str>>(i).and_then(|text| text.parse().ok());
        let count = |i: usize| u64::try_from(row.get::<_, i64>(i)).unwrap_or(0);
        Ok(House {
            queue: row.get(0),
            layouts: row.get(1),
            rows: count(2),
            bytes: count(3),
            kept: snapshot(4),
            most: snapshot(5),
            newest: snapshot(6),
        })
    }

    /// The sessions that may keep the NOTIFY queue from draining, at most three, in words.
    ///
    /// # Errors
    /// What happened.
    pub async fn queue_holders(&self) -> Result<Vec<String>, Failure> {
        let rows =
            self.run(async |client| client.query(include_str!("../../sql/queue_holders.sql"), &[]).await).await?;
        Ok(rows.iter().map(|r| r.get(0)).collect())
    }
}
