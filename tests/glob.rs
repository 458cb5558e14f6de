//! The glob matcher against a real server: thousands of generated patterns, each answered by `KEYS` and by ours.
//!
//! The seed is printed; `PGEVICT_TEST_SEED` repeats a run.

use pgevict::cli::demo::servers::Redis;
use pgevict::rules::glob;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;

const PATTERNS: usize = 6_000;
const KEYS: usize = 1_500;

/// Few different bytes, so that patterns often match: the dialect's own, some letters, NUL and bytes above ASCII.
const KEY_BYTES: &[u8] = b"aabbc::*?[]^-\\!\x00\x80\xc3\xff";
const PATTERN_BYTES: &[u8] = b"aabbc:***???[[[]]]^^--\\\\!\x00\x80\xc3\xff";

/// What FACTS and the server's source name as odd.
const ODDITIES: &[&[u8]] = &[
    b"*",
    b"**",
    b"",
    b"?",
    b"[!a]",
    b"[^a]",
    b"[^]",
    b"[]",
    b"[]a]",
    b"[a",
    b"[^a",
    b"[",
    b"[^",
    b"[a-]",
    b"[a-",
    b"[-a]",
    b"[c-a]",
    b"[\\]]",
    b"[\\a-c]",
    b"[a\\-c]",
    b"[a-\\c]",
    b"\\",
    b"a\\",
    b"\\*",
    b"\\\\",
    b"[\\",
    b"a*[",
    b"*[^",
    b"[a-\xff]",
    b"[\x80-\xff]",
    b"[\xff-\x80]",
    b"[^\x80-a]",
    b"*a*b*",
    b"a**b",
    b"*?",
    b"?*",
];

fn connect(server: &Redis) -> redis::Connection {
    redis::Client::open(server.url(0)).unwrap().get_connection().unwrap()
}

fn seed() -> u64 {
    std::env::var("PGEVICT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random)
}

fn word(rng: &mut StdRng, alphabet: &[u8], longest: usize) -> Vec<u8> {
    (0..rng.random_range(0..=longest)).map(|_| *alphabet.choose(rng).unwrap()).collect()
}

#[test]
fn our_matcher_answers_as_the_servers_keys_command() {
    let seed = seed();
    println!("PGEVICT_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut keys: BTreeSet<Vec<u8>> = (0..KEYS).map(|_| word(&mut rng, KEY_BYTES, 6)).collect();
    keys.insert(Vec::new());
    keys.extend(KEY_BYTES.iter().map(|b| vec![*b]));
    let server = Redis::start(&[]).unwrap();
    let mut connection = connect(&server);
    let mut fill = redis::pipe();
    keys.iter().for_each(|key| _ = fill.set(key, 1).ignore());
    fill.exec(&mut connection).unwrap();

    let mut patterns: Vec<Vec<u8>> = ODDITIES.iter().map(|p| p.to_vec()).collect();
    patterns.extend((0..PATTERNS).map(|_| word(&mut rng, PATTERN_BYTES, 8)));
    // Escaped data, as a template renders it.
    patterns.extend((0..200).map(|_| [glob::escape(&word(&mut rng, KEY_BYTES, 4)).as_slice(), b"*"].concat()));
    let (mut matched, mut differences) = (0, Vec::new());
    for pattern in &patterns {
        let theirs: BTreeSet<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap();
        let ours: BTreeSet<Vec<u8>> = keys.iter().filter(|k| glob::matches(pattern, k)).cloned().collect();
        matched += theirs.len();
        if let Some(key) = theirs.symmetric_difference(&ours).next() {
            let server = theirs.contains(key);
            differences.push(format!("{} against {}: server {server}", pattern.escape_ascii(), key.escape_ascii()));
        }
        let literal = glob::literal_prefix(pattern);
        assert!(theirs.iter().all(|k| k.starts_with(&literal)), "literal beginning of {}", pattern.escape_ascii());
    }
    assert!(matched > PATTERNS, "the patterns hardly match anything: {matched} matches");
    assert!(differences.is_empty(), "{} differences, seed {seed}:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn what_covers_another_pattern_answers_with_all_its_keys() {
    let seed = seed();
    println!("PGEVICT_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let server = Redis::start(&[]).unwrap();
    let mut connection = connect(&server);
    let keys: BTreeSet<Vec<u8>> = (0..KEYS).map(|_| word(&mut rng, b"ab:*[", 5)).collect();
    let mut fill = redis::pipe();
    keys.iter().for_each(|key| _ = fill.set(key, 1).ignore());
    fill.exec(&mut connection).unwrap();
    let mut ask =
        |pattern: &[u8]| -> BTreeSet<Vec<u8>> { redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap() };
    let mut covering = 0;
    for _ in 0..PATTERNS {
        let (outer, inner) = (word(&mut rng, b"ab:**?[]", 4), word(&mut rng, b"ab:*?[]\\", 5));
        if glob::covers(&outer, &inner) {
            covering += 1;
            let missed = &ask(&inner) - &ask(&outer);
            assert!(missed.is_empty(), "{} over {}", outer.escape_ascii(), inner.escape_ascii());
        }
    }
    assert!(covering > 100, "only {covering} pairs cover");
}
