use super::*;
use crate::config::model::{Ops, TableName};
use crate::rules::fixture::{cache, config, lookup, table};
use crate::rules::layout::layouts;

fn calls() -> Config {
    let mut c = config();
    c.caches = vec![
        cache("dashboard", "dash:{user_id}"),
        cache("stats", "stats:{user_id}:*"),
        cache("board", "board"),
        cache("lead", "lead:{score}:{user_id}"),
    ];
    c.tables = vec![table("calls", &["dashboard", "stats", "board"]), table("leads", &["lead"])];
    c.tables[0].edges[1].ops = Ops { insert: true, update: true, delete: false };
    c.tables[1].lookups = vec![lookup("user_id", "call_id", "calls", "user_id")];
    c
}

fn layout(config: &Config, name: &str) -> Layout {
    layouts(config).into_iter().find(|l| &*l.table.name == name).unwrap()
}

/// The class of `layout` that holds this cache, and a tuple of it.
fn tuple(layout: &Layout, cache: &str, values: &[Option<&str>]) -> Tuple {
    let class = layout.classes.iter().position(|c| c.edges.iter().any(|e| e.cache == cache)).unwrap();
    let values = values.iter().map(|v| v.map(|s| s.as_bytes().to_vec())).collect();
    Tuple { class: i32::try_from(class).unwrap(), values }
}

fn texts(list: &[(EdgeRef, Target)]) -> Vec<String> {
    list.iter().map(|(_, t)| String::from_utf8(t.rendered.bytes().to_vec()).unwrap()).collect()
}

fn caches(layout: &Layout, refs: &[EdgeRef]) -> Vec<String> {
    refs.iter().map(|r| r.of(layout).unwrap().cache.clone()).collect()
}

#[test]
fn a_tuple_names_one_key_for_every_edge_and_version() {
    let mut c = calls();
    c.namespace.prefixes = vec![(Some("v1".into()), "app:v1:".into()), (Some("v2".into()), "app:v2:".into())];
    let l = layout(&c, "calls");
    let mut out = Mapped::default();
    Mapper::new(&c).tuple(&l, &tuple(&l, "dashboard", &[Some("7")]), &mut out).unwrap();
    assert_eq!(texts(&out.targets), ["app:v1:dash:7", "app:v2:dash:7"]);
    assert_eq!(out.targets[1].1.prefix, 1);
}

#[test]
fn null_skips_the_edges_that_need_the_value_and_no_others() {
    let mut c = calls();
    c.tables[0].edges[1].ops = Ops::ALL;
    let l = layout(&c, "calls");
    let m = Mapper::new(&c);
    let mut out = Mapped::default();
    m.tuple(&l, &tuple(&l, "dashboard", &[None]), &mut out).unwrap();
    m.tuple(&l, &tuple(&l, "board", &[None]), &mut out).unwrap();
    assert_eq!(caches(&l, &out.skipped_null), ["dashboard", "stats"]);
    assert_eq!(texts(&out.targets), ["board"]);
}

#[test]
fn a_parent_that_is_gone_is_counted_and_evicts_nothing() {
    let c = calls();
    let l = layout(&c, "leads");
    let mut out = Mapped::default();
    Mapper::new(&c).tuple(&l, &Tuple { class: -1, values: vec![None, None] }, &mut out).unwrap();
    assert_eq!((caches(&l, &out.unresolved), out.targets.len()), (vec!["lead".to_owned()], 0));
}

#[test]
fn at_the_parent_of_a_lookup_the_childs_own_holes_are_open() {
    let c = calls();
    let l = layout(&c, "calls");
    let mut out = Mapped::default();
    Mapper::new(&c).tuple(&l, &tuple(&l, "lead", &[Some("*")]), &mut out).unwrap();
    assert_eq!(texts(&out.targets), ["lead:*:\\*"]);
    assert_eq!(out.targets[0].1.rendered.kind(), Kind::Pattern);
}

#[test]
fn a_hole_that_an_older_layout_did_not_capture_is_open_and_a_cache_that_is_gone_is_reported() {
    let old = layout(&calls(), "calls");
    let mut c = calls();
    c.caches[0] = cache("dashboard", "dash:{region}:{user_id}");
    c.caches.remove(1);
    let mut out = Mapped::default();
    let m = Mapper::new(&c);
    m.tuple(&old, &tuple(&old, "dashboard", &[Some("7")]), &mut out).unwrap();
    m.tuple(&old, &tuple(&old, "stats", &[Some("7")]), &mut out).unwrap();
    assert_eq!(texts(&out.targets), ["dash:*:7"]);
    assert_eq!(caches(&old, &out.unknown), ["stats"]);
}

#[test]
fn truncate_takes_the_whole_form_of_every_edge_that_fires_on_delete() {
    let c = calls();
    let l = layout(&c, "calls");
    let m = Mapper::new(&c);
    let whole = |op, classes: Option<&[i32]>| {
        let mut out = Mapped::default();
        let fit = m.whole(&l, op, classes, &mut out);
        let mut texts = texts(&out.targets);
        texts.sort();
        (texts, fit)
    };
    assert_eq!(whole(Op::Truncate, None), (vec!["board".into(), "dash:*".into(), "lead:*:*".into()], Ok(())));
    assert_eq!(whole(Op::Update, None).0.len(), 4);
    let stats = tuple(&l, "stats", &[]).class;
    assert_eq!(whole(Op::Delete, Some(&[stats])).0, ["stats:*:*"], "a listed class goes whatever the operation");
    assert_eq!(whole(Op::Delete, Some(&[stats, 99])), (vec!["stats:*:*".into()], Err(Misfit::Class(99))));
}

#[test]
fn rows_that_their_layout_cannot_have_written_are_an_error() {
    let c = calls();
    let l = layout(&c, "calls");
    let mut out = Mapped::default();
    for (class, values, misfit) in
        [(99, vec![], Misfit::Class(99)), (i32::MIN, vec![], Misfit::Class(i32::MIN)), (0, vec![], Misfit::Short(0))]
    {
        assert_eq!(Mapper::new(&c).tuple(&l, &Tuple { class, values }, &mut out), Err(misfit));
    }
    assert_eq!(out, Mapped::default());
}

#[test]
fn what_is_protected_is_named_but_not_a_target() {
    let mut c = calls();
    c.limits.never_delete = vec!["dash:7*".into(), "stats:*".into()];
    c.redis.state = "boa".into();
    let l = layout(&c, "calls");
    let m = Mapper::new(&c);
    let mut out = Mapped::default();
    for (cache, value) in [("dashboard", "7"), ("dashboard", "8"), ("stats", "8")] {
        m.tuple(&l, &tuple(&l, cache, &[Some(value)]), &mut out).unwrap();
    }
    assert_eq!(
        (texts(&out.protected), texts(&out.targets)),
        (vec!["dash:7".into(), "stats:8:*".into()], vec!["dash:8".into()])
    );
    assert_eq!(m.protection().pattern(b"dash:*"), None, "other keys of it may go");
    assert_eq!(m.protection().key(b"boa:position"), Some(Exempt::Own));
    assert_eq!(m.protection().key(b"board"), None);
    assert_eq!(m.protection().pattern(b"boa:*"), Some(Exempt::Own));
}

#[test]
fn an_edge_keeps_its_child_table_in_view() {
    let c = calls();
    let l = layout(&c, "calls");
    let via = l.classes.iter().flat_map(|c| &c.edges).filter_map(|e| e.via.clone()).collect::<Vec<_>>();
    assert_eq!(via, [TableName { schema: "public".into(), name: "leads".into() }]);
}

#[test]
fn what_no_fill_can_name_is_told_from_what_one_names() {
    let mut c = config();
    c.caches = vec![cache("day", "day:{at|date}"), cache("list", "list:{at|date}:*"), cache("open", "open:{at|date}")];
    c.caches[..2].iter_mut().for_each(|cache| cache.guard_fills = true);
    c.tables = vec![table("calls", &["day", "list", "open"])];
    let l = layout(&c, "calls");
    let m = Mapper::new(&c);
    let widened = |out: &Mapped| out.targets.iter().map(|(_, t)| t.widened).collect::<Vec<_>>();
    for (value, expected) in [("2026-11-20", [false; 3]), ("no day", [true, true, false])] {
        let mut out = Mapped::default();
        m.tuple(&l, &tuple(&l, "day", &[Some(value)]), &mut out).unwrap();
        assert_eq!(widened(&out), expected, "{value}");
    }
    let mut out = Mapped::default();
    m.whole(&l, Op::Truncate, None, &mut out).unwrap();
    assert_eq!(widened(&out), [true, true, false]);
}
