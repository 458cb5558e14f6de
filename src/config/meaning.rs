//! The second stage: what the settings say about each other.

use super::caches::CacheAt;
use super::codes;
use super::model::{Delivery, Namespace, Postgres};
use super::problem::{Place, Problem, Severity};
use super::reader::{At, Reader};
use super::scalar::nearest;
use super::tables::{EdgeAt, TableAt};
use crate::rules::glob;
use crate::rules::template::{Kind, Rendered, Template};
use std::time::Duration;

/// Everything that was read, with its places.
pub(super) struct Read<'r> {
    pub(super) postgres: Option<&'r Postgres>,
    pub(super) namespace: &'r Namespace,
    pub(super) never_delete: &'r [At<String>],
    pub(super) caches: &'r [CacheAt],
    pub(super) tables: &'r [TableAt],
}

/// Reports everything that contradicts or looks unmeant.
pub(super) fn check(reader: &mut Reader<'_>, read: &Read<'_>) {
    for table in read.tables {
        references(reader, read, table);
    }
    // An edge that could not be read may be the one that is missed.
    let sound = reader.problems.iter().all(|p| p.severity == Severity::Warning);
    for cache in read.caches {
        times(reader, read, cache);
        let evicted = read.tables.iter().flat_map(|t| &t.table.edges).any(|e| e.cache == cache.name);
        if sound && !evicted {
            let message = format!("no table evicts the cache `{}`", cache.name);
            let help = format!("name it in the `evict` of the tables it depends on: evict = [\"{}\"]", cache.name);
            reader.push(Problem::warning(codes::NO_EDGE, cache.place.clone(), message).help(help));
        }
    }
    covering(reader, read);
    protected(reader, read);
}

fn references(reader: &mut Reader<'_>, read: &Read<'_>, at: &TableAt) {
    let table = &at.table;
    let mut filled: Vec<&str> = Vec::new();
    let mut complete = true;
    for (i, (edge, place)) in table.edges.iter().zip(&at.edges).enumerate() {
        let Some(cache) = read.caches.iter().find(|c| c.name == edge.cache) else {
            complete = false;
            let near = nearest(&edge.cache, read.caches.iter().map(|c| c.name.as_str()));
            let message = format!("there is no cache `{}`", edge.cache);
            let mut problem = Problem::error(codes::UNKNOWN_CACHE, place.cache.clone(), message).did_you_mean(near);
            if near.is_none() {
                problem = problem.help(format!("add a section [cache.{}]", edge.cache));
            }
            reader.push(problem);
            continue;
        };
        let twice = table.edges[..i]
            .iter()
            .zip(&at.edges)
            .find(|(e, _)| e.cache == edge.cache && e.with == edge.with && e.when == edge.when);
        if let Some((_, first)) = twice {
            let message = format!("table `{}` evicts `{}` twice", table.name, edge.cache);
            let problem =
                Problem::error(codes::EDGE_TWICE, place.cache.clone(), message).context(&first.cache, "first here");
            reader.push(problem.help("merge the two entries, or give them different `with`"));
        }
        if let (Some(columns), false) = (&place.columns, edge.ops.update) {
            let message = "`columns` narrows UPDATE only, and `ops` of this edge has no update";
            reader.push(Problem::warning(codes::IDLE_COLUMNS, columns.clone(), message));
        }
        let Some(cache) = &cache.cache else {
            complete = false;
            continue;
        };
        let holes = cache.template.holes();
        with(reader, at, place, edge.cache.as_str(), &holes);
        filled.extend(holes);
    }
    for (lookup, place) in table.lookups.iter().zip(&at.lookups) {
        if complete && !filled.contains(&lookup.hole.as_str()) {
            let message = format!("no cache that `{}` evicts has a hole `{{{}}}`", table.name, lookup.hole);
            let near = nearest(&lookup.hole, filled.iter().copied());
            reader.push(Problem::error(codes::UNKNOWN_HOLE, place.clone(), message).did_you_mean(near));
        }
    }
}

fn with(reader: &mut Reader<'_>, at: &TableAt, place: &EdgeAt, cache: &str, holes: &[&str]) {
    for (hole, span) in &place.with {
        if !holes.contains(&hole.as_str()) {
            let near = nearest(hole, holes.iter().copied());
            let message = format!("cache `{cache}` has no hole `{{{hole}}}`");
            let mut problem = Problem::error(codes::UNKNOWN_HOLE, span.clone(), message).did_you_mean(near);
            if near.is_none() && !holes.is_empty() {
                let list: Vec<String> = holes.iter().map(|h| format!("{{{h}}}")).collect();
                problem = problem.help(format!("its holes are {}: `with` is {{ hole = \"column\" }}", list.join(", ")));
            }
            reader.push(problem);
        } else if let Some(i) = at.table.lookups.iter().position(|l| l.hole == *hole) {
            let message = format!("the hole `{{{hole}}}` is filled by `with` and by `lookup`");
            let problem = Problem::error(codes::WITH_AND_LOOKUP, span.clone(), message);
            reader.push(match at.lookups.get(i) {
                Some(lookup) => problem.context(lookup, "and here"),
                None => problem,
            });
        }
    }
}

fn times(reader: &mut Reader<'_>, read: &Read<'_>, cache: &CacheAt) {
    let retention = read.postgres.map_or(Duration::from_secs(3600), |p| p.retention);
    let journal = read.postgres.is_none_or(|p| p.delivery == Delivery::Journal);
    if let Some(guard) = cache.guard.as_ref().filter(|g| g.value && !journal) {
        let message = format!("`guard_fills` of `{}` does not go with `delivery = \"notify\"`", cache.name);
        let help =
            "only the journal tells which snapshot a change is in: use delivery = \"journal\", or `repeat_after`";
        reader.push(Problem::error(codes::GUARD_NOTIFY, guard.place.clone(), message).help(help));
    }
    let Some(repeat) = &cache.repeat_after else { return };
    if journal && repeat.value >= retention {
        let message = format!("`repeat_after` of `{}` is not shorter than `postgres.retention`", cache.name);
        let help = "what is repeated must still be in the journal: raise the retention or lower the delay";
        reader.push(Problem::error(codes::RETENTION, repeat.place.clone(), message).help(help));
    }
    if let Some(ttl) = cache.ttl.as_ref().filter(|t| t.value <= repeat.value) {
        let message = format!("`repeat_after` of `{}` is not shorter than its `ttl`", cache.name);
        let problem = Problem::warning(codes::REPEAT_TTL, repeat.place.clone(), message);
        reader.push(problem.context(&ttl.place, "expired by then"));
    }
}

/// The whole form as a pattern, without prefix.
fn whole(template: &Template, prefix: &[u8]) -> Vec<u8> {
    match template.whole(prefix) {
        Rendered::Pattern(p) => p,
        Rendered::Key(k) => glob::escape(&k),
    }
}

fn covering(reader: &mut Reader<'_>, read: &Read<'_>) {
    let known: Vec<(&CacheAt, &Template, Vec<u8>)> = read
        .caches
        .iter()
        .filter_map(|c| c.cache.as_ref().map(|cache| (c, &cache.template, whole(&cache.template, b""))))
        .collect();
    for (i, (outer, template, outer_whole)) in known.iter().enumerate() {
        for (j, (inner, _, inner_whole)) in known.iter().enumerate() {
            if i == j || !glob::covers(outer_whole, inner_whole) {
                continue;
            }
            // Two that cover each other are one finding, at the later one.
            if i < j && glob::covers(inner_whole, outer_whole) {
                continue;
            }
            guarded_alike(reader, outer, inner);
            let how =
                if template.kind == Kind::Key && template.holes().is_empty() { "is the same key as" } else { "covers" };
            let message = format!("the whole form of `{}` {how} cache `{}`", outer.name, inner.name);
            let label = format!("evicted whole, it is `{}`", String::from_utf8_lossy(outer_whole));
            let problem = Problem::warning(codes::COVERS, outer.template.clone(), message).label(label);
            let context = format!("and takes `{}` with it", inner.name);
            reader.push(problem.context(&inner.template, context));
        }
    }
}

/// Evictions of a cache that does not guard its fills leave no tombstone: late fills of keys that another cache guards
/// would be stored after them.
fn guarded_alike(reader: &mut Reader<'_>, outer: &CacheAt, inner: &CacheAt) {
    // What warms guards itself, and so does what evicts the same keys.
    let guards =
        |c: &CacheAt| c.warm.as_ref().is_some_and(|w| w.sql.is_some()) || c.guard.as_ref().is_some_and(|g| g.value);
    let (guarded, open) = if guards(outer) { (outer, inner) } else { (inner, outer) };
    if let Some(guard) = guarded.guard.as_ref().filter(|g| g.value && !guards(open)) {
        let message =
            format!("`{}` guards its fills, but `{}` evicts keys of it and does not", guarded.name, open.name);
        let problem = Problem::error(codes::GUARD_OPEN, guard.place.clone(), message).context(&open.template, "these");
        let help = format!("set `guard_fills = true` in [cache.{}] too, or give the two different prefixes", open.name);
        reader.push(problem.help(help));
    }
}

fn protected(reader: &mut Reader<'_>, read: &Read<'_>) {
    for table in read.tables {
        for (edge, at) in table.table.edges.iter().zip(&table.edges) {
            let Some(cache) = read.caches.iter().find(|c| c.name == edge.cache).and_then(|c| c.cache.as_ref()) else {
                continue;
            };
            let covered_by = |(_, prefix): &(Option<String>, String)| {
                let whole = whole(&cache.template, prefix.as_bytes());
                read.never_delete.iter().find(|n| glob::covers(n.value.as_bytes(), &whole))
            };
            let by: Option<Vec<_>> = read.namespace.prefixes.iter().map(covered_by).collect();
            let Some(first) = by.as_ref().and_then(|b| b.first()) else { continue };
            let message = format!("`never_delete` keeps every key of cache `{}`", edge.cache);
            let problem =
                Problem::warning(codes::PROTECTED, at.cache.clone(), message).label("nothing goes here, ever");
            let problem = match &first.place {
                Place::Variable(name) => problem.help(format!("narrow {name}, or delete the edge")),
                place => problem.context(place, "kept by this").help("narrow `never_delete`, or delete the edge"),
            };
            reader.push(problem);
        }
    }
    let retention = read.postgres.map_or(Duration::from_secs(3600), |p| p.retention);
    for table in read.tables {
        if let Some(debounce) = table.debounce.as_ref().filter(|d| d.value >= retention) {
            let message = format!("`debounce` of `{}` is not shorter than `postgres.retention`", table.table.name);
            let help = "what is outstanding must still be in the journal: raise the retention or lower the window";
            reader.push(Problem::error(codes::RETENTION, debounce.place.clone(), message).help(help));
        }
    }
}
