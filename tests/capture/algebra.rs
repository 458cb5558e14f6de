//! The statement that reads a page, and the one function that quotes, against a server: random inputs from a printed seed.

use crate::support::*;
use pgevict::rules::snapshot::Snapshot;
use pgevict::rules::sql;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::error::Error;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

fn rng() -> StdRng {
    let seed = std::env::var("PGEVICT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("PGEVICT_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The snapshots of a primary on which transactions begin and end in any order.
fn history(rng: &mut StdRng) -> Vec<Snapshot> {
    let (mut next, mut running, mut taken) = (3u64, BTreeSet::new(), Vec::new());
    while next < 60 {
        match rng.random_range(0..4) {
            0 => {
                running.insert(next);
                next += 1;
            }
            1 | 2 => {
                let all: Vec<u64> = running.iter().copied().collect();
                all.choose(rng).map(|xid| running.remove(xid));
            }
            _ => {
                let xmin = running.first().copied().unwrap_or(next);
                let xip: Vec<String> = running.iter().map(u64::to_string).collect();
                taken.push(format!("{xmin}:{next}:{}", xip.join(",")).parse().unwrap());
            }
        }
    }
    taken
}

#[test]
fn every_row_is_in_exactly_one_difference_and_on_exactly_one_of_its_pages() {
    let w = World::new("CREATE TABLE t (id int)", config(&[("c", "c:{id}")], vec![table("t", vec![edge("c")])]));
    // Three rows of each transaction, written in an order that is not theirs.
    w.sql(
        "INSERT INTO pgevict.journal (xid, layout, tbl, kind, op) \
         SELECT x::text::xid8, 1, 't', 'w', 't' FROM generate_series(3, 70) AS x, generate_series(1, 3) ORDER BY random()",
    );
    let page = wait(w.db.client.prepare(include_str!("../../sql/page.sql"))).unwrap();
    let read = |seen: &Snapshot, target: &Snapshot, limit: i64| {
        let (mut after, mut found) = ((0i64, 0i64), Vec::new());
        loop {
            let rows = wait(w.db.client.query(
                &page,
                &[&seen.to_string(), &Some(target.to_string()), &after.0.to_string(), &after.1, &limit, &(1i64 << 20)],
            ))
            .unwrap();
            let places: Vec<(i64, i64)> =
                rows.iter().filter_map(|r| Some((r.get::<_, Option<i64>>(3)?, r.get(4)))).collect();
            assert!(i64::try_from(places.len()).unwrap() <= limit);
            let Some(last) = places.last().copied() else { return found };
            after = last;
            found.extend(places);
        }
    };
    let mut rng = rng();
    for _ in 0..8 {
        let snapshots = history(&mut rng);
        let mut times = vec![0; 71];
        for pair in snapshots.windows(2) {
            let limit = rng.random_range(1..12);
            let found = read(&pair[0], &pair[1], limit);
            let xids: Vec<u64> = found.iter().map(|(xid, _)| u64::try_from(*xid).unwrap()).collect();
            let new: Vec<u64> =
                (3..=70).filter(|x| pair[1].sees(*x) && !pair[0].sees(*x)).flat_map(|x| [x; 3]).collect();
            assert_eq!(xids, new, "{} after {}, {limit} a page", pair[1], pair[0]);
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "a row twice");
            xids.iter().for_each(|x| times[usize::try_from(*x).unwrap()] += 1);
        }
        let (Some(first), Some(last)) = (snapshots.first(), snapshots.last()) else { continue };
        for x in 3..=70u64 {
            let expected = if last.sees(x) && !first.sees(x) { 3 } else { 0 };
            assert_eq!(times[usize::try_from(x).unwrap()], expected, "rows of {x}");
        }
    }
}

/// A transaction's number, in binary.
#[derive(Debug)]
struct Xid8(u64);

impl ToSql for Xid8 {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.cast_signed().to_sql(ty, out)
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Xid8 {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        i64::from_sql(ty, raw).map(|n| Self(n.cast_unsigned()))
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }
}

#[test]
fn a_ring_finds_the_first_rows_of_the_page_and_no_large_values() {
    let w = World::new("CREATE TABLE t (id int)", config(&[("c", "c:{id}")], vec![table("t", vec![edge("c")])]));
    // The last one belongs to a transaction that is yet to come, as after a restore; number 40 is larger than a ring is read for.
    w.sql(
        "INSERT INTO pgevict.journal (xid, layout, tbl, kind, op, tuples)
         SELECT x::text::xid8, 1, 't', 'r', 'u', ARRAY[ARRAY['0', CASE WHEN x = 40 THEN
           (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 4000) n) ELSE x::text END]]
         FROM (SELECT generate_series(3, 70) UNION ALL SELECT 4000000000) AS xids (x), generate_series(1, 2)",
    );
    let page = wait(w.db.client.prepare(include_str!("../../sql/page.sql"))).unwrap();
    let first = wait(w.db.client.prepare(include_str!("../../sql/first.sql"))).unwrap();
    for xmax in 3..73u64 {
        let (seen, now) = (format!("{xmax}:{xmax}:"), None::<String>);
        let rows = wait(w.db.client.query(&page, &[&seen, &now, &"0", &0i64, &4i64, &(1i64 << 40)])).unwrap();
        let ring = wait(w.db.client.query(&first, &[&Xid8(xmax)])).unwrap();
        // Where there is no row, a page says so in one that has none.
        let rows: Vec<_> = rows.iter().filter(|row| row.get::<_, Option<i64>>(3).is_some()).collect();
        assert_eq!(ring.len(), rows.len(), "behind {xmax}");
        assert_eq!(rows.len(), usize::try_from(4.min((71u64.saturating_sub(xmax)) * 2)).unwrap());
        for (of_ring, of_page) in ring.iter().zip(rows) {
            let xid = of_ring.get::<_, Xid8>(1).0;
            assert_eq!(
                (i64::try_from(xid).unwrap(), of_ring.get(2)),
                (of_page.get::<_, i64>(3), of_page.get::<_, i64>(4))
            );
            assert_eq!(of_ring.get::<_, i64>(5), of_page.get::<_, i64>(6));
            assert_eq!(of_ring.get::<_, &str>(6), of_page.get::<_, &str>(7));
            assert_eq!([of_ring.get::<_, i8>(7), of_ring.get(8)], [of_page.get::<_, i8>(8), of_page.get(9)]);
            let values = |row: &tokio_postgres::Row, column: usize| {
                row.try_get::<_, Option<pgevict::rules::payload::Raw<'_>>>(column).unwrap().map(|raw| raw.0.to_vec())
            };
            assert_eq!(values(of_ring, 10), values(of_page, 11).filter(|_| xid != 40));
            assert_eq!(
                [of_ring.get::<_, bool>(12), of_ring.get(13)],
                [false, true],
                "what is large is there all the same"
            );
            let at_page: Snapshot = of_page.get::<_, &str>(0).parse().unwrap();
            let at_ring: Snapshot = of_ring.get(0);
            // It was asked later, and others use the server.
            assert!(at_ring.contains(&at_page) && at_ring.sees(xid), "{at_page}, {at_ring}");
        }
    }
}

#[test]
fn whatever_is_quoted_the_server_reads_as_itself() {
    let w = World::bare("", config(&[], Vec::new()));
    let mut rng = rng();
    let odd = ['\'', '"', '\\', '$', 'E', 'n', ';', '-', '*', '/', ' ', '\n', '\u{e9}', '\u{1f642}', 'a'];
    for standard in ["on", "off"] {
        w.sql(&format!("SET standard_conforming_strings = {standard}"));
        for _ in 0..300 {
            let text: String = (0..rng.random_range(1..9)).map(|_| *odd.choose(&mut rng).unwrap()).collect();
            let asked = format!("SELECT {} AS {}", sql::literal(&text), sql::ident(&text));
            let rows = wait(w.db.client.simple_query(&asked)).unwrap_or_else(|e| panic!("{asked}: {e}"));
            let row = rows.iter().find_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let row = row.unwrap();
            assert_eq!((row.get(0), row.columns()[0].name()), (Some(text.as_str()), text.as_str()), "{asked}");
        }
    }
}
