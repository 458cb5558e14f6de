//! Guarded fills for the crate `redis`: the contract of docs/fills.md. Put it beside fill.lua and make it yours.

use redis::{ConnectionLike, RedisResult, Script};

/// What one statement reads beside the value: `SELECT name, (SELECT pgevict.token()) FROM users WHERE id = $1`.
pub const TOKEN: &str = "(SELECT pgevict.token())";

/// Stores through the script.
pub struct Fills {
    script: Script,
    position: String,
}

impl Fills {
    /// `state` is `redis.state` of pgevict's configuration, `{pgevict}` unless it was changed.
    pub fn new(state: &str) -> Self {
        Self { script: Script::new(include_str!("fill.lua")), position: format!("{state}:position") }
    }

    /// Stores `value` unless a change since has overtaken it. Returns the script's word: count them.
    ///
    /// `caches`: every cache of pgevict's configuration that holds the key, by name, with the rendered template; None where
    /// the cache is a `key`.
    pub fn store(
        &self,
        redis: &mut impl ConnectionLike,
        key: &str,
        value: &[u8],
        token: Option<&str>,
        ttl_ms: u64,
        caches: &[(&str, Option<&str>)],
    ) -> RedisResult<String> {
        let mut call = self.script.key(&self.position);
        call.key(key).arg(token.unwrap_or_default()).arg(ttl_ms).arg(value).arg("");
        for (name, template) in caches {
            call.arg(*name).arg(template.unwrap_or_default());
        }
        call.invoke(redis)
    }
}

/// A value as it stands in a rendered pattern. `in_class`: the template itself holds a `[`.
pub fn escape(value: &str, in_class: bool) -> String {
    let special = |c| r"*?[]\".contains(c) || in_class && "^-".contains(c);
    value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}
