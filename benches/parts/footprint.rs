//! What it takes while nothing happens.

use super::{EXACT, ITEMS};
use crate::numbers::{figure, median, ms};
use crate::report::Section;
use crate::stage::site::binary;
use crate::stage::{Site, postgres, process, redis};
use std::time::Duration;

const STARTS: usize = 9;
/// A multiple of every slow period: audits and ticks come twice a minute, probes twelve times.
const WATCHED: Duration = Duration::from_secs(60);

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut site = Site::new(&postgres, &server, "pgevict", ITEMS, EXACT);
    site.db.sql("CREATE EXTENSION pg_stat_statements");
    site.db.sql("ALTER ROLE pgevict SET pg_stat_statements.track = 'top'");
    site.settle();
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        site.stop();
        ready.push(ms(site.start()));
    }
    // The first audit and the first beacon belong to the start.
    std::thread::sleep(Duration::from_secs(5));
    let (busy, begun) = (process::cpu(site.pid()), site.db.sql("SELECT pg_stat_statements_reset()"));
    drop(begun);
    std::thread::sleep(WATCHED);
    let asked = |which: &str| {
        site.db.number(&format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'pgevict' AND ({which})"
        ))
    };
    // Each probe is a write, the page that its ring makes the daemon read, and a heartbeat of Redis.
    let probes = asked("query ILIKE '%pgevict.probe%' OR query ILIKE '%probe%SET%'");
    let all = asked("true");
    let listed = site.db.sql(
        "SELECT calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
         WHERE rolname = 'pgevict' ORDER BY 1 DESC",
    );
    for row in &listed {
        eprintln!("      {row:?}");
    }
    let idle = process::cpu(site.pid()) - busy;
    let resident = process::resident(site.pid()).0;
    let size = std::fs::metadata(binary()).map_or(0, |m| m.len());

    let mut section = Section::default();
    let statements = all - 2.0 * probes;
    section.goal("resident, idle", format!("{} MB", figure(resident)), String::new(), "≤ 12 MB", resident <= 12.0);
    section.goal(
        "statements a minute, idle, probe apart",
        figure(statements),
        format!("{} with the probe, which is {} writes and as many pages read", figure(all), figure(probes)),
        "≤ 15",
        statements <= 15.0,
    );
    section.step("processor time, idle", format!("{} ms a minute", figure(ms(idle))), String::new());
    let start = median(&ready);
    section.goal(
        "from start to ready",
        format!("{} ms", figure(start)),
        format!("{STARTS} restarts"),
        "≤ 300 ms",
        start <= 300.0,
    );
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let mb = size as f64 / 1e6;
    section.goal("binary, stripped", format!("{} MB", figure(mb)), String::new(), "≤ 12 MB", mb <= 12.0);
    section.note("Ready as `pgevict ready` has it, by the daemon's log. Statements as `pg_stat_statements` counts them for the daemon's role, over a minute.");
    section
}
