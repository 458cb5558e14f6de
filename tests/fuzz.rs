//! The fuzz targets on the stable toolchain: seeds, mutated at random for a few seconds each. `cargo fuzz` goes further
//! (docs/fuzzing.md).
//!
//! `FUZZ_SECONDS` is how long for each target; `PGEVICT_TEST_SEED` repeats a run.

#[expect(unreachable_pub, reason = "a library for cargo-fuzz, a module here")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// What means something to one of the readers.
const WORDS: &[&[u8]] = &[
    b"*",
    b"?",
    b"[",
    b"]",
    b"^",
    b"-",
    b"\\",
    b"{",
    b"}",
    b"{{",
    b"{a}",
    b"|lower",
    b":",
    b",",
    b"\n",
    b"\0",
    b"\xff",
    b"\"",
    b"'",
    b"$$",
    b" = ",
    b"18446744073709551615",
    b"0",
    b"-1",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x19",
    b"null",
    b"[[]]",
    b"[cache.x]\n",
    b"[table.x]\n",
    b"--",
    b"/*",
    b"E'",
    b":id",
    b"ANY (:id)",
    b"::",
];

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2))
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn mutated(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds.choose(rng).unwrap().clone();
    for _ in 0..rng.random_range(1..8) {
        let from = rng.random_range(0..=data.len());
        let to = rng.random_range(from..=data.len().min(from + 12));
        match rng.random_range(0..6) {
            0 if from < data.len() => data[from] ^= 1 << rng.random_range(0..8),
            1 => drop(data.splice(from..from, WORDS.choose(rng).unwrap().iter().copied())),
            2 => drop(data.splice(from..to, WORDS.choose(rng).unwrap().iter().copied())),
            3 => drop(data.drain(from..to)),
            4 => {
                let copied = data[from..to].to_vec();
                let at = rng.random_range(0..=data.len());
                data.splice(at..at, copied);
            }
            _ => {
                let other = seeds.choose(rng).unwrap();
                data.truncate(from);
                data.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
            }
        }
    }
    data
}

fn fuzz(target: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| run(seed));
    let seed = std::env::var("PGEVICT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    let mut rng = StdRng::seed_from_u64(seed);
    let (begun, mut inputs) = (Instant::now(), 0u64);
    while begun.elapsed() < seconds() {
        let data = mutated(&mut rng, &seeds);
        inputs += 1;
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            eprintln!("PGEVICT_TEST_SEED={seed}, input {inputs} of {target}: b\"{}\"", data.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
    println!("{target}: {inputs} inputs");
}

#[test]
fn no_tuples_of_a_journal_row_are_read_otherwise_than_the_driver_reads_them() {
    fuzz("payload");
}

#[test]
fn no_notifications_leave_anything_behind() {
    fuzz("notify");
}

#[test]
fn every_configuration_is_valid_or_has_problems_that_can_be_drawn() {
    fuzz("config");
}

#[test]
fn no_value_widens_a_template() {
    fuzz("template");
}

#[test]
fn every_snapshot_is_read_as_it_was_written() {
    fuzz("snapshot");
}

#[test]
fn two_matchers_agree_about_every_pattern() {
    fuzz("glob");
}

#[test]
fn every_query_keeps_all_but_its_parameters() {
    fuzz("query");
}

#[test]
fn every_target_has_a_binary_for_cargo_fuzz_and_seeds() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (target, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
        assert!(!seeds(target).is_empty(), "{target} has no seeds");
    }
}
