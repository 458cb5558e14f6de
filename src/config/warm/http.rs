//! `warm.http` of a cache.

use crate::config::caches::CacheAt;
use crate::config::codes;
use crate::config::model::{Http, Method, Namespace, Secret};
use crate::config::problem::Problem;
use crate::config::reader::{At, Found, Reader, Section, entries, hide};
use crate::config::scalar::nearest;
use crate::rules::endpoint::{Body, Endpoint};
use std::time::Duration;
use toml::de::DeValue;

/// Headers that say how the connection works: pgevict's own.
const OWN: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "upgrade"];

/// Reads `http`, and the text of its URL.
pub(super) fn read<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: String) -> Option<(Http, At<String>)> {
    let wanted = "a table, such as { url = \"http://localhost:8000/warm/{id}\" }";
    let table = reader.table(found, &path, wanted)?;
    let place = found.place();
    let mut s = Section::local(path.clone(), table);
    let url = s.get(reader, "url").map(|f| reader.name(f, &s.path("url")));
    let methods = [("GET", Method::Get), ("POST", Method::Post), ("PUT", Method::Put)];
    let method = s.get(reader, "method").and_then(|f| reader.choice(f, &s.path("method"), &methods));
    let timeout = s.get(reader, "timeout").and_then(|f| reader.duration(f, &s.path("timeout"), "1ms"..="5m"));
    let body = s.get(reader, "body").and_then(|f| reader.text(f, &s.path("body")));
    let headers = s.get(reader, "headers").map(|f| headers(reader, &f, &s.path("headers"))).unwrap_or_default();
    let success = s.get(reader, "success").map(|f| success(reader, &f, &s.path("success"))).unwrap_or_default();
    s.finish(reader);
    let Some(url) = url else {
        reader.error(codes::MISSING, &place, format!("`{path}` has no `url`")).help.push(format!("it is {wanted}"));
        return None;
    };
    let url = url?;
    let endpoint = match Endpoint::parse(&url.value) {
        Ok(endpoint) => endpoint,
        Err(e) => {
            let place = reader.inside(&url.place, &url.value, e.at);
            reader.error(codes::WARM_URL, &place, format!("`{path}.url`: {}", e.why));
            return None;
        }
    };
    let body = match body.as_ref().map(|text| (text, Body::parse(&text.value))) {
        None => None,
        Some((_, Ok(body))) => Some(body),
        Some((text, Err(e))) => {
            let place = reader.inside(&text.place, &text.value, e.at);
            let problem = reader.error(codes::WARM_URL, &place, format!("`{path}.body`: {}", e.problem));
            problem.help.push("braces that stand for themselves are doubled: '{{\"id\": \"{id}\"}}'".into());
            return None;
        }
    };
    let http = Http {
        url: endpoint,
        method: method.map(|m| m.value).unwrap_or_default(),
        headers,
        body,
        timeout: timeout.map_or(Duration::from_secs(3), |t| t.value),
        success,
    };
    Some((http, url))
}

fn headers<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Vec<(String, Secret)> {
    let table = reader.table(found, path, "a table, such as { authorization = \"Bearer …\" }");
    let mut out = Vec::new();
    for (name, span, value) in table.map(entries).unwrap_or_default() {
        // Tokens stand here.
        hide(value, &mut reader.secrets);
        let place = crate::config::Place::Span(span);
        let Some(text) = reader.text(Found::Toml(value), &format!("{path}.{name}")) else { continue };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.chars().all(token) || OWN.contains(&lower.as_str()) {
            let why = if OWN.contains(&lower.as_str()) { "pgevict sets it" } else { "no header has such a name" };
            reader.error(codes::WARM_URL, &place, format!("`{path}`: `{name}`: {why}"));
        } else if !text.value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            reader.error(codes::WARM_URL, &place, format!("`{path}`: the value of `{name}` is not visible ASCII"));
        } else {
            out.push((lower, Secret::new(text.value)));
        }
    }
    out
}

fn success<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: &str) -> Vec<u16> {
    let items = match found {
        Found::Toml(value) => match value.get_ref() {
            DeValue::Array(items) => Some(items),
            _ => None,
        },
        Found::Variable { .. } => None,
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        reader.error(codes::WRONG_TYPE, &found.place(), format!("`{path}` wants a list of codes, such as [200, 204]"));
        return Vec::new();
    };
    let codes = items.iter().filter_map(|item| reader.integer(Found::Toml(item), path, 100..=599));
    codes.filter_map(|n| u16::try_from(n).ok()).collect()
}

/// Every hole of the request is one of the cache's.
pub(super) fn check(reader: &mut Reader<'_>, namespace: &Namespace, at: &CacheAt, url: &At<String>, http: &Http) {
    let Some(cache) = &at.cache else { return };
    let known = cache.template.holes();
    let mut used = http.url.holes();
    used.extend(http.body.iter().flat_map(Body::holes));
    for name in used {
        if known.contains(&name) || (name == super::VERSION && super::versioned(namespace)) {
            continue;
        }
        let found = url.value.find(&format!("{{{name}")).map_or(0..url.value.len(), |i| i..i + 1 + name.len());
        let place = reader.inside(&url.place, &url.value, found);
        let message = format!("`{{{name}}}` is no hole of cache `{}`", at.name);
        let near = nearest(name, known.iter().copied());
        let problem = Problem::error(codes::WARM_PARAMETER, place, message).did_you_mean(near);
        reader.push(problem.context(&at.template, "its holes stand here"));
    }
}
