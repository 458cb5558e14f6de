//! PostgreSQL connection text as libpq reads it: URLs and key/value.

use super::codes::{self, Code};
use super::model::{ChannelBinding, PgHost, PgTls, PgUrl, Secret, SslMode};
use super::scalar::nearest;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::time::Duration;

/// Where libpq of Debian and its kin looks for a server when no host is named.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// A problem of a connection text. The message quotes no part of the text that could hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlProblem {
    /// The kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl UrlProblem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What a connection text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The parameters, defaults filled in.
    pub url: PgUrl,
    /// `passfile`.
    pub passfile: Option<PathBuf>,
}

/// Parameters as given, not yet understood; `(name, value)`, a later one wins as in libpq.
type Pairs = Vec<(String, String)>;

/// Reads a connection text. `user` is the default role.
///
/// # Errors
/// Every problem of the text.
pub fn parse(text: &str, user: Option<&str>) -> Result<Parsed, Vec<UrlProblem>> {
    let text = text.trim();
    let pairs = if let Some(rest) = ["postgresql://", "postgres://"].iter().find_map(|s| text.strip_prefix(s)) {
        from_url(rest)
    } else if text.contains("://") {
        Err(UrlProblem::new(codes::PG_URL, "this is no PostgreSQL URL")
            .help("it begins with `postgresql://` or `postgres://`"))
    } else if text.contains('=') {
        from_conninfo(text)
    } else {
        Err(UrlProblem::new(codes::PG_URL, "this is neither a URL nor key/value text")
            .help("such as `postgresql://pgevict@localhost:5432/app` or `host=localhost dbname=app user=pgevict`"))
    };
    understand(&pairs.map_err(|p| vec![p])?, user)
}

fn decode(text: &str) -> Result<String, UrlProblem> {
    let bytes = text.as_bytes();
    for (i, _) in text.match_indices('%') {
        if !bytes.get(i + 1..i + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
            return Err(UrlProblem::new(codes::PG_URL, "a `%` is not followed by two hexadecimal digits")
                .help("a literal percent sign is written `%25`"));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
    let decoded = decoded.map_err(|_| UrlProblem::new(codes::PG_URL, "the percent-encoded text is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(UrlProblem::new(codes::PG_URL, "`%00` cannot stand in a URL"));
    }
    Ok(decoded)
}

/// What follows `postgresql://`.
fn from_url(rest: &str) -> Result<Pairs, UrlProblem> {
    let mut pairs = Pairs::new();
    let mut put = |name: &str, value: String| pairs.push((name.to_owned(), value));
    let (before_query, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    let authority_end = before_query.find('/').unwrap_or(before_query.len());
    let (mut authority, path) = before_query.split_at(authority_end);
    if let Some((userinfo, hosts)) = authority.split_once('@') {
        let (name, password) = userinfo.split_once(':').map_or((userinfo, None), |(n, p)| (n, Some(p)));
        if !name.is_empty() {
            put("user", decode(name)?);
        }
        if let Some(password) = password.filter(|p| !p.is_empty()) {
            put("password", decode(password)?);
        }
        authority = hosts;
    }
    if authority.contains('@') || path.contains('@') {
        return Err(UrlProblem::new(codes::PG_URL, "an `@` stands where host or database are expected").help(
            "in a user name or password, `@` is written `%40`, `/` is written `%2F`, `?` is written `%3F`, `:` is written `%3A`",
        ));
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in authority.split(',') {
        let (host, port) = if let Some(v6) = part.strip_prefix('[') {
            let Some((address, after)) = v6.split_once(']') else {
                return Err(UrlProblem::new(codes::PG_URL, "a `[` of an IPv6 address has no `]`"));
            };
            if address.is_empty() || !(after.is_empty() || after.starts_with(':')) {
                return Err(UrlProblem::new(codes::PG_URL, "an IPv6 address is written `[::1]` or `[::1]:5432`"));
            }
            (address.to_owned(), after.strip_prefix(':'))
        } else {
            let (host, port) = part.split_once(':').map_or((part, None), |(h, p)| (h, Some(p)));
            (decode(host)?, port)
        };
        hosts.push(host);
        ports.push(port.unwrap_or_default().to_owned());
    }
    if hosts.iter().any(|h| !h.is_empty()) {
        put("host", hosts.join(","));
    }
    if ports.iter().any(|p| !p.is_empty()) {
        put("port", ports.join(","));
    }
    let dbname = path.strip_prefix('/').unwrap_or_default();
    if !dbname.is_empty() {
        put("dbname", decode(dbname)?);
    }
    for pair in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(UrlProblem::new(codes::PG_URL, "a parameter behind `?` has no `=`"));
        };
        put(&decode(name)?, decode(value)?);
    }
    Ok(pairs)
}

/// `name = value` with blanks between; values in single quotes where they hold blanks, `\` escapes.
fn from_conninfo(text: &str) -> Result<Pairs, UrlProblem> {
    let mut pairs = Pairs::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') || name.is_empty() {
            return Err(UrlProblem::new(codes::PG_URL, "a parameter has no `=`")
                .help("a value with blanks stands in single quotes: options='-c a=b'"));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                None if quoted => return Err(UrlProblem::new(codes::PG_URL, "a single quote is not closed")),
                None => break,
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
            }
        }
        pairs.push((name, value));
    }
}

/// Parameters that pgevict understands, for "did you mean".
const KNOWN: [&str; 21] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "connect_timeout",
    "application_name",
    "options",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
];

/// libpq's other parameters: with these values they change nothing for pgevict, with all others they are refused.
const HARMLESS: [(&str, &[&str]); 31] = [
    ("target_session_attrs", &["any", "read-write", "primary"]),
    ("gssencmode", &["disable", "prefer"]),
    ("krbsrvname", &["postgres"]),
    ("gsslib", &["gssapi"]),
    ("gssdelegation", &["0"]),
    ("load_balance_hosts", &["disable"]),
    ("replication", &["false", "off", "no", "0"]),
    ("sslnegotiation", &["postgres"]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("sslcertmode", &["allow"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("ssl_max_protocol_version", &[""]),
    ("min_protocol_version", &["3.0"]),
    ("max_protocol_version", &["3.0", "3.2", "latest"]),
    ("sslpassword", &[""]),
    ("sslcrl", &[""]),
    ("sslcrldir", &[""]),
    ("sslkeylogfile", &[""]),
    ("service", &[""]),
    ("servicefile", &[""]),
    ("require_auth", &[""]),
    ("requirepeer", &[""]),
    ("requiressl", &["0"]),
    ("scram_client_key", &[""]),
    ("scram_server_key", &[""]),
    ("oauth_issuer", &[""]),
    ("oauth_client_id", &[""]),
    ("oauth_client_secret", &[""]),
    ("oauth_scope", &[""]),
    ("tty", &[""]),
];

fn understand(pairs: &Pairs, os_user: Option<&str>) -> Result<Parsed, Vec<UrlProblem>> {
    let mut problems = Vec::new();
    let get =
        |name: &str| pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty());
    for (name, value) in pairs {
        let known = KNOWN.contains(&name.as_str()) || ["fallback_application_name", "ssl"].contains(&name.as_str());
        match HARMLESS.iter().find(|(n, _)| n == name) {
            _ if known => {}
            Some((_, harmless)) if value.is_empty() || harmless.contains(&value.as_str()) => {}
            Some((_, harmless)) => {
                let accepted: Vec<&str> = harmless.iter().copied().filter(|h| !h.is_empty()).collect();
                let problem = UrlProblem::new(codes::PG_UNSUPPORTED, format!("`{name}` is not supported here"));
                problems.push(if *name == "target_session_attrs" {
                    problem.help("pgevict always needs the primary: accepted are any, read-write and primary")
                } else if accepted.is_empty() {
                    problem.help("remove the parameter")
                } else {
                    problem.help(format!("accepted: {}", accepted.join(", ")))
                });
            }
            None => {
                let all = KNOWN.iter().copied().chain(HARMLESS.iter().map(|(n, _)| *n));
                // The name may be a piece of a password with an unescaped `?` or `&`: only what looks like a name is quoted.
                let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                let near = nearest(name, all);
                let shown = if plain && near.is_some() { format!("`{name}`") } else { "a parameter".into() };
                let problem = UrlProblem::new(codes::PG_PARAMETER, format!("{shown} is unknown to libpq"));
                problems.push(match near {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help(format!("known: {}", KNOWN.join(", "))),
                });
            }
        }
    }
    let mut number = |name: &str, low: u64, high: u64| -> Option<u64> {
        let value = get(name)?;
        match value.trim().parse::<u64>().ok().filter(|n| (low..=high).contains(n)) {
            Some(n) => Some(n),
            None => {
                problems
                    .push(UrlProblem::new(codes::PG_VALUE, format!("`{name}` wants a number from {low} to {high}")));
                None
            }
        }
    };
    let connect_timeout = number("connect_timeout", 1, 3600).unwrap_or(5);
    // 0 means "as the system has it" in libpq; two hours of silence are what this daemon cannot afford.
    let idle = number("keepalives_idle", 0, 3600).filter(|n| *n > 0).unwrap_or(10);
    let interval = number("keepalives_interval", 0, 3600).filter(|n| *n > 0).unwrap_or(3);
    let count = number("keepalives_count", 0, 100).filter(|n| *n > 0).unwrap_or(3);
    let tcp_user_timeout = number("tcp_user_timeout", 0, 3_600_000).filter(|n| *n > 0).unwrap_or(10_000);
    number("keepalives", 1, 1);
    if get("client_encoding").is_some_and(|e| !["auto", "utf8", "utf-8"].contains(&e.to_lowercase().as_str())) {
        problems.push(UrlProblem::new(codes::PG_UNSUPPORTED, "`client_encoding` is always UTF8").help("remove it"));
    }
    let tls = tls(&get, &mut problems);
    let hosts = hosts(&get, &mut problems);
    let user = get("user").or(os_user).map(str::to_owned);
    if user.is_none() {
        problems.push(UrlProblem::new(codes::PG_URL, "no user is named, and the process' own has no name"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let user = user.unwrap_or_default();
    let url = PgUrl {
        hosts,
        dbname: get("dbname").unwrap_or(&user).to_owned(),
        user,
        password: get("password").map(Secret::new),
        tls,
        connect_timeout: Duration::from_secs(connect_timeout),
        application_name: get("application_name").or(get("fallback_application_name")).unwrap_or("pgevict").to_owned(),
        options: get("options").map(str::to_owned),
        keepalives_idle: Duration::from_secs(idle),
        keepalives_interval: Duration::from_secs(interval),
        keepalives_count: u32::try_from(count).unwrap_or(3),
        tcp_user_timeout: Duration::from_millis(tcp_user_timeout),
    };
    Ok(Parsed { url, passfile: get("passfile").map(PathBuf::from) })
}

fn one_of<T: Copy>(
    name: &str,
    value: Option<&str>,
    default: T,
    choices: &[(&str, T)],
    problems: &mut Vec<UrlProblem>,
) -> T {
    let Some(value) = value else { return default };
    if let Some((_, t)) = choices.iter().find(|(n, _)| *n == value) {
        return *t;
    }
    let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
    problems.push(UrlProblem::new(codes::PG_VALUE, format!("`{name}` is one of {}", names.join(", "))));
    default
}

fn tls<'a>(get: &impl Fn(&str) -> Option<&'a str>, problems: &mut Vec<UrlProblem>) -> PgTls {
    const MODES: [(&str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    const BINDINGS: [(&str, ChannelBinding); 3] = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    let system = get("sslrootcert") == Some("system");
    // JDBC's spelling, which libpq takes in URLs too.
    let default = match get("ssl") {
        Some("true") => SslMode::Require,
        Some(_) => {
            problems.push(UrlProblem::new(codes::PG_VALUE, "`ssl` knows only true").help("use sslmode"));
            SslMode::Prefer
        }
        None if system => SslMode::VerifyFull,
        None => SslMode::Prefer,
    };
    let mode = one_of("sslmode", get("sslmode"), default, &MODES, problems);
    if system && mode != SslMode::VerifyFull {
        problems.push(
            UrlProblem::new(codes::PG_VALUE, "`sslrootcert=system` needs `sslmode=verify-full`")
                .help("anybody can get a certificate of some public authority; only the host name tells them apart"),
        );
    }
    let channel_binding =
        one_of("channel_binding", get("channel_binding"), ChannelBinding::Prefer, &BINDINGS, problems);
    if channel_binding == ChannelBinding::Require && mode == SslMode::Disable {
        problems.push(UrlProblem::new(codes::PG_VALUE, "`channel_binding=require` needs TLS, but sslmode is disable"));
    }
    if get("sslcert").is_some() != get("sslkey").is_some() {
        problems.push(UrlProblem::new(codes::PG_VALUE, "`sslcert` and `sslkey` need each other"));
    }
    PgTls {
        mode,
        root_cert: get("sslrootcert").map(PathBuf::from),
        cert: get("sslcert").map(PathBuf::from),
        key: get("sslkey").map(PathBuf::from),
        channel_binding,
    }
}

fn hosts<'a>(get: &impl Fn(&str) -> Option<&'a str>, problems: &mut Vec<UrlProblem>) -> Vec<PgHost> {
    let list = |name: &str| get(name).map(|v| v.split(',').map(str::trim).collect::<Vec<_>>()).unwrap_or_default();
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |n: usize| n == 0 || n == count;
    if !fits(names.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        problems.push(UrlProblem::new(codes::PG_VALUE, "hosts, host addresses and ports are not equally many"));
        return Vec::new();
    }
    let mut out = Vec::new();
    for i in 0..count {
        let hostaddr = match addresses.get(i).filter(|a| !a.is_empty()).map(|a| a.parse::<std::net::IpAddr>()) {
            None => None,
            Some(Ok(address)) => Some(address),
            Some(Err(_)) => {
                problems.push(UrlProblem::new(codes::PG_VALUE, "`hostaddr` is no IP address"));
                None
            }
        };
        let port = ports.get(if ports.len() == 1 { 0 } else { i }).filter(|p| !p.is_empty());
        let port = match port.map(|p| p.parse::<u16>().ok().filter(|p| *p > 0)) {
            None => 5432,
            Some(Some(port)) => port,
            Some(None) => {
                problems.push(
                    UrlProblem::new(codes::PG_VALUE, "a port is no number from 1 to 65535")
                        .help("a `:` in a password is written `%3A`, a `/` is written `%2F`"),
                );
                5432
            }
        };
        let host = match (names.get(i).filter(|n| !n.is_empty()), hostaddr) {
            (Some(name), _) => (*name).to_owned(),
            (None, Some(address)) => address.to_string(),
            (None, None) => SOCKET_DIRECTORY.to_owned(),
        };
        if host.starts_with('@') {
            problems.push(UrlProblem::new(codes::PG_UNSUPPORTED, "abstract sockets are not supported"));
        }
        out.push(PgHost { host, hostaddr, port });
    }
    out
}

#[cfg(test)]
#[path = "pg_url_tests.rs"]
mod tests;
