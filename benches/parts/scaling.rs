//! How cost grows: with edges, with layouts, with tables. What docs/scaling.md rests on.

use super::{ITEMS, ONE_ROW};
use crate::numbers::{figure, median, ms};
use crate::report::Section;
use crate::stage::pgbench::Pgbench;
use crate::stage::{Db, Site, postgres, process, redis};
use std::fmt::Write as _;

const ROUNDS: usize = 5;
/// Seconds.
const SLICE: u64 = 2;
const TABLES: [usize; 3] = [1, 50, 200];

/// So many caches on one table, each with a hole; over all columns in turn where `spread`.
fn edges(count: usize, spread: bool) -> String {
    let mut config = String::new();
    for n in 0..count {
        let column = if spread && n % 2 == 1 { "user_id" } else { "id" };
        let _ = writeln!(config, "[cache.c{n}]\nkey = \"c{n}:{{{column}}}\"");
    }
    let names: Vec<String> = (0..count).map(|n| format!("\"c{n}\"")).collect();
    config + &format!("[table.items]\ncolumns = [\"status\"]\nevict = [{}]\n", names.join(", "))
}

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    Db::create(&postgres, "none", ITEMS);
    let candidates = [("e1", 1, false), ("e10", 10, false), ("e50", 50, false), ("s10", 10, true)];
    let mut sites: Vec<Site> = candidates
        .iter()
        .map(|(name, count, spread)| Site::new(&postgres, &server, name, ITEMS, &edges(*count, *spread)))
        .collect();
    let admin = Db::connect(&postgres.url("postgres"));
    let names: Vec<&str> = std::iter::once("none").chain(candidates.iter().map(|c| c.0)).collect();
    for name in &names {
        // The disk would hide what a trigger computes.
        admin.sql(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    }
    let pgbench = Pgbench::new(ONE_ROW).clients(1);
    // Processor time of the sessions, not wall time: strangers on the cores would be most of it.
    let mut micros: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    for name in &names {
        pgbench.run(&postgres, name, 1);
    }
    for _ in 0..ROUNDS {
        for (took, name) in micros.iter_mut().zip(&names) {
            took.push(pgbench.cost(&postgres, &admin, name, SLICE).1);
        }
    }
    let mut section = Section::default();
    section.step(
        "one `UPDATE`, no trigger: processor time of the session",
        format!("{} µs", figure(median(&micros[0]))),
        String::new(),
    );
    let titles = ["1 edge", "10 edges on one column", "50 edges on one column", "10 edges on two columns"];
    for (title, took) in titles.iter().zip(&micros[1..]) {
        let more: Vec<f64> = took.iter().zip(&micros[0]).map(|(a, b)| a - b).collect();
        section.step(&format!("the trigger, {title}"), format!("{} µs", figure(median(&more))), String::new());
    }
    // The daemon's side of the same changes, as fast as they can be made.
    let pgbench = pgbench.clients(32);
    for ((title, (name, count, _)), site) in titles.iter().zip(candidates).zip(&mut sites).take(3) {
        site.settle();
        let before = process::cpu(site.pid());
        let key = format!("c{}:0", count - 1);
        let changes = pgbench.run(&postgres, name, 3) * 3.0;
        site.drained(&key, super::MARKED);
        let each = (process::cpu(site.pid()) - before).as_secs_f64() * 1e6 / changes;
        section.step(
            &format!("the daemon's processor time a change, {title}"),
            format!("{} µs", figure(each)),
            format!("{} ns a key", figure(each * 1000.0 / count as f64)),
        );
        site.stop();
    }
    drop(sites);
    for count in TABLES {
        let (mut schema, mut config) = (String::new(), String::new());
        for n in 0..count {
            let _ = write!(schema, "CREATE TABLE t{n} (id int PRIMARY KEY, value int NOT NULL);");
            let _ = writeln!(config, "[cache.t{n}]\nkey = \"t{n}:{{id}}\"\n[table.t{n}]\nevict = [\"t{n}\"]");
        }
        let mut site = Site::new(&postgres, &server, &format!("tables{count}"), &schema, &config);
        site.settle();
        let ready: Vec<f64> = (0..3)
            .map(|_| {
                site.stop();
                ms(site.start())
            })
            .collect();
        let resident = process::resident(site.pid()).0;
        section.step(
            &format!("{count} watched tables: start to ready"),
            format!("{} ms", figure(median(&ready))),
            format!("resident {} MB", figure(resident)),
        );
    }
    section.note(format!("One client, `synchronous_commit = off`, {ROUNDS} rounds in turn; the trigger's time is the difference to no trigger in the same round. The daemon's time is at the rate \
         that 32 clients reach, where it reads some dozen changes at once; behind a backlog it is less ([Backlog](#backlog))."));
    section
}
