//! Which `Host` headers the TCP listener answers.
//!
//! A web page may rebind its own DNS name to this machine and then read what it fetches. It cannot do so with an
//! address, with `localhost` or with this machine's bare name, so only these are answered.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a request with this header may be answered; `machine` is this machine's host name. HTTP/1.0 clients may
/// send none: browsers always do.
pub(super) fn is_safe(host: Option<&str>, machine: &str) -> bool {
    let Some(host) = host else { return true };
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    name.parse::<Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || (!machine.is_empty() && name.eq_ignore_ascii_case(machine))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// This machine's name; empty where it cannot be read.
pub(super) fn machine() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_rebound_are_answered() {
        let check = |host: Option<&str>, expected| assert_eq!(is_safe(host, "db1"), expected, "{host:?}");
        check(None, true);
        check(Some("127.0.0.1:9847"), true);
        check(Some("127.0.0.1"), true);
        check(Some("[::1]:9847"), true);
        check(Some("[::1]"), true);
        check(Some("10.0.0.7:9847"), true);
        check(Some("localhost:9847"), true);
        check(Some("LOCALHOST"), true);
        check(Some("db1:9847"), true);
        check(Some("evil.example:9847"), false);
        check(Some("db1.evil.example"), false);
        check(Some("localhost.evil.example"), false);
        check(Some("127.0.0.1.evil.example"), false);
        check(Some("127.0.0.1:x"), false);
        check(Some("[::1]evil"), false);
        check(Some("[::1"), false);
        check(Some("::1"), false);
        check(Some(""), false);
        assert!(!is_safe(Some(""), ""));
    }
}
