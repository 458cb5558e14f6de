use super::*;
use crate::config::model::{Ops, When};
use crate::rules::fixture::{cache, config, lookup, table};

/// `a=1 b=NULL` → a row.
fn row(text: &str) -> Row {
    let pair = |p: &str| {
        let (name, value) = p.split_once('=').unwrap();
        (name.to_owned(), (value != "NULL").then(|| value.to_owned()))
    };
    text.split_whitespace().map(pair).collect()
}

fn calls() -> Config {
    let mut c = config();
    c.caches = vec![
        cache("dash", "dash:{user_id}"),
        cache("stats", "stats:{user_id}:*"),
        cache("card", "card:{agent_id}"),
        cache("lead", "lead:{id}:{user_id}"),
    ];
    c.tables = vec![table("calls", &["dash", "stats", "card"]), table("leads", &["lead"]), table("agents", &["card"])];
    c.tables[0].columns = Some(vec!["status".into()]);
    c.tables[0].edges[2].ops = Ops { insert: true, update: false, delete: true };
    c.tables[1].columns = Some(vec!["score".into()]);
    c.tables[1].lookups = vec![lookup("user_id", "call_id", "calls", "user_id")];
    c.tables[2].edges[0].with.insert("agent_id".into(), "id".into());
    c.tables[2].when = vec![When { column: "state".into(), values: vec!["on".into(), "off".into()] }];
    c
}

/// Rows as text; `-` for none. Keys that go, or the error.
fn run(c: &Config, table: &str, old: &str, new: &str) -> Result<Vec<String>, String> {
    full(c, table, old, new)
        .map(|e| e.evict.iter().map(|e| String::from_utf8(e.rendered.bytes().to_vec()).unwrap()).collect())
}

fn full(c: &Config, table: &str, old: &str, new: &str) -> Result<Evaluation, String> {
    let table = TableName { schema: "public".into(), name: table.into() };
    let image = |text: &str| (text != "-").then(|| row(text));
    let (old, new) = (image(old), image(new));
    let truncate = old.is_none() && new.is_none();
    let event = Event::from_images(old.as_ref(), new.as_ref(), truncate).unwrap();
    evaluate(c, &table, event).map_err(|e| e.to_string())
}

fn check(c: &Config, table: &str, old: &str, new: &str, expected: &[&str]) {
    assert_eq!(run(c, table, old, new).unwrap(), expected, "{table}: {old} → {new}");
}

#[test]
fn every_operation_evicts_what_the_trigger_would() {
    let c = calls();
    check(&c, "calls", "-", "user_id=7 agent_id=3", &["card:3", "dash:7", "lead:*:7", "stats:7:*"]);
    check(&c, "calls", "user_id=7 agent_id=3", "-", &["card:3", "dash:7", "lead:*:7", "stats:7:*"]);
    check(&c, "calls", "user_id=7 status=a", "user_id=7 status=b", &["dash:7", "stats:7:*"]);
    check(
        &c,
        "calls",
        "user_id=7",
        "user_id=8",
        &["dash:7", "dash:8", "lead:*:7", "lead:*:8", "stats:7:*", "stats:8:*"],
    );
    check(&c, "calls", "user_id=7 note=a", "user_id=7 note=b", &[]);
    check(&c, "calls", "-", "-", &["card:*", "dash:*", "lead:*:*", "stats:*:*"]);
    check(&c, "agents", "id=3 state=on", "-", &["card:3"]);
}

#[test]
fn an_update_counts_by_the_listed_columns_and_those_that_holes_need() {
    let c = calls();
    check(&c, "calls", "user_id=7 status=NULL", "user_id=7 status=NULL", &[]);
    check(&c, "calls", "user_id=7 status=NULL", "user_id=7 status=x", &["dash:7", "stats:7:*"]);
    check(&c, "calls", "user_id=7", "user_id=7 status=x", &["dash:7", "stats:7:*"]);
    let e = full(&c, "calls", "user_id=7 note=a", "user_id=7 note=b").unwrap();
    let why = e.unaffected.iter().map(|u| (u.cache.as_str(), u.filter)).collect::<Vec<_>>();
    let expected =
        [("card", Filter::Ops), ("dash", Filter::Columns), ("lead", Filter::Columns), ("stats", Filter::Columns)];
    assert_eq!(why, expected);
}

#[test]
fn a_condition_met_on_one_side_counts_for_both() {
    let c = calls();
    check(&c, "agents", "id=3 state=new", "id=4 state=on", &["card:3", "card:4"]);
    check(&c, "agents", "id=3 state=new", "id=4 state=NULL", &[]);
    check(&c, "agents", "-", "id=4 state=new", &[]);
    check(&c, "agents", "-", "-", &["card:*"]);
    assert_eq!(
        run(&c, "agents", "id=3 state=on", "id=4").unwrap_err(),
        "the new row of agents lacks `state`, which `when` tests for cache card"
    );
}

#[test]
fn looked_up_holes_are_given_by_their_own_name() {
    let c = calls();
    check(&c, "leads", "-", "id=1 user_id=7", &["lead:1:7"]);
    check(&c, "leads", "id=1 user_id=7", "id=1 user_id=8", &["lead:1:7", "lead:1:8"]);
    check(&c, "leads", "id=1 user_id=7 x=1", "id=1 user_id=7 x=2", &[]);
    check(&c, "leads", "-", "id=1 call_id=NULL", &[]);
    assert_eq!(
        run(&c, "leads", "-", "id=1 call_id=4").unwrap_err(),
        "the new row of leads lacks `user_id`, which cache lead gets through a lookup: give its value as `user_id`"
    );
}

#[test]
fn a_missing_hole_is_named_with_its_table_cache_and_image() {
    let c = calls();
    let error = |t, old, new| run(&c, t, old, new).unwrap_err();
    assert_eq!(error("calls", "user_id=7", "status=x"), "the new row of calls lacks `user_id`, a hole of cache dash");
    assert_eq!(
        error("agents", "state=on", "-"),
        "the old row of agents lacks `id`, the column of hole `agent_id` of cache card"
    );
    assert_eq!(error("users", "-", "-"), "no table `users` in the configuration");
}

#[test]
fn null_and_exempt_keys_are_skipped_with_their_reason() {
    let mut c = calls();
    c.limits.never_delete = vec!["stats:8:*".into()];
    let e = full(&c, "calls", "user_id=NULL status=a", "user_id=8 status=b").unwrap();
    assert_eq!(e.evict.iter().map(|e| e.cache.as_str()).collect::<Vec<_>>(), ["dash", "lead"]);
    let skipped = e.skipped.iter().map(|s| (s.cache.as_str(), s.reason.as_str())).collect::<Vec<_>>();
    assert_eq!(skipped, [("dash", "null"), ("lead", "null"), ("stats", "null"), ("stats", "never_delete")]);
}

#[test]
fn every_version_is_named_and_both_images_of_a_value_are_one_reason() {
    let mut c = calls();
    c.namespace.prefixes = vec![(Some("v1".into()), "n:v1:".into()), (Some("v2".into()), "n:v2:".into())];
    let e = full(&c, "calls", "user_id=7 status=a", "user_id=7 status=b").unwrap();
    let one = &e.evict[0];
    assert_eq!((one.version.as_deref(), one.bare.bytes(), e.evict.len()), (Some("v1"), b"dash:7".as_slice(), 4));
    assert_eq!(one.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(), ["user_id=7 (old and new)"]);
    let parent = full(&c, "calls", "-", "user_id=7 agent_id=1").unwrap();
    let lead = parent.evict.iter().find(|e| e.cache == "lead").unwrap();
    assert_eq!(lead.reasons[0].to_string(), "through leads: id unknown user_id=7 (new)");
}

#[test]
fn an_event_needs_a_row_or_truncate_and_not_both() {
    let r = row("a=1");
    assert_eq!(Event::from_images(None, None, false), None);
    assert_eq!(Event::from_images(Some(&r), None, true), None);
}
