//! Whether Redis is a server that pgevict can work on, and whether its ACL allows what is needed.

use crate::config::model::{Config, Refill, WarmFormat};
use crate::config::{Place, Problem, codes};
use crate::rules::glob;
use crate::rules::template::Rendered;
use crate::sink::connect::describe;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};

/// Deletes a key that is not there, writes and deletes a key of pgevict's own: what every delivery does.
const DELIVERY: &str = include_str!("../sink/apply.lua");

/// A value that no application has: a key with it in place of a wildcard does not exist.
const NOBODY: &str = "pgevict:check:0f1c7c52-6a1e-4b42-9d3c-none";

/// Everything about the server that does not fit.
pub(super) async fn check(mut connection: MultiplexedConnection, config: &Config) -> Vec<Problem> {
    let mut out = Vec::new();
    match cmd("INFO").query_async::<String>(&mut connection).await {
        Ok(info) => fitness(&info, config, &mut out),
        Err(e) if e.is_io_error() => return vec![lost("say who it is", &e)],
        // What INFO would tell is not vital, and some do not allow it.
        Err(_) => {}
    }
    let mut refused = Vec::new();
    for (what, command) in attempts(config) {
        match command.query_async::<redis::Value>(&mut connection).await {
            Ok(_) => {}
            Err(e) if is_refusal(&describe(&e)) => refused.push((what, describe(&e))),
            Err(e) if e.is_io_error() => {
                // Every further attempt would wait for the same silence.
                out.push(lost(&what, &e));
                return out;
            }
            Err(e) => {
                let message = format!("Redis cannot {what}: {}", describe(&e));
                out.push(Problem::error(codes::REDIS_UNFIT, Place::None, message));
            }
        }
    }
    if let Some((what, why)) = refused.first() {
        let user: String = cmd("ACL").arg("WHOAMI").query_async(&mut connection).await.unwrap_or_default();
        let user = [user, config.redis.url.username.clone().unwrap_or_default(), "default".into()]
            .into_iter()
            .find(|u| !u.is_empty())
            .unwrap_or_default();
        let more = if refused.len() > 1 { format!(", and {} more", refused.len() - 1) } else { String::new() };
        let message = format!("the Redis user `{user}` may not {what}{more}: {why}");
        let problem = Problem::error(codes::REDIS_RIGHTS, Place::None, message);
        out.push(problem.help(format!("set: {}", acl_line(&user, config))));
    }
    out
}

fn lost(what: &str, e: &redis::RedisError) -> Problem {
    let message = format!("Redis was lost during the check: it cannot {what}: {}", describe(e));
    Problem::error(codes::NO_REDIS, Place::None, message)
}

/// Whether the server's words are the ACL's refusal: in its own code, from within a script, or as the client passes a
/// refused log-in on.
pub(super) fn is_refusal(words: &str) -> bool {
    ["NOPERM", "no permissions", "No permissions", "ACL failure"].iter().any(|w| words.contains(w))
}

fn fitness(info: &str, config: &Config, out: &mut Vec<Problem>) {
    let field = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mut unfit = |severe: bool, message: String, help: &str| {
        let make = if severe { Problem::error } else { Problem::warning };
        out.push(make(codes::REDIS_UNFIT, Place::None, message).help(help));
    };
    let number = |version: &str| -> (u32, u32) {
        let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    if let Some(version) = field("redis_version").filter(|v| number(v) < (6, 2)) {
        unfit(true, format!("Redis is version {version}"), "pgevict needs Redis 6.2 or newer, or Valkey");
    }
    if field("role") == Some("slave") {
        unfit(
            true,
            "Redis is a replica: deletes there do not reach the master".into(),
            "point redis.url at the master",
        );
    }
    if field("cluster_enabled") == Some("1") {
        unfit(true, "Redis is a cluster node".into(), "clusters are designed, but not yet built: name a single server");
    }
    let policy = field("maxmemory_policy").unwrap_or_default();
    if policy.starts_with("allkeys") && field("maxmemory").is_some_and(|m| m != "0") {
        let message = format!(
            "maxmemory-policy is {policy}: under memory pressure Redis may evict `{}:position`, and everything is flushed",
            config.redis.state
        );
        unfit(false, message, "volatile-lru (or another volatile-…) keeps keys without TTL");
    }
}

/// What pgevict does, on keys that do not exist: `(in words, command)`.
fn attempts(config: &Config) -> Vec<(String, Cmd)> {
    let state = &config.redis.state;
    let own = |name: &str| format!("{state}:check:{name}");
    let mut out = Vec::new();
    let mut attempt = |what: String, command: &mut Cmd| out.push((what, command.clone()));
    attempt(format!("read {state}:*"), cmd("HMGET").arg(own("position")).arg(&["rec", "edges", "tables"]));
    attempt(format!("read {state}:*"), cmd("HGET").arg(own("position")).arg("rec"));
    if config.caches.iter().any(|c| c.guard_fills) {
        attempt(format!("read {state}:*"), cmd("HSCAN").arg(own("position")).arg(0));
    }
    if crate::daemon::indexed::index(config).is_some() {
        attempt("say HELLO".into(), &mut cmd("HELLO"));
        attempt("track keys".into(), cmd("CLIENT").arg("TRACKING").arg("OFF"));
        attempt("ask what a key takes".into(), cmd("MEMORY").arg("USAGE").arg(own("none")));
    }
    attempt("run SCAN".into(), cmd("SCAN").arg(0).arg("MATCH").arg(format!("{state}:check:*")).arg("COUNT").arg(1));
    attempt("load scripts".into(), cmd("SCRIPT").arg("LOAD").arg("return 1"));
    // Twice in one script run: the record is written with an expected '' and deleted with the record it has just got.
    let script = |record: &str, next: &str, alive: &str, keys: &[Vec<u8>]| {
        let mut eval = cmd("EVAL");
        eval.arg(DELIVERY).arg(3 + keys.len()).arg(own("position")).arg(own("none")).arg(own("alive"));
        keys.iter().for_each(|k| {
            eval.arg(k);
        });
        eval.arg(record).arg(next).arg(alive);
        eval
    };
    attempt(format!("write {state}:*"), &mut script("", "check", "1", &[]));
    attempt(format!("write {state}:*"), &mut script("check", "", "", &[]));
    for cache in &config.caches {
        for (_, prefix) in &config.namespace.prefixes {
            // As wide as the ACL has to be, and no wider: a key behind the pattern's first bytes alone need not match it.
            let key = match cache.template.whole(prefix.as_bytes()) {
                Rendered::Key(key) => {
                    // The key itself may well exist: only asked about, not touched.
                    attempt(format!("reach keys of cache `{}`", cache.name), cmd("EXISTS").arg(key));
                    continue;
                }
                Rendered::Pattern(pattern) => match glob::example(&pattern, NOBODY.as_bytes()) {
                    Some(key) => key,
                    // Nothing in it can be made up: what it names may exist.
                    None => continue,
                },
            };
            let what = format!("delete keys of cache `{}`", cache.name);
            attempt(what.clone(), cmd("UNLINK").arg(&key));
            attempt(what, &mut script("", "", "", &[key]));
        }
    }
    out
}

/// The ACL that is needed, as a line for `redis-cli`.
pub(super) fn acl_line(user: &str, config: &Config) -> String {
    let mut keys = vec![format!("~{}:*", String::from_utf8_lossy(&glob::escape(config.redis.state.as_bytes())))];
    for cache in &config.caches {
        for (_, prefix) in &config.namespace.prefixes {
            let whole = cache.template.whole(prefix.as_bytes());
            let pattern = match &whole {
                Rendered::Pattern(p) => p.clone(),
                Rendered::Key(k) => glob::escape(k),
            };
            // An ACL takes no blanks, and a quote would end ours: any byte in their place is as near as it comes.
            let pattern = String::from_utf8_lossy(&pattern)
                .replace(|c: char| c.is_whitespace() || c.is_control() || c == '\'', "?");
            let pattern = format!("~{pattern}");
            if !keys.contains(&pattern) {
                keys.push(pattern);
            }
        }
    }
    // Globs hold characters that a shell would take: quoted, as redis-cli's own prompt takes them too.
    let keys: Vec<String> = keys.iter().map(|k| format!("'{k}'")).collect();
    let mut more = Vec::new();
    if config.caches.iter().any(|c| c.guard_fills) {
        more.push(" +hscan".to_owned());
    }
    if config
        .caches
        .iter()
        .any(|c| c.warm.as_ref().is_some_and(|w| matches!(w.refill, Refill::Sql { format: WarmFormat::Hash, .. })))
    {
        more.push(" +pexpire".to_owned());
    }
    if config.caches.iter().any(|c| c.warm.as_ref().is_some_and(|w| w.refresh.is_some())) {
        more.push(" +pttl".to_owned());
    }
    if config.caches.iter().any(|c| c.warm.is_some()) {
        more.push(" +object".to_owned());
    }
    if crate::daemon::indexed::index(config).is_some() {
        let channel = String::from_utf8_lossy(&glob::escape(config.redis.state.as_bytes())).into_owned();
        more.push(format!(" +hello +client|tracking +memory|usage +subscribe '&{channel}:*'"));
    }
    let select = if config.redis.url.db == 0 { "" } else { "+select " };
    format!(
        "ACL SETUSER {user} on {} {select}+ping +info +scan +hget +hmget +hset +hdel +set +exists +unlink +eval +evalsha +script|load{}",
        keys.join(" "),
        more.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    #[test]
    fn the_line_in_the_documentation_is_that_of_the_example() {
        let (config, _) =
            parse(include_str!("../../config.toml"), "config.toml", &Environment::of([("USER", "u")])).unwrap();
        let line = acl_line("pgevict", &config);
        assert!(include_str!("../../docs/operations.md").contains(&format!("\n{line}\n")), "{line}");
    }
}
