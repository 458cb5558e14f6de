//! Where a capture spends what it costs: the installed function, cut off at one place after the other.

use super::{EXACT, ITEMS, ONE_ROW};
use crate::numbers::{figure, median};
use crate::report::Section;
use crate::stage::pgbench::Pgbench;
use crate::stage::{Site, postgres, redis};

const ROUNDS: usize = 11;
const SECONDS: u64 = 2;

/// As the functions with lookups pin it in their heads, and all did.
const PINNED: &str = "SET search_path = pg_catalog, pg_temp; SET lock_timeout = '250ms'; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; \
    SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = '1'; SET lc_monetary = 'C'; \
    SET quote_all_identifiers = 'off'; SET jit = 'off'; SET row_security = 'off'";

enum Cut {
    /// Returns in front of this place of its source.
    Before(&'static str),
    /// The whole function.
    Nowhere,
    /// The whole function, with this in its head.
    Pinned,
    /// Another function: what any trigger does that writes the same journal row, and nothing else.
    Least,
}

const LEAST: &str = "BEGIN INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) \
    SELECT 1, 'items', 'r', 'u', ARRAY[ARRAY['0'::text, n.id::text]] FROM pgevict_new AS n; RETURN NULL; END";

const OURS: &str = "FROM pg_proc WHERE proname LIKE 'capture_items_%'";

const STEPS: [(&str, Cut); 7] = [
    (
        "the triggers fire, with transition tables; as the owner; in a block that can fail",
        Cut::Before("IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE'"),
    ),
    (
        "one query reads both images, compares them and makes the values",
        Cut::Before("IF pgevict_array OPERATOR(pg_catalog.<>) '{}'"),
    ),
    (
        "the journal is locked without waiting",
        Cut::Before("INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES"),
    ),
    ("the journal row, its index and its sequence", Cut::Before("pgevict_look := pg_catalog.mod")),
    (
        "whether to look how large the journal is, and the lock that asks whether the daemon sleeps: all of it",
        Cut::Nowhere,
    ),
    ("the same with eleven settings pinned in its head, as captures with lookups have them", Cut::Pinned),
    (
        "instead of all that: `INSERT … SELECT` of the new image's id into the same journal, not compared, nothing caught, no bell",
        Cut::Least,
    ),
];

/// Puts it in the place of the site's capture.
pub(super) fn least(site: &Site) {
    let name = site.db.value(&format!("SELECT oid::regprocedure {OURS}"));
    site.db
        .sql(&format!("CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql AS $least${LEAST}$least$"));
}

pub(super) fn run() -> Section {
    let (postgres, redis) = (postgres(), redis());
    let plain = crate::stage::Db::create(&postgres, "plain", ITEMS);
    let sites: Vec<Site> = STEPS
        .iter()
        .enumerate()
        .map(|(i, (_, cut))| {
            let site = Site::new(&postgres, &redis, &format!("step{i}"), ITEMS, EXACT);
            let source = site.db.value(&format!("SELECT pg_get_functiondef(oid) {OURS}"));
            match cut {
                Cut::Before(place) => {
                    let (head, tail) = source.split_once(place).unwrap_or_else(|| panic!("no {place} in {source}"));
                    site.db.sql(&format!("{head}RETURN NULL;\n{place}{tail}"));
                }
                Cut::Nowhere => {}
                Cut::Least => least(&site),
                Cut::Pinned => {
                    let name = site.db.value(&format!("SELECT oid::regprocedure {OURS}"));
                    for one in PINNED.split("; ") {
                        site.db.sql(&format!("ALTER FUNCTION {name} {one}"));
                    }
                }
            }
            site
        })
        .collect();

    let pgbench = Pgbench::new(ONE_ROW);
    let names: Vec<String> =
        std::iter::once("plain".to_owned()).chain((0..STEPS.len()).map(|i| format!("step{i}"))).collect();
    let mut cost: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    for name in &names {
        pgbench.run(&postgres, name, 1);
    }
    for round in 0..ROUNDS {
        for turn in 0..names.len() {
            let which = (turn + round) % names.len();
            let db = if which == 0 { &plain } else { &sites[which - 1].db };
            cost[which].push(pgbench.cost(&postgres, db, &names[which], SECONDS).1);
        }
    }
    // What a step adds to the one before it, in the same round: the neighbours were the same.
    let more = |which: usize, than: usize| {
        median(&cost[which].iter().zip(&cost[than]).map(|(a, b)| a - b).collect::<Vec<_>>())
    };
    let mut section = Section::default();
    section.step(
        "the UPDATE and its commit, without a trigger",
        format!("{} µs", figure(median(&cost[0]))),
        String::new(),
    );
    for (i, (what, cut)) in STEPS.iter().enumerate() {
        let before = if matches!(cut, Cut::Least) { 0 } else { i };
        section.step(
            what,
            format!("{} µs more", figure(more(i + 1, before))),
            format!("{} µs more than without a trigger", figure(more(i + 1, 0))),
        );
    }
    section.note(format!(
        "Processor time of the sessions, one-row `UPDATE`s, 32 clients on two cores, {SECONDS} s a slice, {ROUNDS} rounds; differences are medians of the rounds' differences. The function that the \
         migration installs, made to return at that place; no daemon runs."
    ));
    section
}
