//! Whether `warm.replica_url` names a standby of the primary.

use crate::config::model::Config;
use crate::config::{Place, Problem, codes};
use crate::flow::fork::Lineage;
use crate::source::pool::pool;
use crate::source::session::in_schema;
use crate::warm::replica::Replica;
use crate::warm::sql::{self, Database};
use std::time::Duration;
use tokio_postgres::Client;

/// The look takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What does not fit; the daemon asks the primary then.
pub(super) async fn check(config: &Config, primary: &Client) -> Option<Problem> {
    let url = config.warm.replica.as_ref()?;
    let problem = |why: String| {
        let message = format!("the replica at {url} is not asked: {why}");
        Problem::warning(codes::REPLICA, Place::None, message)
    };
    let ours = match primary.query_one(include_str!("../../sql/lineage.sql"), &[]).await {
        Ok(row) => Lineage { db: row.get(0), timeline: row.get(1) },
        Err(e) => return Some(problem(crate::source::connect::describe(&e))),
    };
    let schema = &config.postgres.schema;
    let look = in_schema(include_str!("../../sql/replica.sql"), schema);
    let database = match pool(url, &url.hosts, 1, sql::settings(LIMIT)) {
        Ok((pool, _)) => Database::new(pool, schema, LIMIT),
        Err(why) => return Some(problem(why)),
    };
    Replica::new(database, look, ours).fit().await.err().map(problem)
}
