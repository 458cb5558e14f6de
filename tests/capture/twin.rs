//! `explain` and `[[test]]` promise what the trigger does: generated edges and changes, each worked out offline and by
//! PostgreSQL, must come to the same keys. The seed is printed; `PGEVICT_TEST_SEED` repeats a run.

use super::support::{World, config, edge, lookup, table, wait};
use pgevict::config::model::{Config, Edge, Op, Ops, Row, Table, TableName, When};
use pgevict::rules::evaluate::{Event, SkipReason, evaluate};
use pgevict::rules::layout::Layout;
use pgevict::rules::mapping::{Mapped, Mapper};
use pgevict::rules::payload::{Raw, tuples};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;

const CONFIGS: usize = 4;
const CHANGES: usize = 40;

const SCHEMA: &str = "CREATE TABLE parents (id integer PRIMARY KEY, owner text, region text); \
    INSERT INTO parents VALUES (1, 'x', 'u'), (2, 'y', NULL); \
    CREATE TABLE t (a text, b text, c text, pid integer);";

/// Templates over columns, a renamed hole and looked-up ones.
const CACHES: [(&str, &str); 7] = [
    ("board", "board"),
    ("one", "one:{a}"),
    ("two", "two:{a}:{b}:*"),
    ("renamed", "renamed:{z}"),
    ("owner", "owner:{owner}"),
    ("both", "both:{c}:{owner}:{region}"),
    ("region", "region:{region}:*:{a}"),
];

fn generated(rng: &mut StdRng) -> Config {
    let subset = |rng: &mut StdRng, of: &[&str]| -> Vec<String> {
        of.iter().filter(|_| rng.random_bool(0.4)).map(|c| (*c).to_owned()).collect()
    };
    let columns = |rng: &mut StdRng| rng.random_bool(0.6).then(|| subset(rng, &["a", "b", "c", "pid"]));
    let when = |rng: &mut StdRng| -> Vec<When> {
        let values = |rng: &mut StdRng| vec![["1", "2"].choose(rng).unwrap().to_string()];
        let column = ["a", "b", "c"].choose(rng).unwrap().to_string();
        if rng.random_bool(0.3) { vec![When { column, values: values(rng) }] } else { Vec::new() }
    };
    let mut t: Table = table("t", Vec::new());
    t.columns = columns(rng);
    t.when = when(rng);
    t.lookups =
        vec![lookup("owner", "pid", "parents", "owner", None), lookup("region", "pid", "parents", "region", None)];
    for (cache, _) in CACHES {
        if rng.random_bool(0.3) {
            continue;
        }
        let mut e: Edge = edge(cache);
        e.columns = columns(rng);
        e.when = when(rng);
        let (insert, update, delete) = (rng.random_bool(0.7), rng.random_bool(0.8), rng.random_bool(0.7));
        e.ops = if insert || update || delete { Ops { insert, update, delete } } else { Ops::ALL };
        if cache == "renamed" {
            e.with.insert("z".into(), ["a", "b", "c"].choose(rng).unwrap().to_string());
        }
        t.edges.push(e);
    }
    t.edges.push(edge("both"));
    config(&CACHES, vec![t])
}

/// A row of `t`, with the holes that its parent fills.
fn child(rng: &mut StdRng) -> Row {
    let mut row = Row::new();
    for column in ["a", "b", "c"] {
        row.insert(column.into(), [None, Some("1"), Some("2"), Some("*")].choose(rng).unwrap().map(str::to_owned));
    }
    let (pid, owner, region) =
        *[(None, None, None), (Some("1"), Some("x"), Some("u")), (Some("2"), Some("y"), None)].choose(rng).unwrap();
    for (name, value) in [("pid", pid), ("owner", owner), ("region", region)] {
        row.insert(name.into(), value.map(str::to_owned));
    }
    row
}

fn parent(rng: &mut StdRng, id: usize) -> Row {
    let mut row = Row::from([("id".into(), Some(id.to_string()))]);
    for column in ["owner", "region"] {
        row.insert(column.into(), [None, Some("x"), Some("y")].choose(rng).unwrap().map(str::to_owned));
    }
    row
}

fn list(row: &Row, columns: &[&str], between: &str, form: impl Fn(&str, &str) -> String) -> String {
    let value = |c: &str| row[c].as_ref().map_or("NULL".to_owned(), |v| format!("'{v}'"));
    columns.iter().map(|c| form(c, &value(c))).collect::<Vec<_>>().join(between)
}

/// Runs the change alone, with nothing in the journal before.
fn perform(world: &World, table: &str, columns: &[&str], event: Event<'_>) {
    let insert = |row| format!("INSERT INTO {table} VALUES ({})", list(row, columns, ", ", |_, v| v.to_owned()));
    let find = |row| list(row, columns, " AND ", |c, v| format!("{c}::text IS NOT DISTINCT FROM {v}"));
    let set = |row| list(row, columns, ", ", |c, v| format!("{c} = {v}"));
    let before = |row| world.sql(&format!("{}; TRUNCATE pgevict.journal", insert(row)));
    match event {
        Event::Insert(new) => world.sql(&insert(new)),
        Event::Delete(old) => {
            before(old);
            world.sql(&format!("DELETE FROM {table} WHERE {}", find(old)));
        }
        Event::Update(old, new) => {
            before(old);
            world.sql(&format!("UPDATE {table} SET {} WHERE {}", set(new), find(old)));
        }
        Event::Truncate => world.sql(&format!("TRUNCATE {table}")),
    }
}

type Result = (BTreeSet<String>, BTreeSet<String>);

/// Keys, and caches skipped for NULL, as the daemon reads them from the journal.
fn by_postgresql(world: &World, layout: &Layout) -> Result {
    let sql = "SELECT kind::text, op::text, classes, tuples FROM pgevict.journal WHERE tbl = $1";
    let rows = wait(world.db.client.query(sql, &[&layout.table.to_string()])).unwrap();
    let mapper = Mapper::new(&world.config);
    let mut mapped = Mapped::default();
    for row in rows {
        let (kind, op): (&str, &str) = (row.get(0), row.get(1));
        assert_ne!(kind, "x", "the capture degraded");
        match row.get::<_, Option<Raw<'_>>>(3) {
            Some(raw) => {
                tuples(raw.0).unwrap().iter().for_each(|t| mapper.tuple(layout, t, &mut mapped).unwrap());
            }
            None => {
                let classes: Option<Vec<i32>> = row.get(2);
                let op = Op::from_letter(op.as_bytes()[0]).unwrap();
                mapper.whole(layout, op, classes.as_deref(), &mut mapped).unwrap();
            }
        }
    }
    assert!(mapped.unresolved.is_empty() && mapped.unknown.is_empty());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        mapped.targets.iter().map(|(_, t)| text(t.rendered.bytes())).collect(),
        mapped.skipped_null.iter().map(|e| e.of(layout).unwrap().cache.clone()).collect(),
    )
}

fn offline(config: &Config, table: &TableName, event: Event<'_>) -> Result {
    let e = evaluate(config, table, event).unwrap();
    let null = e.skipped.iter().filter(|s| matches!(s.reason, SkipReason::Null { .. }));
    (
        e.evict.iter().map(|e| String::from_utf8(e.rendered.bytes().to_vec()).unwrap()).collect(),
        null.map(|s| s.cache.clone()).collect(),
    )
}

#[test]
fn what_explain_says_is_what_the_trigger_writes() {
    let seed = std::env::var("PGEVICT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("PGEVICT_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut named = 0;
    for _ in 0..CONFIGS {
        let world = World::new(SCHEMA, generated(&mut rng));
        for n in 0..CHANGES {
            let of_parent = n % 4 == 3;
            let (name, columns): (_, &[&str]) =
                if of_parent { ("parents", &["id", "owner", "region"]) } else { ("t", &["a", "b", "c", "pid"]) };
            let row = |rng: &mut StdRng| if of_parent { parent(rng, 100 + n) } else { child(rng) };
            let (old, new) = (row(&mut rng), row(&mut rng));
            let event = match rng.random_range(0..10) {
                0..2 => Event::Insert(&new),
                2..4 => Event::Delete(&old),
                // The parents of `t` must stay.
                4 if !of_parent => Event::Truncate,
                _ => Event::Update(&old, &new),
            };
            let layout = world.layouts().into_iter().find(|l| &*l.table.name == name).unwrap();
            perform(&world, name, columns, event);
            let (postgresql, ours) = (by_postgresql(&world, &layout), offline(&world.config, &layout.table, event));
            assert_eq!(ours, postgresql, "seed {seed}: {name} {event:?}\n{:#?}", world.config.tables);
            named += ours.0.len();
            world.sql("TRUNCATE t; TRUNCATE pgevict.journal");
        }
    }
    assert!(named > CONFIGS * CHANGES / 2, "hardly anything was evicted: {named}");
}
