//! The fill contract from Rust: what pgevict stores itself goes the way that it asks of applications (docs/fills.md).

use crate::planted;
use redis::aio::ConnectionLike;
use redis::{RedisError, Script, Value};
use std::fmt;
use std::time::Duration;

/// The script that applications use, too.
pub const SCRIPT: &str = include_str!("../../docs/fills/fill.lua");

/// A value to store.
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The full Redis key.
    pub key: &'a [u8],
    /// What to store.
    pub value: &'a [u8],
    /// As what.
    pub shape: Shape,
    /// For how long; whole milliseconds, at least one.
    pub ttl: Duration,
    /// What `token()` said in the statement that read the value; None: the transaction has written.
    pub token: Option<&'a str>,
    /// Every cache that holds the key, by name, with the rendered template where it is a `pattern`.
    pub caches: &'a [(&'a str, Option<&'a [u8]>)],
    /// Key and id of the lease under which the value was read.
    pub lease: Option<(&'a [u8], &'a [u8])>,
}

/// As what a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A hash: the value is a JSON object of texts; null is no field.
    Hash,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filled {
    /// It is stored.
    Stored,
    /// It is not.
    Refused(Refusal),
}

/// Why a value was not stored. The words are part of the contract: applications count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The transaction has written, or the daemon has not begun to guard.
    NoToken,
    /// The token or the arguments cannot be read.
    Malformed,
    /// No position, or a cache without `guard_fills`.
    Unguarded,
    /// The rendered template does not fit the key, or is given for a `key`.
    Mismatch,
    /// The token is of a history that was lost.
    History,
    /// Evicted since the value was read.
    Evicted,
    /// Read before the floor: too long ago, or before a whole cache went.
    Floor,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 7] =
        [Self::NoToken, Self::Malformed, Self::Unguarded, Self::Mismatch, Self::History, Self::Evicted, Self::Floor];

    /// The script's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::Malformed => "malformed",
            Self::Unguarded => "unguarded",
            Self::Mismatch => "mismatch",
            Self::History => "history",
            Self::Evicted => "evicted",
            Self::Floor => "floor",
        }
    }

    /// Whether reading again may help: the value was overtaken, nothing is wrong with how it was named.
    #[must_use]
    pub fn is_a_race(self) -> bool {
        matches!(self, Self::History | Self::Evicted | Self::Floor)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The line of the script that stores, and what stands there for a hash. The key goes first: fields of before must not stay.
const STORE: [&str; 2] = [
    "  redis.call('SET', key, value, 'PX', ttl)\n",
    "  local fields = {}\n  for name, text in pairs(cjson.decode(value)) do\n    if text ~= cjson.null then fields[#fields + 1] = name; \
     fields[#fields + 1] = text end\n  end\n  redis.call('UNLINK', key)\n  for i = 1, #fields, 1000 do redis.call('HSET', key, \
     unpack(fields, i, math.min(i + 999, #fields))) end\n  redis.call('PEXPIRE', key, ttl)\n",
];

/// Stores values through the contract.
#[derive(Debug, Clone)]
pub struct Filler {
    text: Script,
    hash: Script,
    position: String,
}

impl Filler {
    /// For the daemon whose keys begin with `state`.
    #[must_use]
    pub fn new(state: &str) -> Self {
        let hash = SCRIPT.replace(STORE[0], STORE[1]);
        Self { text: Script::new(SCRIPT), hash: Script::new(&hash), position: format!("{state}:position") }
    }

    /// Stores the value if nothing has evicted it since it was read.
    ///
    /// # Errors
    /// Redis refuses or is gone; whether the value is stored is unknown then, and right either way.
    pub async fn fill(&self, connection: &mut impl ConnectionLike, fill: &Fill<'_>) -> Result<Filled, RedisError> {
        if planted::is("warm-plain-set") {
            let mut set = redis::cmd("SET");
            set.arg(fill.key).arg(fill.value).arg("PX").arg(u64::try_from(fill.ttl.as_millis()).unwrap_or(u64::MAX));
            return set.exec_async(connection).await.map(|()| Filled::Stored);
        }
        let script = if fill.shape == Shape::Hash { &self.hash } else { &self.text };
        let mut call = script.key(&self.position);
        call.key(fill.key);
        let id = fill.lease.map_or(&b""[..], |(key, id)| {
            call.key(key);
            id
        });
        // A whole millisecond at least: Redis refuses 0.
        let ttl = u64::try_from(fill.ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        call.arg(fill.token.unwrap_or_default()).arg(ttl).arg(fill.value).arg(id);
        for (cache, name) in fill.caches {
            call.arg(*cache).arg(name.unwrap_or_default());
        }
        let answer: Value = call.invoke_async(connection).await?;
        if planted::is("warm-refused-stored") {
            redis::cmd("SET").arg(fill.key).arg(fill.value).arg("PX").arg(ttl).exec_async(connection).await?;
            return Ok(Filled::Stored);
        }
        let word: String = redis::from_redis_value(answer)?;
        if word == "stored" {
            return Ok(Filled::Stored);
        }
        // A word of a newer script is a refusal all the same.
        let refusal = Refusal::ALL.into_iter().find(|r| r.as_str() == word).unwrap_or(Refusal::Malformed);
        Ok(Filled::Refused(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_stores_in_one_line() {
        assert_eq!(SCRIPT.matches(STORE[0]).count(), 1);
        assert_eq!(SCRIPT.matches("redis.call('SET'").count(), 1);
    }
}
