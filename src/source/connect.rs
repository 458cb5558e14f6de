//! One connection to the PostgreSQL primary, with its driver task and its notifications.
//!
//! Only `Connection::poll_message` yields notifications: awaiting the connection drops them, and so does any pooled
//! one (FACTS). The driver task here polls it and hands notifications on without ever waiting: a listener that stops
//! reading would hold back vacuum.

use super::notifications::{self, Notifications};
use super::tls;
use crate::config::model::{ChannelBinding, PgHost, PgUrl, SslMode};
use crate::flow::fork::{BEHIND_REMEDY, Lineage};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};

/// A setting of our own, sent with the log-in, that means nothing: a pooler refuses it or swallows it, PostgreSQL keeps it. Asked
/// for before anything is set: behind a pooler, what a session sets (`search_path` …) is left to the application's own statements.
const MARK: &str = "pgevict.direct";

/// Between two questions whether the server still answers. Together with [`ANSWER_LIMIT`] it makes 13 s, within which a
/// dead peer is noticed: also one whose kernel, or whose firewall, still acknowledges every packet, which no keep-alive
/// finds. The questions also keep the session from counting as idle (`sql/session.sql`) while the daemon waits for Redis.
const PULSE: Duration = Duration::from_secs(4);
/// How long the server may take for the answer. The question queues behind the statement under way, so this must be
/// more than the session's `statement_timeout`.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(9);
/// The same where statements may take long: migrations wait for locks and set a `statement_timeout` of a minute.
const PATIENT_LIMIT: Duration = Duration::from_secs(75);

/// A connection to the primary.
#[derive(Debug)]
pub struct Connected {
    /// Sends statements.
    pub client: Arc<Client>,
    /// What LISTEN brings; ends when the connection does.
    pub notifications: Notifications,
    /// Ends with the reason when the connection does.
    pub driver: tokio::task::JoinHandle<String>,
    /// The same reason, for the statement that meets the end.
    ended: Arc<OnceLock<String>>,
    /// The host that answered.
    pub host: PgHost,
    /// `server_version_num`, for example 150018.
    pub version: u32,
}

impl Connected {
    /// The error in words: where the connection has ended, why it did, which the statement that met the end cannot know.
    #[must_use]
    pub fn describe(&self, e: &tokio_postgres::Error) -> String {
        match self.why_ended() {
            Some(why) if e.is_closed() => why,
            _ => describe(e),
        }
    }

    /// Why the connection has ended; None while it lives.
    #[must_use]
    pub fn why_ended(&self) -> Option<String> {
        self.ended.get().map(|why| format!("the connection was lost: {why}"))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why no host could be used; one reason for each host.
#[derive(Debug, Clone)]
pub struct ConnectError {
    /// Where to, without the password.
    pub to: String,
    /// `(host:port, what happened, what to do)`.
    pub reasons: Vec<(String, String, &'static str)>,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use PostgreSQL at {}", self.to)?;
        for (host, what, remedy) in &self.reasons {
            if self.reasons.len() > 1 {
                write!(f, "; {host}: {what}")?;
            } else {
                write!(f, ": {what}")?;
            }
            if !remedy.is_empty() {
                write!(f, " ({remedy})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first host that is a primary. Every host has `connect_timeout` for everything: name, TCP, TLS,
/// log-in and the question whether it is a standby.
///
/// # Errors
/// What happened at each host, and what to do.
pub async fn connect(url: &PgUrl) -> Result<Connected, ConnectError> {
    connect_for(url, None, ANSWER_LIMIT).await
}

/// The same for migrations and the like, whose statements may take a minute.
///
/// # Errors
/// As [`connect`].
pub async fn connect_patiently(url: &PgUrl) -> Result<Connected, ConnectError> {
    connect_for(url, None, PATIENT_LIMIT).await
}

/// As [`connect`], and passes over servers that are behind `known`: an old primary that still answers.
///
/// # Errors
/// As [`connect`].
pub async fn connect_beyond(url: &PgUrl, known: Option<&Lineage>) -> Result<Connected, ConnectError> {
    connect_for(url, known, ANSWER_LIMIT).await
}

async fn connect_for(url: &PgUrl, known: Option<&Lineage>, limit: Duration) -> Result<Connected, ConnectError> {
    let mut reasons = Vec::new();
    for host in &url.hosts {
        let name = format!("{}:{}", host.host, host.port);
        let outcome = match tokio::time::timeout(url.connect_timeout, beyond(url, host, known, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err((
                format!("no answer within {:?}", url.connect_timeout),
                "is the address right, and does a firewall swallow packets? connect_timeout sets the limit",
            )),
        };
        match outcome {
            Ok(connected) => return Ok(connected),
            Err((what, remedy)) => reasons.push((name, what, remedy)),
        }
    }
    Err(ConnectError { to: url.to_string(), reasons })
}

/// A primary of the same database on a later timeline than `own`, on whichever host: `own` is an old primary then. Asks
/// all hosts at once with new connections, so that an address which has moved to another server is noticed too.
pub async fn newer(url: &PgUrl, own: &Lineage) -> Option<(String, Lineage)> {
    let mut asked = tokio::task::JoinSet::new();
    // Behind a socket directory there is this machine's server and no other.
    for host in url.hosts.iter().filter(|h| !h.host.starts_with('/')) {
        let (url, host) = (url.clone(), host.clone());
        asked.spawn(async move {
            let answer = async { lineage(&one(&url, &host, ANSWER_LIMIT).await?.client).await };
            let found = tokio::time::timeout(url.connect_timeout, answer).await.ok()?.ok()?;
            Some((format!("{}:{}", host.host, host.port), found))
        });
    }
    let mut newest: Option<(String, Lineage)> = None;
    while let Some(answer) = asked.join_next().await {
        // A host that does not answer, or a standby, is no primary.
        let Ok(Some((host, found))) = answer else { continue };
        let best = newest.as_ref().map_or(own, |(_, best)| best);
        if found.is_ahead_of(&best.db, &best.timeline) {
            newest = Some((host, found));
        }
    }
    newest
}

type Refusal = (String, &'static str);

async fn beyond(url: &PgUrl, host: &PgHost, known: Option<&Lineage>, limit: Duration) -> Result<Connected, Refusal> {
    let connected = one(url, host, limit).await?;
    if let Some(known) = known {
        let found = lineage(&connected.client).await?;
        if known.is_ahead_of(&found.db, &found.timeline) {
            return Err((known.behind(&found.timeline), BEHIND_REMEDY));
        }
    }
    Ok(connected)
}

async fn lineage(client: &Client) -> Result<Lineage, Refusal> {
    let row = client.query_one(include_str!("../../sql/lineage.sql"), &[]).await.map_err(|e| refusal(&e))?;
    Ok(Lineage { db: row.get(0), timeline: row.get(1) })
}

const POOLER: &str =
    "name the server itself: behind a transaction pooler LISTEN hears nothing, and locks and settings leak";

async fn one(url: &PgUrl, host: &PgHost, limit: Duration) -> Result<Connected, Refusal> {
    let config = driver_config(url, std::slice::from_ref(host));
    let unix = host.host.starts_with('/');
    let mut connected = match url.tls.mode {
        SslMode::Disable => open(config, NoTls, host, limit).await,
        _ if unix => open(config, NoTls, host, limit).await,
        SslMode::Allow => match open(config.clone(), NoTls, host, limit).await {
            Err(first) => open(with_tls(config, SslMode::Require), tls(url)?, host, limit).await.map_err(|_| first),
            ok => ok,
        },
        mode => open(with_tls(config, mode), tls(url)?, host, limit).await,
    }?;
    let row = connected
        .client
        .query_one(
            "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting($1, true) = 'yes'",
            &[&MARK],
        )
        .await
        .map_err(|e| refusal(&e))?;
    if row.get::<_, Option<bool>>(2) != Some(true) {
        return Err(("a pooler stands between, which swallows what the log-in sets".into(), POOLER));
    }
    if row.get::<_, bool>(0) {
        return Err((
            "it is a standby".into(),
            "pgevict works on the primary: name it, or list all hosts of the cluster in postgres.url",
        ));
    }
    connected.version = u32::try_from(row.get::<_, i32>(1)).unwrap_or(0);
    if connected.version < 140_000 {
        return Err((format!("its version is {}", connected.version / 10_000), "pgevict needs PostgreSQL 14 or newer"));
    }
    Ok(connected)
}

fn tls(url: &PgUrl) -> Result<tokio_postgres_rustls::MakeRustlsConnect, Refusal> {
    tls::connector(&url.tls).map_err(|e| (e, "see the ssl parameters of postgres.url"))
}

pub(super) fn with_tls(mut config: tokio_postgres::Config, mode: SslMode) -> tokio_postgres::Config {
    config.ssl_mode(if mode == SslMode::Prefer {
        tokio_postgres::config::SslMode::Prefer
    } else {
        tokio_postgres::config::SslMode::Require
    });
    config
}

/// For the first of `hosts` that answers.
pub(super) fn driver_config(url: &PgUrl, hosts: &[PgHost]) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .user(&url.user)
        .dbname(&url.dbname)
        .application_name(&url.application_name)
        .keepalives(true)
        .keepalives_idle(url.keepalives_idle)
        .keepalives_interval(url.keepalives_interval)
        .keepalives_retries(url.keepalives_count)
        .tcp_user_timeout(url.tcp_user_timeout)
        .ssl_mode(tokio_postgres::config::SslMode::Disable)
        .channel_binding(match url.tls.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
    // The driver wants an address for every host or for none.
    let addressed = hosts.iter().all(|h| h.hostaddr.is_some());
    for host in hosts {
        config.port(host.port);
        if host.host.starts_with('/') {
            config.host_path(&host.host);
        } else {
            config.host(&host.host);
        }
        if let Some(address) = host.hostaddr.filter(|_| addressed) {
            config.hostaddr(address);
        }
    }
    if let Some(password) = &url.password {
        config.password(password.expose());
    }
    let own = url.options.as_deref().unwrap_or_default();
    config.options(format!("{own} -c {MARK}=yes").trim_start());
    config
}

async fn open<T>(config: tokio_postgres::Config, tls: T, host: &PgHost, limit: Duration) -> Result<Connected, Refusal>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await.map_err(|e| refusal(&e))?;
    let client = Arc::new(client);
    let (sender, notifications) = notifications::channel();
    let ended = Arc::new(OnceLock::new());
    let (pulse, reason) = (pulse(client.clone(), limit), ended.clone());
    let driver = tokio::spawn(async move {
        let mut pulse = Box::pin(pulse);
        let why = loop {
            let message = tokio::select! {
                message = poll_fn(|cx| connection.poll_message(cx)) => message,
                why = &mut pulse => break why,
            };
            match message {
                Some(Ok(AsyncMessage::Notification(n))) => {
                    if !sender.ask() {
                        sender.hand_on(n.process_id(), n.payload());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => break describe(&e),
                None => break "the connection was closed".to_owned(),
            }
        };
        // Said before the connection is dropped: whoever waits for an answer asks for the reason then.
        reason.get_or_init(|| why).clone()
    });
    Ok(Connected { client, notifications, driver, ended, host: host.clone(), version: 0 })
}

/// Ends when the server does not answer any more; says so.
async fn pulse(client: Arc<Client>, limit: Duration) -> String {
    loop {
        tokio::time::sleep(PULSE).await;
        match tokio::time::timeout(limit, client.check_connection()).await {
            Ok(Ok(())) => {}
            // The driver sees the same end, and knows more about it.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => {
                return format!(
                    "no answer within {limit:?}: the server is frozen, or something between swallows packets"
                );
            }
        }
    }
}

/// The server's words, or the chain of causes: tokio-postgres' own Display says only "db error".
#[must_use]
pub fn describe(e: &tokio_postgres::Error) -> String {
    if let Some(db) = e.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn refusal(e: &tokio_postgres::Error) -> Refusal {
    let remedy = match e.code().map(tokio_postgres::error::SqlState::code) {
        Some("28P01") => {
            "give the right password: postgres.password, PGEVICT_POSTGRES__PASSWORD_FILE, a credential or ~/.pgpass"
        }
        Some("28000") => "pg_hba.conf or the role forbids this log-in",
        Some("3D000") => "create the database, or correct postgres.url",
        Some("53300") => "max_connections is reached: reserve some, or raise it",
        Some("08P01") if e.as_db_error().is_some_and(|db| db.message().contains("startup parameter")) => POOLER,
        Some("57P03") => "the server is starting or stopping; it is tried again",
        Some(_) => "",
        // The driver's own words stand behind "invalid configuration", in the cause.
        None if describe(e).contains("password missing") => {
            "the server asks for a password: postgres.password, PGEVICT_POSTGRES__PASSWORD_FILE, a credential or ~/.pgpass"
        }
        None if describe(e).contains("does not support TLS") => {
            "turn on `ssl` at the server, or lower `sslmode` in postgres.url"
        }
        None => "is the server running there?",
    };
    (describe(e), remedy)
}
