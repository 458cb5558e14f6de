//! `[cache.NAME]`.

use super::codes;
use super::globals::template;
use super::model::Cache;
use super::problem::{Place, Problem};
use super::reader::{At, Found, Reader, Section, entries};
use super::warm::WarmAt;
use crate::rules::template::Kind;
use std::time::Duration;
use toml::de::DeTable;

/// A cache with the places of what it says.
pub(super) struct CacheAt {
    pub(super) name: String,
    /// The NAME of the section.
    pub(super) place: Place,
    /// The text of `key` or `pattern`.
    pub(super) template: Place,
    pub(super) repeat_after: Option<At<Duration>>,
    pub(super) guard: Option<At<bool>>,
    pub(super) ttl: Option<At<Duration>>,
    /// `warm` stands there, whether it can be read or not.
    pub(super) warms: bool,
    pub(super) warm: Option<WarmAt>,
    /// None where the template is wrong; that has been reported.
    pub(super) cache: Option<Cache>,
}

/// Reads every cache.
pub(super) fn caches<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> Vec<CacheAt> {
    let mut out = Vec::new();
    for (name, span, value) in table.map(entries).unwrap_or_default() {
        let path = format!("cache.{name}");
        let Some(table) = reader.table(&Found::Toml(value), &path, "a section, such as [cache.NAME]") else { continue };
        out.push(cache(reader, name, Place::Span(span), Section::local(path, table)));
    }
    out
}

fn cache<'a>(reader: &mut Reader<'a>, name: &str, place: Place, mut s: Section<'a>) -> CacheAt {
    if name.is_empty() || name.chars().any(char::is_control) {
        reader.error(codes::EMPTY, &place, "a cache's name is empty or holds control characters");
    }
    let key = s.get(reader, "key").map(|f| (f.place(), reader.text(f, &s.path("key"))));
    let pattern = s.get(reader, "pattern").map(|f| (f.place(), reader.text(f, &s.path("pattern"))));
    let ttl = s.get(reader, "ttl").and_then(|f| reader.duration(f, &s.path("ttl"), "1ms"..="3650d"));
    let repeat_after =
        s.get(reader, "repeat_after").and_then(|f| reader.duration(f, &s.path("repeat_after"), "1ms"..="365d"));
    let allow_broad = s.get(reader, "allow_broad").and_then(|f| reader.boolean(f, &s.path("allow_broad")));
    let guard = s.get(reader, "guard_fills").and_then(|f| reader.boolean(f, &s.path("guard_fills")));
    let index = s.get(reader, "index").and_then(|f| reader.boolean(f, &s.path("index")));
    let warm = s.get(reader, "warm");
    let warms = warm.is_some();
    let warm = warm.and_then(|f| super::warm::cache(reader, &f, s.path("warm")));
    s.finish(reader);
    let allow_broad = allow_broad.is_some_and(|b| b.value);
    let (kind, chosen) = match (key, pattern) {
        (Some((key, _)), Some((pattern, _))) => {
            let message = format!("cache `{name}` has both `key` and `pattern`");
            let problem = Problem::error(codes::KEY_AND_PATTERN, pattern, message).context(&key, "the key");
            reader.push(problem.help("keep one of them, or make two caches"));
            (Kind::Key, None)
        }
        (None, None) => {
            let message = format!("cache `{name}` has neither `key` nor `pattern`");
            let help = format!("such as key = \"{name}:{{id}}\"");
            reader.push(Problem::error(codes::MISSING, place.clone(), message).help(help));
            (Kind::Key, None)
        }
        (Some((_, text)), None) => (Kind::Key, text),
        (None, Some((_, text))) => (Kind::Pattern, text),
    };
    let template_place = chosen.as_ref().map_or_else(|| place.clone(), |t| t.place.clone());
    let parsed = chosen.as_ref().and_then(|text| template(reader, text, kind));
    if let Some(parsed) = parsed.as_ref().filter(|t| t.is_broad() && !allow_broad) {
        let whole = String::from_utf8_lossy(parsed.whole(b"").bytes()).into_owned();
        let what = if kind == Kind::Key { "key" } else { "pattern" };
        reader
            .error(codes::BROAD, &template_place, format!("the {what} of cache `{name}` begins with a wildcard"))
            .help
            .push("put a fixed text in front, or say `allow_broad = true` where this is meant".into());
        if let Some(last) = reader.problems.last_mut() {
            last.label = format!("evicted whole, it is `{whole}`");
        }
    }
    let cache = parsed.map(|template| Cache {
        name: name.to_owned(),
        template,
        ttl: ttl.as_ref().map(|t| t.value),
        repeat_after: repeat_after.as_ref().map(|r| r.value),
        guard_fills: guard.as_ref().is_some_and(|g| g.value),
        warm: warm.as_ref().map(|w| w.warm.clone()),
        allow_broad,
        index: index.map_or(kind == Kind::Pattern, |i| i.value),
    });
    CacheAt { name: name.to_owned(), place, template: template_place, repeat_after, guard, ttl, warms, warm, cache }
}
