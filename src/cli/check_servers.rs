//! The third stage of `check`: whether the servers fit the configuration.

use super::{check_postgres, check_redis, check_replica, check_warm};
use crate::config::model::{Bell, Config, Delivery};
use crate::config::{Place, Problem, codes};
use crate::rules::sql;
use crate::source::connect::Connected;
use crate::{sink, source};
use std::time::Duration;

/// A notification takes milliseconds; who has not heard it after this long never will.
const HEARING_LIMIT: Duration = Duration::from_secs(3);

/// Asks both servers and returns what does not fit. A server that cannot be reached is a finding with the code
/// [`codes::NO_POSTGRES`] or [`codes::NO_REDIS`]; the other one is asked all the same. `text` is the file.
#[must_use]
pub fn check(config: &Config, text: &str) -> Vec<Problem> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let message = format!("the runtime cannot be started: {e}");
            return vec![Problem::error(codes::NO_POSTGRES, Place::None, message)];
        }
    };
    runtime.block_on(async {
        let (mut findings, redis) = tokio::join!(postgres(config, text), redis(config));
        findings.extend(redis);
        findings
    })
}

async fn postgres(config: &Config, text: &str) -> Vec<Problem> {
    let mut connected = match source::connect::connect(&config.postgres.url).await {
        Ok(connected) => connected,
        Err(e) => return vec![Problem::error(codes::NO_POSTGRES, Place::None, e.to_string())],
    };
    let mut findings = check_postgres::check(&connected.client, config).await;
    let listens = config.postgres.delivery == Delivery::Notify || config.postgres.bell == Bell::Auto;
    if listens && !findings.iter().any(|p| p.code == codes::NO_POSTGRES) {
        findings.extend(hearing(&mut connected, config).await.err());
    }
    findings.extend(check_warm::check(config, text).await);
    // Before the migration there is nothing to ask a standby for.
    if !findings.iter().any(|p| p.code == codes::NO_SCHEMA) {
        findings.extend(check_replica::check(config, &connected.client).await);
    }
    findings
}

/// Behind a transaction pooler LISTEN is accepted and delivers nothing; on one connection alone it still looks fine.
async fn hearing(listener: &mut Connected, config: &Config) -> Result<(), Problem> {
    let lost = |why: String| Problem::error(codes::NO_POSTGRES, Place::None, why);
    let described = |e: tokio_postgres::Error| lost(source::connect::describe(&e));
    let channel = sql::ident(&format!("pgevict_check_{:016x}", rand::random::<u64>()));
    listener.client.batch_execute(&format!("LISTEN {channel}")).await.map_err(described)?;
    let sender = source::connect::connect(&config.postgres.url).await.map_err(|e| lost(e.to_string()))?;
    sender.client.batch_execute(&format!("NOTIFY {channel}")).await.map_err(described)?;
    match tokio::time::timeout(HEARING_LIMIT, listener.notifications.recv()).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(lost(listener.why_ended().unwrap_or_else(|| "the connection was closed".into()))),
        _ => {
            let message =
                format!("a notification did not arrive from connection to connection at {}", config.postgres.url);
            let problem = Problem::error(codes::DEAF, Place::None, message);
            Err(problem.help("is this a transaction pooler? Name the server itself"))
        }
    }
}

async fn redis(config: &Config) -> Vec<Problem> {
    match sink::connect::connect(&config.redis).await {
        Ok(connection) => check_redis::check(connection, config).await,
        // Even logging in needs rights: the server answers, but does not let this user do anything.
        Err(e) if check_redis::is_refusal(&e.what) => {
            let user = config.redis.url.username.as_deref().unwrap_or("default");
            let message = format!("the Redis user `{user}` may not even connect: {}", e.what);
            let problem = Problem::error(codes::REDIS_RIGHTS, Place::None, message);
            vec![problem.help(format!("set: {}", check_redis::acl_line(user, config)))]
        }
        Err(e) => vec![Problem::error(codes::NO_REDIS, Place::None, e.to_string())],
    }
}
