//! From the commit of an idle application to the key being gone.

use super::{EXACT, ITEMS};
use crate::baselines::{Baseline, DURABLE_TRIGGER, FLOOR_TRIGGER, Peer, row_trigger};
use crate::numbers::{factor, figure, ms, percentile};
use crate::report::Section;
use crate::stage::{Db, Resp, Site, address, postgres, redis};
use std::time::{Duration, Instant};
use tokio_postgres::Statement;

const SAMPLES: i32 = 500;
/// Between two samples. With half a dozen candidates each has long been silent when its turn comes: pgevict sleeps and is rung.
const PAUSE: Duration = Duration::from_millis(22);
const CHANGE: &str = "UPDATE items SET status = status + 1 WHERE id = $1";

struct Candidate<'a> {
    name: &'static str,
    db: &'a Db,
    change: Statement,
    key: &'static str,
    took: Vec<f64>,
}

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut site = Site::new(&postgres, &server, "pgevict", ITEMS, EXACT);
    let dbs = ["floor", "common", "peer", "page", "script"].map(|name| Db::create(&postgres, name, ITEMS));
    dbs[0].sql(FLOOR_TRIGGER);
    dbs[1].sql(&row_trigger("items", &["id", "user_id"]));
    dbs[2].sql(&row_trigger("items", &["id", "user_id"]));
    dbs[3..].iter().for_each(|db| drop(db.sql(DURABLE_TRIGGER)));
    site.settle();
    let _floor = Baseline::start("floor", &[&postgres.url("floor"), &server.url(0)]);
    let durable = |name: &str| Baseline::start("durable", &[&postgres.url(name), &server.url(0), name, name]);
    let _durable = ["page", "script"].map(durable);
    let _common = Baseline::start("common", &[&postgres.url("common"), &server.url(0), "scan", "common:{id}"]);
    let npm = Peer::install();
    let _peer = npm.as_ref().map(|npm| npm.start(&[&postgres.url("peer"), &server.url(0), "del", "peer:{id}"]));

    let candidate = |name, db, key| {
        let change = Db::prepare(db, CHANGE);
        Candidate { name, db, change, key, took: Vec::new() }
    };
    let mut all = vec![
        candidate("floor", &dbs[0], "floor:"),
        candidate("page", &dbs[3], "page:"),
        candidate("script", &dbs[4], "script:"),
        candidate("pgevict", &site.db, "item:"),
        candidate("common", &dbs[1], "common:"),
    ];
    if npm.is_some() {
        all.push(candidate("peer", &dbs[2], "peer:"));
    }
    let mut redis = Resp::connect(&address(&server));
    redis.hear();
    // The first ones warm caches of plans and pages.
    for id in 1..=SAMPLES + 20 {
        for candidate in &mut all {
            let key = format!("{}{id}", candidate.key);
            redis.watch(&key);
            std::thread::sleep(PAUSE);
            candidate.db.commit(&candidate.change, &[&id]);
            // From the acknowledgement, in which every candidate's own statement and commit is over.
            let committed = Instant::now();
            let gone = redis.gone(&[key]);
            if id > 20 {
                candidate.took.push(ms(gone - committed));
            }
        }
    }
    let mut section = Section::default();
    let of =
        |name: &str, share: f64| all.iter().find(|c| c.name == name).map_or(f64::NAN, |c| percentile(&c.took, share));
    for (what, share, reach) in [("p50", 0.5, 1.3), ("p99", 0.99, 2.0)] {
        let (ours, floor) = (of("pgevict", share), of("floor", share));
        section.step(&format!("the floor, {what}"), format!("{} ms", figure(floor)), "1".into());
        for (name, title) in [("page", "the floor and a page read"), ("script", "the floor, a page read, the script")] {
            let (took, compared) = (of(name, share), factor(of(name, share) / floor));
            section.step(&format!("{title}, {what}"), format!("{} ms", figure(took)), format!("{compared} the floor"));
        }
        // The first is the goal; the second is how near it comes to what a journal and a position leave possible.
        for (beside, title) in [(floor, "the floor"), (of("script", share), "the floor with what durability needs")] {
            section.goal(
                &format!("pgevict, {what}"),
                format!("{} ms", figure(ours)),
                format!("{} {title}", factor(ours / beside)),
                &format!("≤ {reach} × {title}"),
                ours <= reach * beside,
            );
        }
        for (name, title) in [
            ("common", "the common design with SCAN (of some dozen keys)"),
            ("peer", "pg-listen + ioredis (npm) with DEL"),
        ] {
            let theirs = of(name, share);
            if theirs.is_finite() {
                let compared = format!("{} the floor", factor(theirs / floor));
                section.step(&format!("{title}, {what}"), format!("{} ms", figure(theirs)), compared);
            }
        }
    }
    section.note(format!(
        "{SAMPLES} samples each, one candidate after the other with {} ms between: each is asleep when its turn comes. Measured from the \
         acknowledged commit to Redis' own message that the key is gone (`CLIENT TRACKING`). The floor is a Rust loop that gets the \
         key in the notification and sends UNLINK; it keeps no position and reads nothing. With a page read: the notification is empty, and the \
         loop asks PostgreSQL for what is new in a journal, by one indexed SELECT. With the script: the key goes in pgevict's own script, which \
         compares and moves a position.",
        PAUSE.as_millis()
    ));
    section
}
