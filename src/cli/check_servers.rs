//! The third stage of `check`: whether the servers fit the configuration.

use super::{check_postgres, check_redis};
use crate::config::model::Config;
use crate::config::{Place, Problem, codes};
use crate::{sink, source};

/// Asks both servers and returns what does not fit. A server that cannot be reached is a finding with the code
/// [`codes::NO_POSTGRES`] or [`codes::NO_REDIS`]; the other one is asked all the same.
#[must_use]
pub fn check(config: &Config) -> Vec<Problem> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let message = format!("the runtime cannot be started: {e}");
            return vec![Problem::error(codes::NO_POSTGRES, Place::None, message)];
        }
    };
    runtime.block_on(async {
        let (mut findings, redis) = tokio::join!(postgres(config), redis(config));
        findings.extend(redis);
        findings
    })
}

async fn postgres(config: &Config) -> Vec<Problem> {
    match source::connect::connect(&config.postgres.url).await {
        Ok(connected) => check_postgres::check(&connected.client, config).await,
        Err(e) => vec![Problem::error(codes::NO_POSTGRES, Place::None, e.to_string())],
    }
}

async fn redis(config: &Config) -> Vec<Problem> {
    match sink::connect::connect(&config.redis).await {
        Ok(connection) => check_redis::check(connection, config).await,
        Err(e) => vec![Problem::error(codes::NO_REDIS, Place::None, e.to_string())],
    }
}
