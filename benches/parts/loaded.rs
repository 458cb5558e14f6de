//! From commit to key gone while others write at half of what they could.

use super::{EXACT, ITEMS, MARK, MARKED, ONE_ROW};
use crate::numbers::{figure, ms, percentile};
use crate::report::Section;
use crate::stage::pgbench::Pgbench;
use crate::stage::{Resp, Site, address, postgres, redis};
use std::time::{Duration, Instant};

const SECONDS: u64 = 12;

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut site = Site::new(&postgres, &server, "pgevict", ITEMS, EXACT);
    site.settle();
    let pgbench = Pgbench::new(ONE_ROW);
    pgbench.run(&postgres, "pgevict", 1);
    let top = pgbench.run(&postgres, "pgevict", 4);
    site.drained(MARK, MARKED);

    let mut redis = Resp::connect(&address(&server));
    redis.hear();
    // Rows that no pgbench client draws, or their keys would go early.
    site.db.sql("INSERT INTO items SELECT g, 0, 0, '' FROM generate_series(200001, 220000) g");
    let change = site.db.prepare("UPDATE items SET status = status + 1 WHERE id = $1");
    let load = pgbench.start(&postgres, "pgevict", SECONDS, Some(top / 2.0));
    let begun = Instant::now();
    let mut took = Vec::new();
    for id in 200_001.. {
        let key = format!("item:{id}");
        redis.watch(&key);
        std::thread::sleep(Duration::from_millis(3));
        site.db.commit(&change, &[&id]);
        let committed = Instant::now();
        // The first and the last second are not under load.
        let inside = (1..SECONDS - 1).contains(&begun.elapsed().as_secs());
        let gone = redis.gone(&[key]);
        if inside {
            took.push(ms(gone - committed));
        }
        if begun.elapsed().as_secs() >= SECONDS {
            break;
        }
    }
    let rate = load.wait();
    let mut section = Section::default();
    let p99 = percentile(&took, 0.99);
    section.goal(
        "p99 at half of the writers' top rate",
        format!("{} ms", figure(p99)),
        format!(
            "p50 {} ms, longest {} ms; {} writes a second, top {}",
            figure(percentile(&took, 0.5)),
            figure(percentile(&took, 1.0)),
            figure(rate),
            figure(top)
        ),
        "≤ 25 ms",
        p99 <= 25.0,
    );
    section.note(format!(
        "pgbench at half its top rate for {SECONDS} s; one client more commits and waits, {} samples.",
        took.len()
    ));
    section
}
