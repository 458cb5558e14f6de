//! The deletes of `pgevict evict`: exact keys many to a command, all patterns in one SCAN pass.

use crate::rules::mapping::Protection;
use crate::rules::matcher::Matcher;
use crate::rules::template::Rendered;
use crate::sink::portion::MOST_KEYS as CHUNK;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

/// What became of the keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    /// Keys deleted.
    pub(super) deleted: u64,
    /// Exact keys that were not there, and patterns that matched nothing.
    pub(super) absent: u64,
    /// Exempt keys that were named or matched.
    pub(super) refused: u64,
    /// Keys that a dry run found.
    pub(super) would_delete: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.would_delete {
            0 => write!(f, "{} deleted", self.deleted)?,
            n => write!(f, "{n} would be deleted")?,
        }
        write!(f, ", {} absent, {} refused", self.absent, self.refused)
    }
}

/// Deletes the targets. None of them is exempt as a whole; keys that patterns match are asked for one by one.
///
/// # Errors
/// Redis' own; `tally` says how far it came.
pub(super) async fn delete(
    connection: &mut MultiplexedConnection,
    targets: &[Rendered],
    protection: &Protection,
    dry_run: bool,
    tally: &mut Tally,
) -> Result<(), RedisError> {
    let mut keys: BTreeSet<&[u8]> = BTreeSet::new();
    let mut patterns: BTreeSet<&[u8]> = BTreeSet::new();
    for target in targets {
        match target {
            Rendered::Key(key) => keys.insert(key),
            Rendered::Pattern(pattern) => patterns.insert(pattern),
        };
    }
    let keys: Vec<&[u8]> = keys.into_iter().collect();
    for chunk in keys.chunks(CHUNK) {
        let there = unlink(connection, chunk, dry_run, tally).await?;
        tally.absent += (chunk.len() as u64).saturating_sub(there);
    }
    if !patterns.is_empty() {
        let patterns = patterns.into_iter().map(<[u8]>::to_vec).collect();
        scan(connection, Matcher::new(patterns), protection, dry_run, tally).await?;
    }
    Ok(())
}

/// Returns how many of the keys were there.
async fn unlink<K: redis::ToRedisArgs>(
    connection: &mut MultiplexedConnection,
    keys: &[K],
    dry_run: bool,
    tally: &mut Tally,
) -> Result<u64, RedisError> {
    let (command, count) = if dry_run { ("EXISTS", &mut tally.would_delete) } else { ("UNLINK", &mut tally.deleted) };
    let there: u64 = redis::cmd(command).arg(keys).query_async(connection).await?;
    *count += there;
    Ok(there)
}

async fn scan(
    connection: &mut MultiplexedConnection,
    matcher: Matcher,
    protection: &Protection,
    dry_run: bool,
    tally: &mut Tally,
) -> Result<(), RedisError> {
    let through = matcher.scan_match();
    let mut unseen: HashSet<usize> = (0..matcher.patterns().len()).collect();
    // SCAN may return a key twice. What was deleted is not counted twice by UNLINK; for what stays, hashes are
    // enough: a collision in 64 bits costs one count.
    let hasher = RandomState::new();
    let mut stayed: HashSet<u64> = HashSet::new();
    let mut cursor = 0u64;
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&through).arg("COUNT").arg(CHUNK);
        let (next, found): (u64, Vec<Vec<u8>>) = command.query_async(connection).await?;
        let mut doomed = Vec::new();
        for key in found {
            let which = matcher.matching(&key);
            if which.is_empty() {
                continue;
            }
            which.iter().for_each(|i| _ = unseen.remove(i));
            let exempt = protection.key(&key).is_some();
            if (exempt || dry_run) && !stayed.insert(hasher.hash_one(&key)) {
                continue;
            }
            if exempt {
                tally.refused += 1;
            } else {
                doomed.push(key);
            }
        }
        for chunk in doomed.chunks(CHUNK) {
            unlink(connection, chunk, dry_run, tally).await?;
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    tally.absent += unseen.len() as u64;
    Ok(())
}
