//! Notify delivery: the same tuples in payloads that the daemon's assembler reads.

use crate::support::*;
use pgevict::config::model::*;
use pgevict::rules::payload::notify::{Assembler, Limits, Notified, Step};
use std::time::{Duration, Instant};

fn world(always: bool) -> (World, Db) {
    let edges = vec![filtered("user", &["status"]), edge("agent")];
    let mut c = config(&[("user", "u:{user_id}"), ("agent", "a:{agent_id}")], vec![table("calls", edges)]);
    c.postgres.delivery = Delivery::Notify;
    c.tables[0].always = always;
    let w = World::new("CREATE TABLE calls (id int, user_id text, agent_id int, status text, x int)", c);
    let daemon = w.connect();
    daemon.sql("LISTEN pgevict");
    (w, daemon)
}

fn take(daemon: &mut Db) -> Vec<Notified> {
    let mut assembler = Assembler::new(Limits { open: 100, bytes: 1 << 24, age: Duration::from_secs(60) });
    let mut out = Vec::new();
    for payload in daemon.heard() {
        assert!(payload.len() < 8000);
        for step in assembler.take(1, &payload, Instant::now()) {
            match step {
                Step::Complete(n) => out.push(*n),
                Step::Pending => {}
                Step::Broken(b) => panic!("{b:?}: {payload}"),
            }
        }
    }
    assert!(assembler.clear().is_empty(), "slices are missing");
    out
}

fn short(n: &Notified) -> String {
    let mut tuples: Vec<String> = n
        .tuples
        .iter()
        .map(|t| {
            format!(
                "{:?}",
                t.values
                    .iter()
                    .map(|v| v.as_ref().map(|v| String::from_utf8_lossy(v).into_owned()))
                    .collect::<Vec<_>>()
            )
        })
        .collect();
    tuples.sort();
    format!("{} {:?} {:?} {}", n.op.as_str(), n.kind, n.classes, tuples.join(" "))
}

#[test]
fn a_statement_is_one_message_without_any_table() {
    let (w, mut daemon) = world(false);
    assert!(w.db.text("SELECT to_regclass('pgevict.journal')").is_none());
    w.sql("INSERT INTO calls VALUES (1, '7', 3, 'x', 0), (2, '8', 3, 'x', 0)");
    let heard = take(&mut daemon);
    assert_eq!(
        heard.iter().map(short).collect::<Vec<_>>(),
        ["insert Rows None [Some(\"3\")] [Some(\"7\")] [Some(\"8\")]"]
    );
    assert_eq!(heard[0].layout, w.layouts()[0].id());
    assert!(heard[0].at.is_some());
    w.sql("UPDATE calls SET status = status WHERE false; BEGIN; DELETE FROM calls; ROLLBACK");
    assert!(take(&mut daemon).is_empty());
    w.sql("TRUNCATE calls");
    assert_eq!(take(&mut daemon).iter().map(short).collect::<Vec<_>>(), ["truncate Whole None "]);
}

#[test]
fn identical_statements_do_not_fold() {
    let (w, mut daemon) = world(false);
    w.sql("BEGIN; INSERT INTO calls VALUES (1, '7', 3, 'x', 0); INSERT INTO calls VALUES (1, '7', 3, 'x', 0); COMMIT");
    assert_eq!(take(&mut daemon).len(), 2);
}

#[test]
fn long_values_are_sliced_by_bytes_and_past_64_kilobytes_the_classes_go_whole() {
    let (w, mut daemon) = world(false);
    w.sql("INSERT INTO calls VALUES (1, repeat('ä€😀\"\\', 2000), 3, 'x', 0)");
    let heard = take(&mut daemon);
    assert_eq!(heard.len(), 1);
    let longest = heard[0].tuples.iter().flat_map(|t| t.values.iter().flatten()).map(Vec::len).max();
    assert_eq!(longest, Some("ä€😀\"\\".len() * 2000));
    w.sql("INSERT INTO calls VALUES (1, repeat('x', 70000), 3, 'x', 0)");
    assert_eq!(take(&mut daemon).iter().map(short).collect::<Vec<_>>(), ["insert Whole Some([0, 1]) "]);
    w.sql("UPDATE calls SET x = 1 WHERE false");
    w.sql("INSERT INTO calls SELECT g, g::text, 3, 'x', 0 FROM generate_series(1, 9000) AS g");
    assert_eq!(take(&mut daemon).iter().map(short).collect::<Vec<_>>(), ["insert Whole Some([0, 1]) "]);
}

#[test]
fn a_renamed_column_degrades_its_class_alone() {
    let (w, mut daemon) = world(false);
    w.sql("ALTER TABLE calls RENAME agent_id TO agent; INSERT INTO calls VALUES (1, '7', 3, 'x', 0); DELETE FROM calls WHERE false");
    let heard = take(&mut daemon);
    assert_eq!(
        heard.iter().map(short).collect::<Vec<_>>(),
        ["insert Rows None [Some(\"7\")]", "insert Degraded Some([1]) "]
    );
    assert_eq!(heard[1].note.as_deref(), Some("column \"agent_id\" does not exist"));
}

#[test]
fn by_row_it_counts_and_collapses_too() {
    let (w, mut daemon) = world(true);
    assert_eq!(w.drift(), [""; 0]);
    w.sql("ALTER TABLE calls DISABLE TRIGGER zz_pgevict_i; SET session_replication_role = replica");
    w.sql("INSERT INTO calls SELECT g, g::text, 3, 'x', 0 FROM generate_series(1, 1200) AS g");
    let heard = take(&mut daemon);
    assert_eq!(heard.len(), 1001);
    assert_eq!(short(&heard[1000]), "insert Whole Some([0, 1]) ");
}
