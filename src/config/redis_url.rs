//! Redis URLs.

use super::codes;
use super::model::{RedisAddress, RedisUrl, Secret};
use super::pg_url::UrlProblem;
use super::scalar::nearest;
use percent_encoding::percent_decode_str;

/// Reads `redis://`, `rediss://`, `redis+unix://` and `unix://`.
///
/// # Errors
/// Every problem of the text; none quotes what could hold a password.
pub fn parse(text: &str) -> Result<RedisUrl, Vec<UrlProblem>> {
    read(text.trim()).map_err(|p| vec![p])
}

fn wrong(message: impl Into<String>) -> UrlProblem {
    UrlProblem::new(codes::REDIS_URL, message)
}

fn decode(text: &str) -> Result<String, UrlProblem> {
    let bytes = text.as_bytes();
    for (i, _) in text.match_indices('%') {
        if !bytes.get(i + 1..i + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
            return Err(wrong("a `%` is not followed by two hexadecimal digits")
                .help("a literal percent sign is written `%25`"));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
    decoded.map_err(|_| wrong("the percent-encoded text is not UTF-8"))
}

fn read(text: &str) -> Result<RedisUrl, UrlProblem> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("this is no Redis URL").help("such as `redis://localhost:6379/0`"));
    };
    match scheme {
        "redis" | "rediss" | "redis+unix" | "unix" => {}
        "redis-cluster" | "redis-sentinel" => {
            let message = format!("`{scheme}://` is designed, but not yet built");
            return Err(UrlProblem::new(codes::NOT_BUILT, message)
                .help("name one server with `redis://`, `rediss://` or `redis+unix://`"));
        }
        _ => {
            let near = nearest(scheme, ["redis", "rediss", "redis+unix"]);
            let problem = wrong("the scheme is unknown");
            return Err(match near {
                Some(near) => problem.help(format!("did you mean `{near}://`?")),
                None => problem.help("known are redis://, rediss:// and redis+unix://"),
            });
        }
    }
    if rest.contains('#') {
        return Err(wrong("a Redis URL has no part behind `#`")
            .help("certificates are always verified; in a password, `#` is written `%23`"));
    }
    let (before_query, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    let (authority, path) = before_query.split_at(before_query.find('/').unwrap_or(before_query.len()));
    let (userinfo, address) = authority.split_once('@').map_or((None, authority), |(u, a)| (Some(u), a));
    if address.contains('@') || (scheme.starts_with("redis") && scheme.len() <= 6 && path.contains('@')) {
        return Err(wrong("an `@` stands where the host is expected")
            .help("in a user name or password, `@` is written `%40`, `/` is written `%2F`, `?` is written `%3F`"));
    }
    let (mut username, mut password) = (None, None);
    if let Some(userinfo) = userinfo {
        let (name, secret) = userinfo.split_once(':').map_or((userinfo, ""), |(n, p)| (n, p));
        username = Some(decode(name)?).filter(|n| !n.is_empty());
        password = Some(decode(secret)?).filter(|p| !p.is_empty()).map(Secret::new);
    }
    let mut db = None;
    for pair in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "db" => db = Some(database(value)?),
            _ => return Err(wrong("the only parameter behind `?` is `db`")),
        }
    }
    let address = if scheme.ends_with("unix") {
        if !address.is_empty() {
            return Err(
                wrong("the path of a socket begins with `/`").help("three slashes: `redis+unix:///run/redis.sock`")
            );
        }
        if path.len() < 2 {
            return Err(wrong("the path of the socket is missing"));
        }
        RedisAddress::Unix(decode(path)?.into())
    } else {
        let number = path.trim_start_matches('/').trim_end_matches('/');
        if !number.is_empty() {
            if db.is_some() {
                return Err(wrong("the database is named twice, in the path and behind `?`"));
            }
            db = Some(database(number)?);
        }
        let (host, port) = host_and_port(address)?;
        if scheme == "rediss" { RedisAddress::Tls { host, port } } else { RedisAddress::Tcp { host, port } }
    };
    Ok(RedisUrl { address, db: db.unwrap_or(0), username, password })
}

fn database(text: &str) -> Result<i64, UrlProblem> {
    text.parse::<u16>().map(i64::from).map_err(|_| wrong("the database is no number from 0 to 65535"))
}

fn host_and_port(text: &str) -> Result<(String, u16), UrlProblem> {
    let (host, port) = if let Some(v6) = text.strip_prefix('[') {
        let Some((address, after)) = v6.split_once(']') else {
            return Err(wrong("a `[` of an IPv6 address has no `]`"));
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() || !(after.is_empty() || after.starts_with(':')) {
            return Err(wrong("an IPv6 address is written `[::1]` or `[::1]:6379`"));
        }
        (address.to_owned(), after.strip_prefix(':'))
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
        (decode(host)?, port)
    };
    if host.contains(',') {
        return Err(wrong("several hosts need `redis-cluster://` or `redis-sentinel://`, which are not yet built"));
    }
    let port = match port {
        None | Some("") => 6379,
        Some(port) => port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| {
            wrong("the port is no number from 1 to 65535").help("the form is `redis://user:password@host:port/db`")
        })?,
    };
    Ok((if host.is_empty() { "localhost".into() } else { host }, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(text: &str) -> RedisUrl {
        parse(text).unwrap_or_else(|p| panic!("{text}: {p:?}"))
    }

    #[test]
    fn urls_are_read() {
        let tcp = |host: &str, port| RedisAddress::Tcp { host: host.into(), port };
        assert_eq!(ok("redis://h").address, tcp("h", 6379));
        assert_eq!(ok("redis://[::1]:1/3").address, tcp("::1", 1));
        assert_eq!(ok("redis://[::1]:1/3").db, 3);
        assert_eq!(ok("redis://").address, tcp("localhost", 6379));
        assert_eq!(ok("rediss://h:1").address, RedisAddress::Tls { host: "h".into(), port: 1 });
        let unix = ok("redis+unix://bob:p%40@/run/re%20dis.sock?db=2");
        assert_eq!((unix.address, unix.db), (RedisAddress::Unix("/run/re dis.sock".into()), 2));
        assert_eq!(unix.username.as_deref(), Some("bob"));
        assert_eq!(unix.password.as_ref().map(Secret::expose), Some("p@"));
        assert_eq!(ok("unix:///a@b").address, RedisAddress::Unix("/a@b".into()));
        assert_eq!(ok("redis://:pw@h").username, None);
    }

    #[test]
    fn wrong_urls_are_refused_without_quoting_them() {
        for text in [
            "localhost",
            "http://s3cret@h",
            "redis://u:s3@cret@h",
            "redis://u:s3/cret@h",
            "redis://:s3cret",
            "redis://h/s3cret",
            "redis://h?s3cret=1",
            "redis://h#insecure",
            "redis://a,b",
            "redis://[::1",
            "redis+unix://run/x",
            "redis+unix://",
            "redis://h%zz",
            "redis-cluster://a,b",
        ] {
            let problems = parse(text).expect_err(text);
            assert!(problems.iter().all(|p| !p.message.contains("s3")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(s in "\\PC{0,40}", t in "(redis|rediss|unix|redis\\+unix)://[a-z:@/?&=%,\\[\\]0-9#]{0,30}") {
            let _ = (parse(&s), parse(&t));
        }
    }
}
