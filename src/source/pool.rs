//! Connections that may idle and hold no lock, opened on demand.

use super::connect;
use crate::config::model::{PgHost, PgUrl, SslMode};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A pool of at most `size` connections to `hosts`, each with `settings` once it is open; and its TLS, for cancelling.
///
/// # Errors
/// TLS files that do not fit.
pub fn pool(
    url: &PgUrl,
    hosts: &[PgHost],
    size: usize,
    settings: Vec<String>,
) -> Result<(Pool, Option<MakeRustlsConnect>), String> {
    let config = connect::driver_config(url, hosts);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let plain = url.tls.mode == SslMode::Disable || hosts.iter().all(|h| h.host.starts_with('/'));
    let tls = if plain { None } else { Some(super::tls::connector(&url.tls)?) };
    let manager = match tls.clone() {
        None => Manager::from_config(config, NoTls, recycling),
        Some(tls) => {
            let mode = if url.tls.mode == SslMode::Allow { SslMode::Prefer } else { url.tls.mode };
            Manager::from_config(connect::with_tls(config, mode), tls, recycling)
        }
    };
    let limit = Some(url.connect_timeout);
    let pool = Pool::builder(manager)
        .max_size(size)
        // deadpool's time-outs default to none: a hanging connect would hang whoever waits for ever.
        .timeouts(Timeouts { wait: limit, create: limit, recycle: limit })
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(move |client, _| {
            let settings = settings.clone();
            Box::pin(async move {
                for setting in settings {
                    client.batch_execute(&setting).await.map_err(|e| HookError::message(connect::describe(&e)))?;
                }
                Ok(())
            })
        }))
        .build()
        .map_err(|e| e.to_string())?;
    Ok((pool, tls))
}
