//! One statement that changes 300 000 rows.

use crate::baselines::{Baseline, row_trigger};
use crate::numbers::{factor, figure, median, median_ratio};
use crate::report::Section;
use crate::stage::{Db, Resp, Site, address, postgres, process, redis};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SCHEMA: &str = "CREATE TABLE items (id int PRIMARY KEY, user_id int NOT NULL, value int NOT NULL);
     INSERT INTO items SELECT g, g % 10000, 0 FROM generate_series(1, 300000) g";
const CONFIG: &str =
    "[cache.board]\nkey = \"board:{user_id}\"\n[table.items]\ncolumns = [\"value\"]\nevict = [\"board\"]\n";
const ALL: &str = "UPDATE items SET value = value + 1";

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut site = Site::new(&postgres, &server, "pgevict", SCHEMA, CONFIG);
    let dbs = [Db::create(&postgres, "none", SCHEMA), Db::create(&postgres, "common", SCHEMA)];
    dbs[1].sql(&row_trigger("items", &["id", "user_id"]));
    site.settle();
    let mut redis = Resp::connect(&address(&server));
    let mut took: [Vec<f64>; 3] = Default::default();
    let mut cost: [Vec<f64>; 3] = Default::default();
    let mut gone = Vec::new();
    for round in 0..ROUNDS {
        for turn in 0..3 {
            let which = (turn + round) % 3;
            let db = if which == 2 { &site.db } else { &dbs[which] };
            db.sql("VACUUM items");
            let own = fill(&mut redis);
            let (pid, begun) = (db.pid(), Instant::now());
            let before = process::cpu(pid);
            db.sql(ALL);
            let committed = Instant::now();
            cost[which].push((process::cpu(pid) - before).as_secs_f64());
            took[which].push((committed - begun).as_secs_f64());
            if which == 2 {
                let end = redis.wait_size(own, Duration::from_secs(60)).expect("the keys go");
                gone.push((end - committed).as_secs_f64() * 1000.0);
            }
        }
    }
    // Once is enough: it takes the common design's daemon half a minute.
    let common = {
        let _daemon = Baseline::start("common", &[&postgres.url("common"), &server.url(0), "del", "board:{user_id}"]);
        let own = fill(&mut redis);
        dbs[1].sql(ALL);
        let committed = Instant::now();
        redis.wait_size(own, Duration::from_secs(60)).map(|end| (end - committed).as_secs_f64() * 1000.0)
    };
    let mut section = Section::default();
    let spell = |which: usize| {
        let of = |times: &[f64]| figure(median(times) * 1000.0);
        format!("{} ms, {} ms of processor time", of(&took[which]), of(&cost[which]))
    };
    let processor = |which: usize| factor(median_ratio(&cost[which], &cost[0]));
    section.step("no trigger", spell(0), "1".into());
    let rows = median_ratio(&took[1], &took[0]);
    section.step(
        "row trigger and `pg_notify`",
        spell(1),
        format!("{} no trigger, {} its processor time", factor(rows), processor(1)),
    );
    let ours = median_ratio(&took[2], &took[0]);
    section.goal(
        "pgevict",
        spell(2),
        format!("{} no trigger, {} its processor time", factor(ours), processor(2)),
        "≤ 1.15 × no trigger",
        ours <= 1.15,
    );
    let last = median(&gone);
    let other = common.map_or("over 60 s".to_owned(), |c| format!("{} ms", figure(c)));
    let compared = format!("{other} by the common design");
    section.goal(
        "from commit until all 10 000 keys are gone",
        format!("{} ms", figure(last)),
        compared,
        "≤ 1 s",
        last <= 1000.0,
    );
    section.note(format!(
        "One `UPDATE` of 300 000 rows whose keys have 10 000 distinct values, {ROUNDS} rounds, the daemon running. The row trigger ran \
         without anybody listening, but for one round more. Its keys go early: 30 rows share each, and the first one deletes it."
    ));
    section
}

/// Caches all keys; how many others there are.
fn fill(redis: &mut Resp) -> i64 {
    redis.pipeline((0..10_000).map(|n| vec!["DEL".into(), format!("board:{n}")]));
    let own = redis.size();
    redis.pipeline((0..10_000).map(|n| vec!["SET".into(), format!("board:{n}"), "cached".into()]));
    own
}
