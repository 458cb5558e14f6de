//! A schema nobody has seen: quoted mixed-case names, uuid keys, partitions, cascades, a table without primary key, a
//! lookup through a nullable foreign key, hostile data. Exactly the right keys go, none else, and no statement of the
//! application ever fails.

use crate::support::{Delivery, Setup, World, over_both_deliveries};

const SCHEMA: &str = r#"
CREATE SCHEMA "shop.Eu";
CREATE TABLE "shop.Eu"."Basket" ("Id" uuid PRIMARY KEY, "Owner ""Name""" text NOT NULL, note text);
CREATE TABLE "shop.Eu"."Order Lines" (
  "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  "Basket" uuid REFERENCES "shop.Eu"."Basket" ON DELETE CASCADE,
  sku text NOT NULL, qty int NOT NULL DEFAULT 1);
CREATE TABLE reading (device text NOT NULL, day date NOT NULL, value numeric, PRIMARY KEY (device, day)) PARTITION BY RANGE (day);
CREATE TABLE reading_2025 PARTITION OF reading FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE reading_2026 PARTITION OF reading FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE tag (owner text, tag text);
"#;

const CONFIG: &str = r#"
[cache.basket]
key = "basket:{Id}"
[cache.owner]
pattern = "owner:{owner}:*"
[cache.basket_lines]
key = "lines:{basket}"
[cache.owner_lines]
key = "owner-lines:{owner}"
[cache.device_day]
key = "device:{device}:{day}"
[cache.tags]
key = "tags:{owner}"

[table.'"shop.Eu".Basket']
evict = ["basket", { cache = "owner", with = { owner = 'Owner "Name"' } }]

[table.'"shop.Eu"."Order Lines"']
evict = [{ cache = "basket_lines", with = { basket = "Basket" } }, "owner_lines"]
lookup.owner = { follow = "Basket", to = '"shop.Eu".Basket', take = 'Owner "Name"' }

[table.reading]
columns = ["value"]
evict = ["device_day"]

[table.tag]
evict = ["tags"]
"#;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

fn world(delivery: Delivery) -> World {
    let world = World::running(&Setup { delivery, config: CONFIG, schema: SCHEMA, ..Setup::default() });
    world.sql(&format!(
        r#"INSERT INTO "shop.Eu"."Basket" VALUES ('{A}', 'ann'), ('{B}', 'bob');
           INSERT INTO "shop.Eu"."Order Lines" ("Basket", sku) VALUES ('{A}', 'x'), ('{B}', 'y'), (NULL, 'z');
           INSERT INTO reading VALUES ('d', '2025-06-01', 1), ('d', '2026-06-01', 1);
           INSERT INTO tag VALUES ('ann', 't'), ('bob', 't')"#
    ));
    world.drain();
    let (basket_a, basket_b) = (format!("basket:{A}"), format!("basket:{B}"));
    let (lines_a, lines_b) = (format!("lines:{A}"), format!("lines:{B}"));
    world.fill(&[&basket_a, &basket_b, &lines_a, &lines_b, "owner:ann:x", "owner:ann:y:z", "owner:bob:x"]);
    world.fill(&[
        "owner-lines:ann",
        "owner-lines:bob",
        "device:d:2025-06-01",
        "device:d:2026-06-01",
        "tags:ann",
        "tags:bob",
    ]);
    world.fill(&["canary", "owner:*:x", "owner:[1]:x", "owner:1:x", "tags:*", "tags:[a]nn"]);
    world
}

over_both_deliveries! {
    quoted_names_and_uuid_keys_are_taken_as_the_catalog_has_them
    a_cascade_evicts_what_the_children_held
    partitions_count_whether_named_or_not_and_rows_that_move_evict_both_places
    a_table_without_primary_key_is_watched_like_any_other
    a_lookup_through_a_nullable_key_skips_null_and_follows_the_parent
    data_that_looks_like_a_pattern_is_only_data
}

fn quoted_names_and_uuid_keys_are_taken_as_the_catalog_has_them(delivery: Delivery) {
    let w = world(delivery);
    w.check(
        &format!(r#"UPDATE "shop.Eu"."Basket" SET note = 'n' WHERE "Id" = '{A}'"#),
        &[&format!("basket:{A}"), "owner:ann:x", "owner:ann:y:z"],
    );
    w.check(
        &format!(r#"UPDATE "shop.Eu"."Order Lines" SET "Basket" = '{B}' WHERE "Basket" = '{A}'"#),
        &[&format!("lines:{A}"), &format!("lines:{B}"), "owner-lines:ann", "owner-lines:bob"],
    );
}

fn a_cascade_evicts_what_the_children_held(delivery: Delivery) {
    let w = world(delivery);
    w.check(
        &format!(r#"DELETE FROM "shop.Eu"."Basket" WHERE "Id" = '{A}'"#),
        &[&format!("basket:{A}"), "owner:ann:x", "owner:ann:y:z", &format!("lines:{A}"), "owner-lines:ann"],
    );
}

fn partitions_count_whether_named_or_not_and_rows_that_move_evict_both_places(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE reading SET value = 2 WHERE day = '2025-06-01'", &["device:d:2025-06-01"]);
    w.check("UPDATE reading_2026 SET value = 2", &["device:d:2026-06-01"]);
    w.check("UPDATE reading SET value = 2", &[]);
    w.check(
        "DELETE FROM reading_2026; UPDATE reading SET day = '2026-06-01' WHERE day = '2025-06-01'",
        &["device:d:2025-06-01", "device:d:2026-06-01"],
    );
    w.check("TRUNCATE reading_2025", &["device:d:2025-06-01", "device:d:2026-06-01"]);
}

fn a_table_without_primary_key_is_watched_like_any_other(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE tag SET tag = 'u' WHERE owner = 'ann'", &["tags:ann"]);
    w.check("INSERT INTO tag VALUES ('bob', 't'), ('bob', 't')", &["tags:bob"]);
    w.check("DELETE FROM tag WHERE owner = 'bob'", &["tags:bob"]);
    w.check("UPDATE tag SET owner = 'bob'", &["tags:ann", "tags:bob"]);
}

fn a_lookup_through_a_nullable_key_skips_null_and_follows_the_parent(delivery: Delivery) {
    let w = world(delivery);
    w.check(r#"UPDATE "shop.Eu"."Order Lines" SET qty = 2 WHERE "Basket" IS NULL"#, &[]);
    w.check(
        &format!(r#"UPDATE "shop.Eu"."Order Lines" SET "Basket" = '{A}' WHERE "Basket" IS NULL"#),
        &[&format!("lines:{A}"), "owner-lines:ann"],
    );
    // The parent's own change moves the children's cache from one owner to the other.
    w.check(
        &format!(r#"UPDATE "shop.Eu"."Basket" SET "Owner ""Name""" = 'bob' WHERE "Id" = '{A}'"#),
        &[&format!("basket:{A}"), "owner:ann:x", "owner:ann:y:z", "owner:bob:x", "owner-lines:ann", "owner-lines:bob"],
    );
}

fn data_that_looks_like_a_pattern_is_only_data(delivery: Delivery) {
    let w = world(delivery);
    let insert = |owner: &str| format!(r#"INSERT INTO "shop.Eu"."Basket" VALUES (gen_random_uuid(), '{owner}')"#);
    w.check(&insert("*"), &["owner:*:x"]);
    w.check(&insert("[1]"), &["owner:[1]:x"]);
    w.check("INSERT INTO tag VALUES ('*')", &["tags:*"]);
    w.check("INSERT INTO tag VALUES ('[a]nn')", &["tags:[a]nn"]);
    if delivery == Delivery::Notify {
        // Over 64 kB a statement of notify delivery is whole table by contract.
        return;
    }
    let large = "k".repeat(200_000);
    w.fill(&[&format!("tags:{large}"), &format!("owner:{large}:x")]);
    w.check(&format!("INSERT INTO tag VALUES ('{large}')"), &[&format!("tags:{large}")]);
    w.check(&insert(&large), &[&format!("owner:{large}:x")]);
}
