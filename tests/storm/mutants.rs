//! Bugs on purpose (`src/planted.rs`): each must be caught, by a storm or by a named test. `make storm-mutants` prints the
//! table that stands in docs/reliability.md.

use super::run::{Options, storm};
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

/// Seeds that a storm may need.
const SEEDS: u64 = 3;
/// Of one storm.
const LASTS: Duration = Duration::from_secs(25);

enum Catcher {
    /// Storms with these faults (all when empty) and so many single changes at the end.
    Storm(&'static [&'static str], u32),
    /// A test of that binary.
    Test(&'static str, &'static str),
}
use Catcher::{Storm, Test};

const MUTANTS: [(&str, &str, Catcher); 24] = [
    (
        "id-cursor",
        "the journal is read above the highest id seen; transactions open then are forgotten",
        Storm(&["reload"], 0),
    ),
    ("local-file", "the position is kept in a file beside the daemon", Storm(&["save redis", "roll back redis"], 0)),
    (
        "position-first",
        "the position moves when a batch is read, not when it is done",
        Test("e2e", "second_actions::the_end_of_a_debounce_window_survives_kill_9"),
    ),
    ("plain-multi", "deletes and position in a transaction that Redis refuses under OOM", Storm(&["out of memory"], 0)),
    ("unescaped-glob", "values keep their glob meaning", Storm(&["reload"], 1)),
    (
        "scan-resumed",
        "a SCAN goes on at the cursor of a lost connection",
        Test("e2e", "storm::a_pass_that_lost_its_server_begins_again"),
    ),
    (
        "reply-ignored",
        "a script's error reply counts as done",
        Test("e2e", "faults::redis::keys_that_are_forbidden_and_allowed_later_need_no_restart"),
    ),
    ("poison-skipped", "a journal row that cannot be read is skipped", Storm(&["reload"], 0)),
    ("listen-late", "LISTEN comes after the first catch-up", Storm(&["reload"], 120)),
    ("wake-up-lost", "no poll confirms the silence after the bell lock is taken", Storm(&["reload"], 1200)),
    ("plain-fills", "the application stores plainly what `guard_fills` guards", Storm(&["reload"], 0)),
    (
        "no-sentinel",
        "a crash of PostgreSQL is not noticed",
        Test("e2e", "forks::crash::a_commit_that_a_backend_crash_takes_back_leaves_no_cached_value"),
    ),
    (
        "last-page-only",
        "deletes do not renew the record, only a moved position does (B1)",
        Test("position", "a_roll_back_to_any_earlier_step_is_noticed"),
    ),
    (
        "idle-move",
        "an idle position moves without a beacon (B2)",
        Test("e2e", "rules::the_position_names_a_beacon_that_is_committed_and_saw_no_more_than_it"),
    ),
    (
        "one-xid-tombstone",
        "a tombstone is the newest transaction of its batch, not its snapshot (B3)",
        Test("e2e", "fills::a_fill_between_two_commits_of_one_batch_is_refused"),
    ),
    (
        "kept-index",
        "what the key index knows outlives its session and a roll-back of Redis (B8)",
        Test("e2e", "index::what_a_roll_back_brings_back_is_found_again"),
    ),
    (
        "unfenced",
        "the key index answers without waiting for the reports that are on their way (B8)",
        Test("e2e", "load::a_key_whose_report_is_still_on_its_way_when_its_change_is_read_is_found"),
    ),
    (
        "warm-plain-set",
        "what is warmed is stored by a plain SET",
        Test("e2e", "warm::a_value_that_a_change_has_overtaken_is_refused_and_read_again"),
    ),
    (
        "warm-refused-stored",
        "what the fill contract refuses is stored all the same",
        Test("e2e", "warm::a_value_that_a_change_has_overtaken_is_refused_and_read_again"),
    ),
    (
        "warm-token-late",
        "the token of a warmed value is taken after the query, not with it",
        Test("e2e", "warm::a_value_that_a_change_has_overtaken_is_refused_and_read_again"),
    ),
    (
        "warm-own-name",
        "a warmed value is not held against the patterns of other caches",
        Test("e2e", "warm::a_pattern_of_another_cache_that_went_meanwhile_refuses_the_value_too"),
    ),
    (
        "warm-twice",
        "a key that goes again is asked for a second time at once",
        Test("e2e", "warm::however_often_a_key_goes_while_it_is_asked_for_there_is_one_query_at_a_time"),
    ),
    (
        "warm-rateless",
        "more queries are begun in a second than `max_per_second` allows",
        Test(
            "e2e",
            "warm::two_hundred_evictions_a_second_of_a_slow_query_stay_inside_the_limits_and_cost_evictions_nothing",
        ),
    ),
    (
        "warm-unsorted",
        "what a flush took is warmed as it was found, not by its use",
        Test("e2e", "warm_flush::under_an_lfu_policy_what_is_read_often_comes_back_first"),
    ),
];

/// What caught it; None: nothing did.
fn caught(bug: &str, by: &Catcher) -> Option<String> {
    match by {
        Storm(faults, knocks) => (1..=SEEDS).find_map(|n| {
            let options = Options {
                // Even seeds have the bell, odd ones prepared transactions; what is about the bell needs even ones.
                seed: if *knocks > 0 { 2 * n } else { n },
                lasts: LASTS,
                only: faults.iter().map(|f| (*f).to_owned()).collect(),
                knocks: *knocks,
                planted: Some(bug.to_owned()),
            };
            let report = storm(&options);
            eprintln!("{bug}: {report}");
            let (stale, phantoms, harm) = (report.stale.len(), report.phantoms.len(), report.harm.len());
            let first = report.harm.first().and_then(|h| h.lines().next()).unwrap_or_default();
            (stale + phantoms + harm > 0).then(|| {
                format!("storm, seed {}: {stale} stale, {phantoms} phantoms, {harm} other {first}", options.seed)
            })
        }),
        Test(binary, name) => {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["test", "--locked", "--features", "planted", "--test", binary, name, "--", "--exact"]);
            let ran = cargo.env("PLANTED", bug).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(said.contains("running 1 test"), "there is no test {name}: {said}");
            (!ran.status.success()).then(|| format!("test {name}"))
        }
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let only = std::env::var("MUTANTS").unwrap_or_default();
    let mut table = String::new();
    let mut missed = Vec::new();
    for (bug, what, by) in MUTANTS.iter().filter(|(bug, ..)| only.is_empty() || only.split(',').any(|o| o == *bug)) {
        let by = caught(bug, by);
        if by.is_none() {
            missed.push(*bug);
        }
        let _ = writeln!(table, "| {bug} | {what} | {} |", by.unwrap_or_else(|| "**missed**".into()));
    }
    eprintln!("| bug | what it does | caught by |\n|---|---|---|\n{table}");
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
