//! `[warm]` and `warm.*` of a cache.

mod after;
mod http;
mod schedule;

use super::caches::CacheAt;
use super::codes;
use super::model::{CacheWarm, Delivery, Namespace, PgUrl, Refill, Refresh, Warm, WarmFormat};
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
    /// The text of `sql`; None: `http`.
    pub(super) sql: Option<At<String>>,
    /// The text of the URL, with the parts that hold holes.
    pub(super) url: Option<At<String>>,
    /// The caches that it is warmed after.
    pub(super) after: Vec<At<String>>,
    pub(super) warm: CacheWarm,
}

/// Reads `[warm]`.
pub(super) fn warm<'a>(reader: &mut Reader<'a>, table: Option<&'a DeTable<'a>>, primary: Option<&PgUrl>) -> Warm {
    let mut s = Section::global("warm", table);
    let url = servers::other_postgres(reader, &mut s, "warm");
    let replica = servers::replica(reader, &mut s, url.as_ref().or(primary));
    let concurrency = s.get(reader, "concurrency").and_then(|f| reader.integer(f, "warm.concurrency", 1..=100));
    let rate = s.get(reader, "max_per_second").and_then(|f| reader.integer(f, "warm.max_per_second", 1..=100_000));
    let timeout =
        s.get(reader, "statement_timeout").and_then(|f| reader.duration(f, "warm.statement_timeout", "1ms"..="5m"));
    let queue = s.get(reader, "queue").and_then(|f| reader.integer(f, "warm.queue", 1..=1_000_000));
    s.finish(reader);
    let default = Warm::default();
    Warm {
        url,
        replica,
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
    let sql = s.get(reader, "sql").map(|f| (f.place(), reader.name(f, &s.path("sql"))));
    let http = s.get(reader, "http").map(|f| (f.place(), http::read(reader, &f, s.path("http"))));
    let [at_evict, at_start, at_refresh, at_hours] = match s.get(reader, "on") {
        Some(found) => on(reader, found, &s.path("on")),
        None => [Some(place.clone()), None, None, None],
    };
    let refresh = refresh(reader, &mut s, at_refresh.as_ref());
    let startup_at = s.get(reader, "startup");
    let startup = startup_at.as_ref().and_then(|f| startup(reader, f, s.path("startup")));
    if let Some(start) = at_start.as_ref().filter(|_| startup_at.is_none()) {
        let message = format!("`{}` is missing: which keys are warmed at the start?", s.path("startup.sql"));
        let help = "such as warm.startup.sql = \"SELECT id FROM users WHERE active\"";
        reader.error(codes::MISSING, start, message).help.push(help.into());
    }
    let schedule = match (s.get(reader, "schedule"), &at_hours) {
        (None, None) => None,
        (found, on) => schedule::read(reader, found, s.path("schedule"), on.as_ref(), startup.as_ref()),
    };
    let formats = [("json", WarmFormat::Json), ("text", WarmFormat::Text), ("hash", WarmFormat::Hash)];
    let format = s.get(reader, "format").and_then(|f| reader.choice(f, &s.path("format"), &formats));
    let after = s.get(reader, "after").and_then(|f| reader.list(f, &s.path("after"))).unwrap_or_default();
    let always = s.get(reader, "always").and_then(|f| reader.boolean(f, &s.path("always")));
    let concurrency = s.get(reader, "concurrency").and_then(|f| reader.integer(f, &s.path("concurrency"), 1..=100));
    let rate = s.get(reader, "max_per_second");
    let rate = rate.and_then(|f| reader.integer(f, &s.path("max_per_second"), 1..=100_000));
    let path = s.path("sql");
    s.finish(reader);
    let warm = |refill| CacheWarm {
        refill,
        at_evict: at_evict.is_some(),
        at_start: at_start.is_some(),
        refresh,
        schedule: schedule.clone(),
        startup: startup.clone(),
        always: always.is_some_and(|a| a.value),
        concurrency: concurrency.map(size),
        max_per_second: rate.map(count),
        after: after.iter().map(|a| a.value.clone()).collect(),
    };
    match (sql, http) {
        (None, None) => {
            let message = format!("neither `{path}` nor `http` beside it: how is the value made?");
            let help = "such as warm.sql = \"SELECT name FROM users WHERE id = :id\"";
            reader.error(codes::MISSING, &place, message).help.push(help.into());
            None
        }
        (Some((sql, _)), Some((http, _))) => {
            let message = format!("both `{path}` and `http` beside it");
            let problem = Problem::error(codes::WARM_TWICE, http, message).context(&sql, "the query");
            reader.push(problem.help("keep one of them"));
            None
        }
        (None, Some((place, http))) => {
            let (http, url) = http?;
            if let Some(format) = format {
                let message = "`format` beside `http`: the application stores the value itself";
                reader
                    .push(Problem::error(codes::WARM_TWICE, format.place, message).context(&place, "the application"));
            }
            Some(WarmAt { sql: None, url: Some(url), warm: warm(Refill::Http(http)), after })
        }
        (Some((_, sql)), None) => {
            let sql = sql?;
            match Query::parse(&sql.value) {
                Ok(query) => {
                    let refill = Refill::Sql { query, format: format.map(|f| f.value).unwrap_or_default() };
                    Some(WarmAt { sql: Some(sql), url: None, warm: warm(refill), after })
                }
                Err(QueryError { at, problem }) => {
                    let place = reader.inside(&sql.place, &sql.value, at);
                    reader.error(codes::WARM_SQL, &place, format!("`{path}`: {problem}"));
                    None
                }
            }
        }
    }
}

/// What begins a warm-up: evictions, the daemon's start, the end of an entry's time, quiet hours.
fn on<'a>(reader: &mut Reader<'a>, found: Found<'a>, path: &str) -> [Option<Place>; 4] {
    let mut out = [None, None, None, None];
    for item in reader.list(found, path).unwrap_or_default() {
        match item.value.as_str() {
            "evict" => out[0] = Some(item.place),
            "startup" => out[1] = Some(item.place),
            "refresh" => out[2] = Some(item.place),
            "schedule" => out[3] = Some(item.place),
            other => {
                let near = nearest(other, ["evict", "startup", "refresh", "schedule"]);
                let message = format!("`{other}` is no occasion: evict, startup, refresh, schedule");
                reader.push(Problem::error(codes::NOT_A_CHOICE, item.place, message).did_you_mean(near));
            }
        }
    }
    out
}

/// Reads `refresh_at` and `only_if_read_within`, which mean nothing without `on = ["refresh"]`.
fn refresh<'a>(reader: &mut Reader<'a>, s: &mut Section<'a>, on: Option<&Place>) -> Option<Refresh> {
    let at = s.get(reader, "refresh_at").map(|f| (f.place(), reader.thousandths(f, &s.path("refresh_at"))));
    let within = s.get(reader, "only_if_read_within").map(|f| {
        let place = f.place();
        (place, reader.duration(f, &s.path("only_if_read_within"), "1s"..="3650d").map(|d| d.value))
    });
    if on.is_none() {
        for (place, name) in
            [at.map(|a| (a.0, "refresh_at")), within.map(|w| (w.0, "only_if_read_within"))].into_iter().flatten()
        {
            let message = format!("`{}` does nothing without \"refresh\" in `on`", s.path(name));
            let problem = Problem::error(codes::WARM_REFRESH, place, message);
            reader.push(problem.help("add to the cache: warm.on = [\"evict\", \"refresh\"]"));
        }
        return None;
    }
    Some(Refresh { at: at.and_then(|a| a.1).unwrap_or(800), read_within: within.and_then(|w| w.1) })
}

/// Reads `startup`: a query without parameters that names keys.
fn startup<'a>(reader: &mut Reader<'a>, found: &Found<'a>, path: String) -> Option<Query> {
    let table = reader.table(found, &path, "a table, such as { sql = \"SELECT id FROM users\" }")?;
    let place = found.place();
    let mut s = Section::local(path, table);
    let sql = s.get(reader, "sql").map(|f| reader.name(f, &s.path("sql")));
    let path = s.path("sql");
    s.finish(reader);
    let Some(sql) = sql else {
        reader.error(codes::MISSING, &place, format!("`{path}` is missing: which keys?"));
        return None;
    };
    naming(reader, &sql?, &path)
}

/// A query that names keys: it has no parameters but the version.
fn naming(reader: &mut Reader<'_>, sql: &At<String>, path: &str) -> Option<Query> {
    match Query::parse(&sql.value) {
        Ok(query) => match query.parameters.iter().find(|p| *p != VERSION) {
            None => Some(query),
            Some(name) => {
                let at = sql.value.find(&format!(":{name}")).map_or(0..sql.value.len(), |i| i..i + 1 + name.len());
                let place = reader.inside(&sql.place, &sql.value, at);
                let message = format!("`{path}` names the keys: nothing is known before but `:version`");
                reader.error(codes::WARM_PARAMETER, &place, message);
                None
            }
        },
        Err(QueryError { at, problem }) => {
            let place = reader.inside(&sql.place, &sql.value, at);
            reader.error(codes::WARM_SQL, &place, format!("`{path}`: {problem}"));
            None
        }
    }
}

/// Reports what the warming of caches contradicts elsewhere.
pub(super) fn check(reader: &mut Reader<'_>, delivery: Option<Delivery>, namespace: &Namespace, caches: &[CacheAt]) {
    after::check(reader, caches);
    for at in caches {
        let (Some(warm), Some(cache)) = (&at.warm, &at.cache) else { continue };
        if warm.warm.refresh.is_some() && (at.ttl.is_none() || cache.template.kind == Kind::Pattern) {
            let message = format!("`{}` cannot be refreshed: it needs `key` and `ttl`", at.name);
            let problem = Problem::error(codes::WARM_REFRESH, at.place.clone(), message);
            reader.push(problem.help("take \"refresh\" out of `warm.on`, or set both"));
        }
        if let (Some(url), Refill::Http(http)) = (&warm.url, &warm.warm.refill) {
            http::check(reader, namespace, at, url, http);
        }
        let (Some(sql), Some(query)) = (&warm.sql, warm.warm.query()) else { continue };
        let place = &sql.place;
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
        parameters(reader, namespace, at, sql, query);
        neighbours(reader, caches, at, place);
    }
}

fn parameters(reader: &mut Reader<'_>, namespace: &Namespace, at: &CacheAt, sql: &At<String>, query: &Query) {
    let Some(cache) = &at.cache else { return };
    let holes = cache.template.holes();
    let versions = versioned(namespace);
    for name in &query.parameters {
        if holes.contains(&name.as_str()) || (name == VERSION && versions) {
            continue;
        }
        let found = sql.value.find(&format!(":{name}")).map_or(0..sql.value.len(), |i| i..i + 1 + name.len());
        let place = reader.inside(&sql.place, &sql.value, found);
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
    for hole in holes.into_iter().filter(|h| !query.parameters.iter().any(|p| p == h)) {
        let message = format!("`warm.sql` of `{}` does not use `:{hole}`", at.name);
        let problem = Problem::warning(codes::WARM_UNUSED, sql.place.clone(), message);
        reader.push(problem.context(&at.template, "so that all these keys get the same value"));
    }
}

/// Whether there is a newest version to speak of.
fn versioned(namespace: &Namespace) -> bool {
    namespace.prefixes.iter().any(|(version, _)| version.is_some())
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
        .filter(|c| c.warm.as_ref().is_some_and(|w| w.sql.is_some()))
        .filter_map(|c| c.cache.as_ref().map(|cache| cache.template.clone()))
        .collect();
    for cache in caches.iter_mut().filter_map(|c| c.cache.as_mut()) {
        cache.guard_fills |= warmed.iter().any(|t| overlapping(t, &cache.template));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_replica_takes_the_password_of_the_same_role_and_of_no_other() {
        let replica = |url: &str, warm: &str| {
            let toml = format!(
                "[postgres]\nurl = \"postgresql://u:one@h/d\"\n[redis]\nurl = \"redis://h\"\n[warm]\n{warm}\nreplica_url = \"{url}\"\n\
                 [cache.c]\nkey = \"c:{{id}}\"\n[table.t]\nevict = [\"c\"]"
            );
            let (config, _) = crate::config::parse(&toml, "t", &crate::config::Environment::empty()).unwrap();
            config.warm.replica.unwrap().password.map(|p| p.expose().to_owned())
        };
        assert_eq!(replica("postgresql://u@r/d", "").as_deref(), Some("one"));
        assert_eq!(replica("postgresql://u:own@r/d", "").as_deref(), Some("own"));
        assert_eq!(replica("postgresql://other@r/d", ""), None);
        let reader = "url = \"postgresql://reader:two@h/d\"";
        assert_eq!(replica("postgresql://reader@r/d", reader).as_deref(), Some("two"));
        assert_eq!(replica("postgresql://u@r/d", reader), None, "it is the other role's");
    }

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
