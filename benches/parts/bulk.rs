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

/// What the parts of the work cost, as queries over the transition tables `was` and `becomes`.
const STEPS: [(&str, &str); 4] = [
    ("PostgreSQL keeps both images of each row for a trigger that does nothing", "SELECT 1 AS n"),
    (
        "… and both are read once, their rows numbered",
        "SELECT sum(p) FROM (SELECT count(p) AS p FROM __old__ AS o UNION ALL SELECT count(p) FROM __new__ AS n) AS q",
    ),
    (
        "… and paired by these numbers: nothing else says which old row became which",
        "SELECT count(n.value) FROM __old__ AS o FULL JOIN __new__ AS n ON n.p = o.p",
    ),
    (
        "… and compared, as they are stored",
        "SELECT count(n.value) FROM __old__ AS o FULL JOIN __new__ AS n ON n.p = o.p WHERE ROW(o.value)::record *<> ROW(n.value)::record",
    ),
];

/// The processor time of the statement with each step in a trigger of its own, in one round.
fn steps(db: &Db) -> Vec<f64> {
    let one = |table: &str| {
        let pid = db.pid();
        db.sql(&format!("VACUUM {table}"));
        let before = process::cpu(pid);
        db.sql(&ALL.replace("items", table));
        (process::cpu(pid) - before).as_secs_f64()
    };
    std::iter::once("items".to_owned()).chain((0..STEPS.len()).map(|i| format!("step{i}"))).map(|t| one(&t)).collect()
}

fn make_steps(db: &Db) {
    for (i, (_, query)) in STEPS.iter().enumerate() {
        let image = |table: &str| format!("(SELECT row_number() OVER () AS p, user_id, value FROM {table})");
        let query = query.replace("__old__", &image("was")).replace("__new__", &image("becomes"));
        db.sql(&SCHEMA.replace("items", &format!("step{i}")));
        db.sql(&format!(
            "CREATE FUNCTION step{i}() RETURNS trigger LANGUAGE plpgsql SET jit = 'off' AS $$ BEGIN PERFORM * FROM ({query}) AS q; RETURN NULL; END $$;
             CREATE TRIGGER step AFTER UPDATE ON step{i} REFERENCING OLD TABLE AS was NEW TABLE AS becomes
             FOR EACH STATEMENT EXECUTE FUNCTION step{i}()"
        ));
    }
}

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let mut site = Site::new(&postgres, &server, "pgevict", SCHEMA, CONFIG);
    let dbs = [Db::create(&postgres, "none", SCHEMA), Db::create(&postgres, "common", SCHEMA)];
    dbs[1].sql(&row_trigger("items", &["id", "user_id"]));
    site.settle();
    let parts = Db::create(&postgres, "parts", SCHEMA);
    make_steps(&parts);
    let mut parts_cost = Vec::new();
    let mut redis = Resp::connect(&address(&server));
    let mut took: [Vec<f64>; 3] = Default::default();
    let mut cost: [Vec<f64>; 3] = Default::default();
    let mut gone = Vec::new();
    for round in 0..ROUNDS {
        parts_cost.push(steps(&parts));
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
    for (i, (what, _)) in STEPS.iter().enumerate() {
        let ratios: Vec<f64> = parts_cost.iter().map(|round| round[i + 1] / round[0]).collect();
        let cost: Vec<f64> = parts_cost.iter().map(|round| round[i + 1] * 1000.0).collect();
        section.step(
            what,
            format!("{} ms of processor time", figure(median(&cost))),
            format!("{} no trigger's", factor(median(&ratios))),
        );
    }
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
