//! One supervised connection to Redis.
//!
//! `ConnectionManager` of the redis crate stays broken for ever after a reconnect that failed for another reason than
//! I/O, and never reconnects on response timeouts (FACTS): here a connection that fails is dropped, and the session
//! with it.

use crate::config::model::{Redis, RedisAddress};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    TlsCertificates,
};
use std::fmt;
use std::time::Duration;

/// Everything up to the first PONG.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A reply that takes longer counts as a dead peer. Redis may be busy with somebody's slow command for seconds; 10 s
/// keeps the promise that a dead peer is noticed within 15 s.
const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

const HUNG_UP: &str = "it hung up at once: is maxclients reached, does it want TLS (rediss://), is it Redis at all?";

/// Why Redis cannot be used, and what to do.
#[derive(Debug, Clone)]
pub struct ConnectError {
    /// Where to, without the password.
    pub to: String,
    /// What happened.
    pub what: String,
    /// What to do; may be empty.
    pub remedy: &'static str,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use Redis at {}: {}", self.to, self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

impl std::error::Error for ConnectError {}

/// Connects, authenticates, selects the database and waits for a PONG.
///
/// # Errors
/// What happened, and what to do.
pub async fn connect(redis: &Redis) -> Result<MultiplexedConnection, ConnectError> {
    connect_with(redis, AsyncConnectionConfig::new(), ProtocolVersion::RESP2).await
}

/// The same in RESP3, in which the server may say something unasked; `pushed` hears it before any later reply is handed out.
///
/// # Errors
/// As [`connect`]; also where the server or the ACL refuses HELLO.
pub(super) async fn connect_resp3(
    redis: &Redis,
    pushed: impl AsyncPushSender,
) -> Result<MultiplexedConnection, ConnectError> {
    connect_with(redis, AsyncConnectionConfig::new().set_push_sender(pushed), ProtocolVersion::RESP3).await
}

async fn connect_with(
    redis: &Redis,
    config: AsyncConnectionConfig,
    protocol: ProtocolVersion,
) -> Result<MultiplexedConnection, ConnectError> {
    let fail = |what: String, remedy| ConnectError { to: redis.url.to_string(), what, remedy };
    let client = client(redis, protocol).map_err(|e| fail(e, "see redis.url"))?;
    // TCP_NODELAY is the crate's default only for `redis://` text; keep-alive is off by default: both are set in client().
    // One limit for all of it, below.
    let config = config.set_connection_timeout(None).set_response_timeout(Some(RESPONSE_LIMIT));
    let attempt = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await?;
        Ok(connection)
    };
    match tokio::time::timeout(CONNECT_LIMIT, attempt).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(e)) => match remedy(&e) {
            // What the server said before it hung up is lost where our first command met a closed socket.
            "" if e.is_io_error() => Err(fail(describe(&e), HUNG_UP)),
            remedy => Err(fail(describe(&e), remedy)),
        },
        Err(_) => {
            Err(fail(format!("no answer within {CONNECT_LIMIT:?}"), "is the address right, and is the server alive?"))
        }
    }
}

fn client(redis: &Redis, protocol: ProtocolVersion) -> Result<Client, String> {
    let address = match &redis.url.address {
        RedisAddress::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        RedisAddress::Tls { host, port } => {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        }
        RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut login = RedisConnectionInfo::default().set_protocol(protocol).set_db(redis.url.db).set_skip_set_lib_name();
    if let Some(user) = &redis.url.username {
        login = login.set_username(user);
    }
    if let Some(password) = &redis.url.password {
        login = login.set_password(password.expose());
    }
    let keepalive = redis::io::tcp::socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3));
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    let info =
        address.into_connection_info().map_err(|e| describe(&e))?.set_redis_settings(login).set_tcp_settings(tcp);
    if matches!(redis.url.address, RedisAddress::Tls { .. }) {
        let tls = TlsCertificates { client_tls: None, root_cert: Some(system_roots()?) };
        return Client::build_with_tls(info, tls).map_err(|e| describe(&e));
    }
    Client::open(info).map_err(|e| describe(&e))
}

/// The system's certificates as PEM. The redis crate fails every TLS connect when one of them cannot be read (FACTS),
/// so they are read here, where an unreadable one is passed over.
fn system_roots() -> Result<Vec<u8>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err("no certificate of the system could be read: install ca-certificates".into());
    }
    let mut pem = String::new();
    for certificate in found.certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        pem.push_str(&base64(certificate.as_ref()));
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The server's version for the log; empty where INFO is not allowed, which nothing needs.
pub async fn version(connection: &mut MultiplexedConnection) -> String {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await.unwrap_or_default();
    let field = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
    match field("valkey_version:") {
        Some(version) => format!("Valkey {version}"),
        None => field("redis_version:").unwrap_or_default(),
    }
}

/// The error in words, without the crate's own prefix where the server spoke.
#[must_use]
pub fn describe(e: &redis::RedisError) -> String {
    match (e.code(), e.detail()) {
        _ if e.is_timeout() => format!("no answer within {RESPONSE_LIMIT:?}"),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => e.to_string(),
    }
}

/// The server's word for its refusal. Redis 6.2 wraps what happens in a script into an ERR, and no version gives the
/// ACL's refusal from within a script its own word.
fn word<'e>(code: &'e str, detail: &'e str) -> &'e str {
    if code != "ERR" {
        return code;
    }
    if ["executing the script can't run", "ACL failure in script"].iter().any(|w| detail.contains(w)) {
        return "NOPERM";
    }
    if detail.contains("max number of clients") {
        return "MAXCLIENTS";
    }
    let wrapped = detail.split_whitespace().find_map(|w| w.strip_prefix('-').filter(|w| w.len() > 2));
    wrapped.filter(|w| w.bytes().all(|b| b.is_ascii_uppercase())).unwrap_or(code)
}

/// What an operator does about an error of Redis.
#[must_use]
pub fn remedy(e: &redis::RedisError) -> &'static str {
    // The client swallows the server's WRONGPASS at the log-in.
    let refused = e.kind() == redis::ErrorKind::AuthenticationFailed;
    match if refused { "WRONGPASS" } else { word(e.code().unwrap_or_default(), e.detail().unwrap_or_default()) } {
        "WRONGPASS" => "correct redis.password or the ACL user; it is tried again",
        "NOAUTH" => "the server wants a password: redis.password, PGEVICT_REDIS__PASSWORD_FILE or a credential",
        "NOPERM" => "the ACL user lacks a right: `pgevict check` prints the line to set",
        "READONLY" => {
            "this is a replica: point redis.url at the master; the name is looked up and dialed anew each time"
        }
        "LOADING" => "the server is loading its data; it is tried again",
        "OOM" => "maxmemory is reached and nothing may be evicted",
        "MISCONF" => "the server cannot save its RDB file: mend its disk, or set stop-writes-on-bgsave-error no",
        "NOREPLICAS" => "min-replicas-to-write is not met: bring the replicas back",
        "MOVED" | "CLUSTERDOWN" | "CROSSSLOT" => "this is a cluster node: redis-cluster:// is designed, not yet built",
        "MAXCLIENTS" => "maxclients is reached: raise it, or find who keeps so many connections",
        "MASTERDOWN" => "a replica without its master: point redis.url at the master",
        "ERR" if e.detail().is_some_and(|d| d.contains("DB index")) => {
            "the server has no such database: correct redis.url"
        }
        _ if e.is_timeout() => {
            "the server is frozen or busy with a slow command, or something between swallows packets"
        }
        _ if e.to_string().contains("UnknownIssuer") => {
            "give the system the certificate of who signed it, or name its PEM file in SSL_CERT_FILE"
        }
        _ if e.is_connection_refusal() => "is the server running there?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_leave_at_once_whatever_the_transport() {
        for url in ["redis://localhost/0", "rediss://localhost/0"] {
            let redis = Redis { url: crate::config::redis_url::parse(url).unwrap(), state: "{pgevict}".into() };
            let client = client(&redis, ProtocolVersion::RESP3).unwrap();
            assert!(client.get_connection_info().tcp_settings().nodelay(), "{url}");
        }
    }

    #[test]
    fn a_refusal_is_recognised_also_from_within_a_script() {
        let wrapped =
            "Error running script (call to f_18bb): @user_script:8: @user_script: 8: -READONLY You can't write";
        let old = "The user executing the script can't run this command or subcommand script: 18bb, on @user_script:8.";
        let new = "ACL failure in script: User u has no permissions to run the 'unlink' command script: 18bb";
        for (code, detail, is) in [
            ("READONLY", "You can't write against a read only replica. script: 18bb", "READONLY"),
            ("ERR", wrapped, "READONLY"),
            ("ERR", old, "NOPERM"),
            ("ERR", new, "NOPERM"),
            ("ERR", "max number of clients reached", "MAXCLIENTS"),
            ("ERR", "Error running script (call to f_1): @user_script: 8: -1 is no number", "ERR"),
            ("", "", ""),
        ] {
            assert_eq!(word(code, detail), is, "{code} {detail}");
        }
    }
}
