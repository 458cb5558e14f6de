//! `[warm]` and `warm.*` of a cache.

use super::caches::CacheAt;
use super::codes;
use super::model::{CacheWarm, Delivery, Namespace, Warm, WarmFormat};
use super::problem::{Place, Problem};
use super::reader::{At, Found, Reader, Section};
use super::scalar::nearest;
use super::servers;
use crate::rules::binding::overlapping;
use crate::rules::query::{Query, QueryError};
use crate::rules::template::Kind;
use toml::de::DeTable;

/// The parameter that no hole fills: the newest of `namespace.versions`.
const VERSION: &str = "version";

/// A cache's warming with the places of what it says.
pub(super) struct WarmAt {
    /// The text of `sql`.
    pub(super) sql: At<String>,
    pub(super) warm: CacheWarm,
}

/// Reads `[warm]`.
pub(super) fn warm<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>) -> Warm {
    let mut s = Section::global("warm", table);
    let url = servers::other_postgres(reader, &mut s, "warm");
    s.not_built(reader, "replica_url");
    let concurrency = s.get(reader, "concurrency").and_then(|f| reader.integer(f, "warm.concurrency", 1..=100));
    let rate = s.get(reader, "max_per_second").and_then(|f| reader.integer(f, "warm.max_per_second", 1..=100_000));
    let timeout =
        s.get(reader, "statement_timeout").and_then(|f| reader.duration(f, "warm.statement_timeout", "1ms"..="5m"));
    let queue = s.get(reader, "queue").and_then(|f| reader.integer(f, "warm.queue", 1..=1_000_000));
    s.finish(reader);
    let default = Warm::default();
    Warm {
        url,
        concurrency: concurrency.map_or(default.concurrency, size),
        max_per_second: rate.map_or(default.max_per_second, count),
        statement_timeout: timeout.map_or(default.statement_timeout, |t| t.value),
        queue: queue.map_or(default.queue, size),
    }
}

/// The reader has checked the range.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Reads `warm` of a cache.
pub(super) fn cache<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: String) -> Option<WarmAt> {
    let table = reader.table(found, &path, "settings, such as warm.sql = \"SELECT … WHERE id = :id\"")?;
    let place = found.place();
    let mut s = Section::local(path, table);
    let sql = s.get(reader, "sql").map(|f| reader.name(f, &s.path("sql")));
    if let Some(found) = s.get(reader, "on") {
        on(reader, found, &s.path("on"));
    }
    let formats = [("json", WarmFormat::Json), ("text", WarmFormat::Text), ("hash", WarmFormat::Hash)];
    let format = s.get(reader, "format").and_then(|f| reader.choice(f, &s.path("format"), &formats));
    let always = s.get(reader, "always").and_then(|f| reader.boolean(f, &s.path("always")));
    let concurrency = s.get(reader, "concurrency").and_then(|f| reader.integer(f, &s.path("concurrency"), 1..=100));
    let rate = s.get(reader, "max_per_second");
    let rate = rate.and_then(|f| reader.integer(f, &s.path("max_per_second"), 1..=100_000));
    for later in ["http", "startup", "refresh_at", "only_if_read_within", "schedule"] {
        s.not_built(reader, later);
    }
    let path = s.path("sql");
    s.finish(reader);
    let Some(sql) = sql else {
        if table.get("http").is_none() {
            reader
                .error(codes::MISSING, &place, format!("`{path}` is missing: how is the value made?"))
                .help
                .push("such as warm.sql = \"SELECT name FROM users WHERE id = :id\"".into());
        }
        return None;
    };
    let sql = sql?;
    match Query::parse(&sql.value) {
        Ok(query) => Some(WarmAt {
            sql,
            warm: CacheWarm {
                query,
                format: format.map(|f| f.value).unwrap_or_default(),
                always: always.is_some_and(|a| a.value),
                concurrency: concurrency.map(size),
                max_per_second: rate.map(count),
            },
        }),
        Err(QueryError { at, problem }) => {
            let place = reader.inside(&sql.place, &sql.value, at);
            reader.error(codes::WARM_SQL, &place, format!("`{path}`: {problem}"));
            None
        }
    }
}

/// What begins a warm-up. Only evictions do yet.
fn on<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) {
    for item in reader.list(found, path).unwrap_or_default() {
        match item.value.as_str() {
            "evict" => {}
            later @ ("startup" | "refresh" | "schedule") => {
                let message = format!("`{path}` with \"{later}\" is designed, but not yet built");
                reader.error(codes::NOT_BUILT, &item.place, message);
            }
            other => {
                let near = nearest(other, ["evict", "startup", "refresh", "schedule"]);
                let message = format!("`{other}` is no occasion: evict");
                reader.push(Problem::error(codes::NOT_A_CHOICE, item.place, message).did_you_mean(near));
            }
        }
    }
}

/// Reports what the warming of caches contradicts elsewhere.
pub(super) fn check(reader: &mut Reader<'_>, delivery: Option<Delivery>, namespace: &Namespace, caches: &[CacheAt]) {
    for at in caches {
        let (Some(warm), Some(cache)) = (&at.warm, &at.cache) else { continue };
        let place = &warm.sql.place;
        if delivery == Some(Delivery::Notify) {
            let message = format!("`warm.sql` of `{}` does not go with `delivery = \"notify\"`", at.name);
            let help =
                "a value that was overtaken by a change is refused by comparing snapshots, which only the journal has";
            reader.push(Problem::error(codes::WARM_NOTIFY, place.clone(), message).help(help));
        }
        if cache.template.kind == Kind::Pattern {
            let message = format!("`warm.sql` of `{}` has no key to store its value under", at.name);
            let problem = Problem::error(codes::WARM_PATTERN, place.clone(), message);
            reader.push(problem.context(&at.template, "this names many").help("give the value a cache with `key`"));
            continue;
        }
        if at.ttl.is_none() {
            let message = format!("`warm.sql` of `{}` needs the cache's `ttl`", at.name);
            let help = format!("add to [cache.{}]: ttl = \"10m\", as the application sets it", at.name);
            reader.push(Problem::error(codes::WARM_TTL, place.clone(), message).help(help));
        }
        parameters(reader, namespace, at, warm);
        neighbours(reader, caches, at, place);
    }
}

fn parameters(reader: &mut Reader<'_>, namespace: &Namespace, at: &CacheAt, warm: &WarmAt) {
    let Some(cache) = &at.cache else { return };
    let holes = cache.template.holes();
    let versions = namespace.prefixes.iter().any(|(version, _)| version.is_some());
    for name in &warm.warm.query.parameters {
        if holes.contains(&name.as_str()) || (name == VERSION && versions) {
            continue;
        }
        let found = warm.sql.value.find(&format!(":{name}")).map_or(0..warm.sql.value.len(), |i| i..i + 1 + name.len());
        let place = reader.inside(&warm.sql.place, &warm.sql.value, found);
        let message = format!("`:{name}` is no hole of the key of `{}`", at.name);
        let near = nearest(name, holes.iter().copied());
        let mut problem = Problem::error(codes::WARM_PARAMETER, place, message).did_you_mean(near);
        if near.is_none() {
            let list: Vec<String> = holes.iter().map(|h| format!("`:{h}`")).collect();
            let holes = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
            problem = problem.help(format!("there are {holes}; in a slice of an array, put a blank behind the colon"));
        }
        reader.push(problem);
    }
    for hole in holes.into_iter().filter(|h| !warm.warm.query.parameters.iter().any(|p| p == h)) {
        let message = format!("`warm.sql` of `{}` does not use `:{hole}`", at.name);
        let problem = Problem::warning(codes::WARM_UNUSED, warm.sql.place.clone(), message);
        reader.push(problem.context(&at.template, "so that all these keys get the same value"));
    }
}

/// Patterns of other caches that may delete a warmed key: a value is stored only if no such pattern was evicted since it was read,
/// and that must be asked by the pattern's name.
fn neighbours(reader: &mut Reader<'_>, caches: &[CacheAt], at: &CacheAt, place: &Place) {
    let Some(warmed) = &at.cache else { return };
    let holes = warmed.template.holes();
    for other in caches.iter().filter(|c| c.name != at.name) {
        let Some(pattern) = other.cache.as_ref().filter(|c| c.template.kind == Kind::Pattern) else { continue };
        if !overlapping(&warmed.template, &pattern.template) {
            continue;
        }
        if let Some(hole) = pattern.template.holes().into_iter().find(|h| !holes.contains(h)) {
            let message =
                format!("`{}` evicts keys of `{}`, but its `{{{hole}}}` is no hole of theirs", other.name, at.name);
            let problem = Problem::error(codes::WARM_NEIGHBOUR, place.clone(), message);
            let help = "call holes that mean the same alike in both templates (`with` names the column), or give the two \
                        caches different prefixes";
            reader.push(problem.context(&other.template, "these").help(help));
        }
    }
}

/// Makes every cache guard its fills that may delete what pgevict stores.
pub(super) fn guard(caches: &mut [CacheAt]) {
    let warmed: Vec<_> = caches
        .iter()
        .filter(|c| c.warm.is_some())
        .filter_map(|c| c.cache.as_ref().map(|cache| cache.template.clone()))
        .collect();
    for cache in caches.iter_mut().filter_map(|c| c.cache.as_mut()) {
        cache.guard_fills |= warmed.iter().any(|t| overlapping(t, &cache.template));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_may_delete_a_warmed_key_is_guarded_and_nothing_else() {
        let toml = "[postgres]\nurl = \"postgresql://u@h/d\"\n[redis]\nurl = \"redis://h\"\n\
            [cache.w]\nkey = \"user:{id}:profile\"\nttl = \"1m\"\nwarm.sql = \"SELECT 1 WHERE :id = '1'\"\n\
            [cache.all]\npattern = \"user:{id}:*\"\n[cache.same]\nkey = \"user:{x}:profile\"\n\
            [cache.other]\npattern = \"posts:{id}:*\"\n\
            [table.t]\nevict = [\"w\", \"all\", \"other\", { cache = \"same\", with = { x = \"id\" } }]";
        let (config, _) = crate::config::parse(toml, "t", &crate::config::Environment::empty()).unwrap();
        let guarded: Vec<&str> = config.caches.iter().filter(|c| c.guard_fills).map(|c| c.name.as_str()).collect();
        assert_eq!(guarded, ["w", "all", "same"]);
    }
}
