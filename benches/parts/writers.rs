//! What a trigger costs those who write.

use super::{EXACT, ITEMS, MARK, MARKED, ONE_ROW};
use crate::baselines::{Baseline, row_trigger};
use crate::numbers::{factor, figure, median, median_ratio, ms};
use crate::report::Section;
use crate::stage::pgbench::Pgbench;
use crate::stage::{Db, Site, postgres, process, redis};

const ROUNDS: usize = 5;
const SECONDS: u64 = 5;

/// An empty statement trigger: what transition tables alone cost.
const EMPTY: &str = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     CREATE TRIGGER nothing AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
       FOR EACH STATEMENT EXECUTE FUNCTION nothing()";

/// A row with the key, in whatever order: nobody could read these without missing one.
const INSERT: &str = "CREATE TABLE journal (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text);
     CREATE FUNCTION bare() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN INSERT INTO journal (key) SELECT id::text FROM new_rows; RETURN NULL; END';
     CREATE TRIGGER bare AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
       FOR EACH STATEMENT EXECUTE FUNCTION bare()";

pub(super) fn run() -> Section {
    let (postgres, redis) = (postgres(), redis());
    for (name, trigger) in
        [("none", ""), ("empty", EMPTY), ("bare", INSERT), ("common", &*row_trigger("items", &["id", "user_id"]))]
    {
        Db::create(&postgres, name, ITEMS).sql(trigger);
    }
    let _daemon = Baseline::start("common", &[&postgres.url("common"), &redis.url(0), "del", "common:{id}"]);
    // Once proven, a stopped daemon leaves writers what an outage leaves them: triggers, and nobody who reads.
    let mut stopped = Site::new(&postgres, &redis, "stopped", ITEMS, EXACT);
    stopped.settle();
    stopped.stop();
    let mut draining = Site::new(&postgres, &redis, "draining", ITEMS, EXACT);
    draining.settle();

    // What remains of it where nothing is compared, caught or rung for.
    let mut least = Site::new(&postgres, &redis, "least", ITEMS, EXACT);
    least.settle();
    least.stop();
    super::trigger::least(&least);

    let names = ["none", "empty", "bare", "common", "stopped", "draining", "least"];
    let pgbench = Pgbench::new(ONE_ROW);
    let mut tps: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    // What the sessions of a slice cost, once they have ended: unlike the rate it does not depend on who else is on the cores.
    let mut cost: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let (mut behind, mut micros) = (Vec::new(), Vec::new());
    // Every backend compiles its functions once, and the first slice extends the files: not counted.
    for name in names {
        pgbench.run(&postgres, name, 1);
    }
    for round in 0..ROUNDS {
        for turn in 0..names.len() {
            let which = (turn + round) % names.len();
            draining.drained(MARK, MARKED);
            let before = process::cpu(draining.pid());
            let (rate, micros_each) = pgbench.cost(&postgres, &draining.db, names[which], SECONDS);
            tps[which].push(rate);
            cost[which].push(micros_each);
            if names[which] == "draining" {
                behind.push(ms(draining.drained(MARK, MARKED)));
                #[expect(clippy::cast_precision_loss, reason = "seconds")]
                micros.push((process::cpu(draining.pid()) - before).as_secs_f64() * 1e6 / (rate * SECONDS as f64));
            }
        }
    }
    let against = |a: usize, b: usize| median_ratio(&tps[a], &tps[b]);
    let mut section = Section::default();
    let rate = |which: usize| {
        format!("{} a second, {} µs of processor time each", figure(median(&tps[which])), figure(median(&cost[which])))
    };
    section.step("no trigger (a)", rate(0), "1".into());
    section.step(
        "an empty statement trigger with transition tables",
        rate(1),
        format!("{} (a)", factor(against(1, 0))),
    );
    section.step("a trigger that inserts the id into a table", rate(2), format!("{} (a)", factor(against(2, 0))));
    section.step(
        "a trigger that inserts the id into pgevict's journal, which can be read in the order of commits (c)",
        rate(6),
        format!("{} (a)", factor(against(6, 0))),
    );
    section.step(
        "row trigger and `pg_notify` (b), its daemon listening",
        rate(3),
        format!("{} (a)", factor(against(3, 0))),
    );
    let mut goal = |what: &str, which: usize, other: usize, named: &str, reach: f64| {
        let ratio = against(which, other);
        section.goal(
            what,
            rate(which),
            format!("{} {named}", factor(ratio)),
            &format!("≥ {reach} × {named}"),
            ratio >= reach,
        );
    };
    goal("pgevict, daemon stopped", 4, 0, "(a)", 0.75);
    goal("pgevict, daemon draining on the same cores", 5, 0, "(a)", 0.65);
    goal("pgevict, daemon draining on the same cores", 5, 3, "(b)", 3.0);
    section.step("pgevict, daemon stopped, beside (c)", rate(4), format!("{} (c)", factor(against(4, 6))));
    section.step(
        "how far the daemon was behind when the writers ended",
        format!("{} ms", figure(median(&behind))),
        format!("the daemon took {} µs of processor time a change", figure(median(&micros))),
    );
    section.note(format!(
        "pgbench, `UPDATE` of one row by primary key, 32 clients, prepared, {SECONDS} s a slice, {ROUNDS} rounds; each candidate has its own \
         database in one cluster. Ratios are medians of the rounds' ratios. With (b) commits wait for \
         each other, each for its own write to the disk: how deep it falls depends on the disk."
    ));
    section
}
