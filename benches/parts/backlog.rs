//! A million changes that waited while nobody read.

use super::{EXACT, ITEMS};
use crate::baselines::{Baseline, Peer, row_trigger};
use crate::numbers::{figure, median};
use crate::report::Section;
use crate::stage::{Db, Resp, Site, address, postgres, process, redis};
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
const CHANGES: u32 = 1_000_000;
/// What one-by-one daemons get: enough for a rate, and over in seconds.
const EVENTS: u32 = 30_000;
/// Changes of one transaction: the backlog has a hundred of them.
const BATCH: u32 = 10_000;

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut redis = Resp::connect(&address(&server));
    let redis_pid: u32 = redis.info("server", "process_id").parse().expect("a pid");
    let mut site = Site::new(&postgres, &server, "pgevict", ITEMS, EXACT);
    site.settle();
    site.stop();
    let template = template(&site.db);
    let others = ["common", "peer"].map(|name| {
        let db = Db::create(&postgres, name, ITEMS);
        db.sql(&row_trigger("items", &["id", "user_id"]));
        db
    });
    let npm = Peer::install();

    let (mut rates, mut peaks, mut one_by_one, mut peers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    let mut shares: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        redis.ask(&["DEBUG", "POPULATE", &CHANGES.to_string(), "item", "1"]);
        let full = redis.size();
        for from in (0..CHANGES).step_by(BATCH as usize) {
            site.db.sql(&waiting(&template, from, from + BATCH - 1));
        }
        site.db.sql("CHECKPOINT");
        bytes.push(site.db.number("SELECT pg_total_relation_size('pgevict.journal')") / f64::from(CHANGES));
        let own = full - i64::from(CHANGES);
        let redis_before = process::cpu(redis_pid);
        site.begin();
        // From the first key that goes to the last.
        let begun = redis.wait_size(full - 1, Duration::from_secs(60)).expect("draining begins");
        let backend = reader(&site.db);
        let end = redis.wait_size(own + 8, Duration::from_secs(120)).expect("the backlog is drained");
        rates.push(f64::from(CHANGES) / (end - begun).as_secs_f64());
        let spent = [process::cpu(site.pid()), process::cpu(backend), process::cpu(redis_pid) - redis_before];
        for (share, spent) in shares.iter_mut().zip(spent) {
            share.push(spent.as_secs_f64() * 1e6 / f64::from(CHANGES));
        }
        peaks.push(process::resident(site.pid()).1);
        site.stop();
        // Not TRUNCATE: another file of the journal is found out, and flushed for.
        site.db.sql("DELETE FROM pgevict.journal");
        site.db.sql("VACUUM pgevict.journal");

        let daemon = Baseline::start("common", &[&postgres.url("common"), &server.url(0), "del", "common:{id}"]);
        one_by_one.push(events(&others[0], &mut redis, "common"));
        drop(daemon);
        if let Some(npm) = &npm {
            let daemon = npm.start(&[&postgres.url("peer"), &server.url(0), "del", "peer:{id}"]);
            peers.push(events(&others[1], &mut redis, "peer"));
            drop(daemon);
        }
    }

    let mut section = Section::default();
    let (rate, one, peak) = (median(&rates), median(&one_by_one), median(&peaks));
    section.step("the common design, DEL one by one", format!("{} changes a second", figure(one)), "1".into());
    if npm.is_some() {
        let peer = median(&peers);
        section.step(
            "pg-listen + ioredis (npm), DEL",
            format!("{} changes a second", figure(peer)),
            format!("{:.1} ×", peer / one),
        );
    }
    section.goal(
        "pgevict, 1 M waiting changes",
        format!("{} changes a second", figure(rate)),
        format!("{:.1} × one by one", rate / one),
        "≥ 150 000 a second",
        rate >= 150_000.0,
    );
    let spent = |n: usize| figure(median(&shares[n]));
    section.step(
        "processor time a change, pgevict",
        format!("{} µs", spent(0)),
        format!("its PostgreSQL session {} µs, Redis {} µs", spent(1), spent(2)),
    );
    section.goal("resident at its highest", format!("{} MB", figure(peak)), String::new(), "≤ 60 MB", peak <= 60.0);
    section.step("journal on disk", format!("{} bytes a change, index included", figure(bytes[0])), String::new());
    section.note(format!(
        "{CHANGES} journal rows of one-row statements, as the trigger writes them, every one with a key of its own that is cached; copied by \
         `INSERT … SELECT` in {} transactions while the daemon was down. The others get {EVENTS} notifications of one statement. {ROUNDS} rounds.",
        CHANGES / BATCH
    ));
    section
}

/// One row as the trigger writes it, to be copied: its columns but for the first two, and where the id stands.
fn template(db: &Db) -> String {
    db.sql("DELETE FROM pgevict.journal; UPDATE items SET status = status + 1 WHERE id = 77");
    assert_eq!(db.number("SELECT count(*) FROM pgevict.journal WHERE tbl = 'items'"), 1.0, "one statement, one row");
    db.sql("CREATE TABLE template AS SELECT layout, tbl, kind, op, classes, tuples, note FROM pgevict.journal WHERE tbl = 'items'; DELETE FROM pgevict.journal");
    "INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, tuples, note)
     SELECT layout, tbl, kind, op, classes, replace(tuples::text, '77', n::text)::text[], note FROM template, generate_series(FROM, TO) n"
        .to_owned()
}

fn waiting(template: &str, from: u32, to: u32) -> String {
    template.replace("(FROM, TO)", &format!("({from}, {to})"))
}

/// The session that reads the journal: it holds the leader's lock.
pub(super) fn reader(db: &Db) -> u32 {
    let ask = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 'pgevict.layout'::regclass AND granted LIMIT 1";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(pid) = db.value(ask).parse() {
            return pid;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        std::thread::yield_now();
    }
}

/// Notifications of one statement, worked off; events a second from the commit on.
fn events(db: &Db, redis: &mut Resp, prefix: &str) -> f64 {
    let keys = redis.size();
    redis.ask(&["DEBUG", "POPULATE", &(EVENTS + 1).to_string(), prefix, "1"]);
    redis.ask(&["DEL", &format!("{prefix}:0")]);
    db.sql(&format!("UPDATE items SET status = status + 1 WHERE id BETWEEN 1 AND {EVENTS}"));
    let committed = Instant::now();
    let end = redis.wait_size(keys, Duration::from_secs(60)).expect("the events are worked off");
    f64::from(EVENTS) / (end - committed).as_secs_f64()
}
