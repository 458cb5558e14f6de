//! The storm: writers, fillers and faults against the real binary on private servers, from a printed seed. What it
//! promises to find, and its figures, stand in docs/reliability.md.
//!
//! `make storm` lets it rage for a minute (`STORM_SECONDS`, `STORM_SEED`, `STORM_FAULTS` say otherwise); the test
//! suite has a short one.

#[path = "storm/client.rs"]
mod client;
#[path = "storm/ddl.rs"]
mod ddl;
#[path = "storm/fillers.rs"]
mod fillers;
#[path = "storm/knocks.rs"]
mod knocks;
#[cfg(feature = "planted")]
#[path = "storm/mutants.rs"]
mod mutants;
#[path = "storm/nemesis.rs"]
mod nemesis;
#[path = "storm/network.rs"]
mod network;
#[path = "support/proxy/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the storm waits for nobody to dial and draws faults itself")]
mod proxy;
#[path = "storm/run.rs"]
mod run;
#[path = "storm/shop.rs"]
mod shop;
#[path = "storm/stage.rs"]
mod stage;
#[path = "storm/trace.rs"]
mod trace;
#[path = "storm/writers.rs"]
mod writers;

use run::{Options, storm};
use std::time::Duration;

/// How long the proxy waits for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// Of the storm in the test suite: long enough for about ten faults.
const SHORT: u64 = 12;

#[test]
fn a_storm_leaves_no_stale_value_and_harms_no_writer() {
    let options = Options::from_environment(SHORT);
    let report = storm(&options);
    eprintln!("{report}");
    let failures = report.failures();
    for failure in failures.iter().take(4) {
        eprintln!("{failure}\n");
    }
    assert!(
        failures.is_empty(),
        "STORM_SEED={} STORM_SECONDS={}: {} failures, the first above",
        report.seed,
        report.seconds,
        failures.len()
    );
    let enough = options.lasts.as_secs();
    assert!(
        report.transactions > 5 * enough && report.fills > 20 * enough && report.compared > 500,
        "a storm in which nothing happened proves nothing: {report}"
    );
}
