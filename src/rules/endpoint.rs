//! `warm.http`: which URL fills a key again.
//!
//! Scheme, host and port are fixed text: no value can send a request elsewhere. Values stand in the path, the query and the body, each
//! escaped for its place.

use super::binding::Binding;
use super::template::{Kind, Segment, Template, TemplateError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::ops::Range;

/// What RFC 3986 calls unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A checked URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, with holes.
    target: Template,
}

/// Why a URL cannot be used; `at` are bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// The offending bytes.
    pub at: Range<usize>,
    /// What is wrong there.
    pub why: String,
}

/// A value that would make another request of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// The first problem, with its place.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let err = |at: Range<usize>, why: &str| Err(EndpointError { at, why: why.to_owned() });
        let (tls, start) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(_), _) => (false, 7),
            (_, Some(_)) => (true, 8),
            _ => return err(0..url.len(), "a URL begins with `http://` or `https://`"),
        };
        let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |i| start + i);
        let authority = &url[start..end];
        if let Some(i) = authority.find(['{', '}']) {
            return err(start + i..start + i + 1, "the host is fixed: holes stand in the path and the query");
        }
        if let Some(i) = authority.find('@') {
            return err(start..start + i + 1, "no user in the URL: use `headers`");
        }
        if let Some(i) = url.find('#') {
            return err(i..url.len(), "no server is sent what follows `#`");
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(named) {
            return err(start..end, "this is no host");
        }
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(text) => match text.parse().ok().filter(|p| *p > 0) {
                Some(port) => port,
                None => return err(start..end, "this is no port"),
            },
        };
        let rest = &url[end..];
        if let Some((i, c)) = rest.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return err(end + i..end + i + c.len_utf8(), "percent-encode this");
        }
        let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        let moved = target.len() - rest.len();
        let target = parts(&target).map_err(|e| EndpointError {
            at: end + e.at.start.saturating_sub(moved)..end + e.at.end.saturating_sub(moved),
            why: e.problem.to_string(),
        })?;
        Ok(Self { tls, host: host.to_owned(), port, target })
    }

    /// The holes of the path and the query.
    #[must_use]
    pub fn holes(&self) -> Vec<&str> {
        self.target.holes()
    }

    /// What stands in the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    /// Path and query for these values.
    ///
    /// # Errors
    /// A value that servers and proxies between would take for a step in the path.
    pub fn target(&self, values: &Binding, version: Option<&str>) -> Result<String, Unfit> {
        let text = filled(&self.target, values, version, |v| utf8_percent_encode(v, ENCODED).to_string());
        let path = text.split('?').next().unwrap_or_default();
        let literal = filled(&self.target, values, version, |_| "x".to_owned());
        let fixed: Vec<&str> = literal.split('?').next().unwrap_or_default().split('/').collect();
        for (i, step) in path.split('/').enumerate() {
            let meant = fixed.get(i) == Some(&step);
            if !meant && (step.is_empty() || step == "." || step == "..") {
                return Err(Unfit(format!("a value makes the step `{step}` in the path")));
            }
        }
        Ok(text)
    }
}

/// A template of text that is no pattern, whatever it holds.
fn parts(text: &str) -> Result<Template, TemplateError> {
    Template::parse(text, Kind::Pattern).map_err(|mut errors| errors.remove(0))
}

/// A body with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Template);

impl Body {
    /// Reads a body; literal braces are doubled, as in keys.
    ///
    /// # Errors
    /// The first problem.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parts(text).map(Self)
    }

    /// Its holes.
    #[must_use]
    pub fn holes(&self) -> Vec<&str> {
        self.0.holes()
    }

    /// The body for these values, each escaped as within the quotes of a JSON string.
    #[must_use]
    pub fn fill(&self, values: &Binding, version: Option<&str>) -> String {
        filled(&self.0, values, version, |v| {
            let quoted = serde_json::Value::from(v).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        })
    }
}

fn filled(template: &Template, values: &Binding, version: Option<&str>, escape: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    for segment in &template.segments {
        match segment {
            Segment::Literal(text) | Segment::Glob(text) => out.push_str(text),
            Segment::Hole(hole) => {
                let value = values.get(&hole.name).or(version).unwrap_or_default().as_bytes().to_vec();
                let value = hole.filters.iter().try_fold(value, |v, f| f.apply(v)).unwrap_or_default();
                out.push_str(&escape(&String::from_utf8_lossy(&value)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::template::Fill;
    use super::*;

    fn values(value: &'static str) -> Binding {
        let template = Template::parse("k:{id}", Kind::Key).unwrap();
        Binding::new(&template, |_| Fill::Value(value.as_bytes())).unwrap()
    }

    fn target(url: &str, value: &'static str) -> Result<String, Unfit> {
        Endpoint::parse(url).unwrap().target(&values(value), Some("v4"))
    }

    #[test]
    fn a_url_has_a_fixed_host_and_holes_behind_it() {
        let e = Endpoint::parse("https://[::1]:8443/a?x={id}").unwrap();
        assert_eq!((e.tls, e.host.as_str(), e.port, e.authority().as_str()), (true, "::1", 8443, "[::1]:8443"));
        let e = Endpoint::parse("http://app.local").unwrap();
        assert_eq!((e.port, e.authority().as_str()), (80, "app.local"));
        assert_eq!(e.target(&values("7"), None).unwrap(), "/");
        for (url, at) in [
            ("ftp://x/", 0..8),
            ("http://{id}.x/", 7..8),
            ("http://u:p@x/", 7..11),
            ("http:///x", 7..7),
            ("http://x:0/", 7..10),
            ("http://x/a b", 10..11),
            ("http://x/ä", 9..11),
            ("http://x/#a", 9..11),
            ("http://x/{id", 9..10),
            ("http://x?a={id", 11..12),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap_err().at, at, "{url}");
        }
    }

    #[test]
    fn a_value_stays_in_its_place() {
        let url = "http://x/agents/{id}/v/{version}?q={id|upper}*[";
        assert_eq!(target(url, "7").unwrap(), "/agents/7/v/v4?q=7*[");
        assert_eq!(
            target(url, "a/b?c=d&e ä%").unwrap(),
            "/agents/a%2Fb%3Fc%3Dd%26e%20%C3%A4%25/v/v4?q=A%2FB%3FC%3DD%26E%20%C3%84%25*["
        );
        for hostile in ["..", ".", ""] {
            assert!(target(url, hostile).is_err(), "{hostile:?}");
            assert!(target("http://x/a?q={id}", hostile).is_ok(), "in a query it means nothing");
        }
        assert!(target("http://x/a{id}", "..").is_ok());
        assert!(target("http://x/.{id}", ".").is_err());
    }

    #[test]
    fn a_value_cannot_leave_its_json_string() {
        let body = Body::parse(r#"{{"id": "{id}"}}"#).unwrap();
        assert_eq!(body.holes(), ["id"]);
        assert_eq!(body.fill(&values("a\", \"b\": \"\\\n"), None), r#"{"id": "a\", \"b\": \"\\\n"}"#);
    }
}
