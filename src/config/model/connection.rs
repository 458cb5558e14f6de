//! How to reach the servers, and what is never printed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Only for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// PostgreSQL connection parameters, from an ordinary libpq URL or key/value text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgUrl {
    /// Hosts in the order to try; a host that begins with `/` is a socket directory.
    pub hosts: Vec<PgHost>,
    /// Role.
    pub user: String,
    /// Database.
    pub dbname: String,
    /// From the URL, `postgres.password`, a credential, or `~/.pgpass` (in this order).
    pub password: Option<Secret>,
    /// TLS wishes.
    pub tls: PgTls,
    /// `connect_timeout`; default 5 s. Bounds the whole connect, not only TCP.
    pub connect_timeout: Duration,
    /// `application_name`; default `pgevict`.
    pub application_name: String,
    /// `options`, handed to the server as it is.
    pub options: Option<String>,
    /// `keepalives_idle`; default 10 s.
    pub keepalives_idle: Duration,
    /// `keepalives_interval`; default 3 s.
    pub keepalives_interval: Duration,
    /// `keepalives_count`; default 3.
    pub keepalives_count: u32,
    /// `tcp_user_timeout` (milliseconds in libpq); default 10 s.
    pub tcp_user_timeout: Duration,
}

/// One host of a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgHost {
    /// Name, address or socket directory.
    pub host: String,
    /// `hostaddr`: where to connect, while `host` is what the certificate must say.
    pub hostaddr: Option<std::net::IpAddr>,
    /// Port; default 5432.
    pub port: u16,
}

/// `sslmode` and friends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgTls {
    /// `sslmode`; default prefer.
    pub mode: SslMode,
    /// `sslrootcert`: a PEM file, or `system`; None: the system's certificates where they are needed.
    pub root_cert: Option<PathBuf>,
    /// `sslcert`: PEM client certificate.
    pub cert: Option<PathBuf>,
    /// `sslkey`: PEM key of it.
    pub key: Option<PathBuf>,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only where the server insists.
    Allow,
    /// TLS where the server offers it, unverified.
    Prefer,
    /// TLS, unverified (verified as verify-ca when a root certificate is given, as libpq does).
    Require,
    /// TLS, certificate chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyFull,
}

/// libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where possible.
    Prefer,
    /// Always.
    Require,
}

impl fmt::Display for PgUrl {
    /// Host, port, user and database; never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        for (i, h) in self.hosts.iter().enumerate() {
            write!(f, "{}{}:{}", if i == 0 { "" } else { "," }, h.host, h.port)?;
        }
        write!(f, "/{}", self.dbname)
    }
}

/// Redis connection parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where the server listens.
    pub address: RedisAddress,
    /// Database number.
    pub db: i64,
    /// ACL user.
    pub username: Option<String>,
    /// From the URL, `redis.password` or a credential (in this order).
    pub password: Option<Secret>,
}

/// Where a Redis server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// `redis://`.
    Tcp {
        /// Name or address.
        host: String,
        /// Default 6379.
        port: u16,
    },
    /// `rediss://`, verified against the system's certificates.
    Tls {
        /// Name or address, as the certificate must say.
        host: String,
        /// Default 6379.
        port: u16,
    },
    /// `redis+unix://` or `unix://`.
    Unix(PathBuf),
}

impl fmt::Display for RedisUrl {
    /// Address and database; never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            RedisAddress::Tcp { host, port } => write!(f, "redis://{host}:{port}/{}", self.db),
            RedisAddress::Tls { host, port } => write!(f, "rediss://{host}:{port}/{}", self.db),
            RedisAddress::Unix(path) => write!(f, "redis+unix://{}?db={}", path.display(), self.db),
        }
    }
}
