use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { open: 3, bytes: 4096, age: Duration::from_secs(5) };
const BODY: &str =
    r#"{"at":"2026-11-20T12:00:00.123456Z","classes":null,"tuples":[["0","7 x",null],["-1",null,null]],"note":null}"#;

/// Cuts `text` into `total` slices whose indices begin with `first`.
fn slices(layout: i64, id: &str, text: &str, total: usize, first: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(total).max(1);
    (0..total)
        .map(|i| {
            let piece: String = chars.iter().skip(i * size).take(size).collect();
            format!("1 {layout} u r {id} {} {total} {piece}", i + first)
        })
        .collect()
}

fn broken(layout: i64, why: Why) -> Step {
    Step::Broken(Broken { layout: Some(layout), why })
}

#[test]
fn a_statement_in_one_slice_is_complete_at_once() {
    let mut a = Assembler::new(LIMITS);
    let steps = a.take(1, &format!("1 42 u r 9-1 1 1 {BODY}"), Instant::now());
    let [Step::Complete(n)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((n.layout, n.op, n.kind, &n.classes, &n.note), (42, Op::Update, RowKind::Rows, &None, &None));
    assert_eq!(
        n.tuples,
        [Tuple { class: 0, values: vec![Some(b"7 x".to_vec()), None] }, Tuple { class: -1, values: vec![None, None] }]
    );
    let since = n.at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(since, Duration::from_micros(1_795_176_000_123_456));
}

#[test]
fn a_whole_table_statement_lists_its_classes() {
    let mut a = Assembler::new(LIMITS);
    let steps = a.take(1, r#"1 42 t x 9 0 1 {"at":null,"classes":[0,2],"tuples":null,"note":"gone"}"#, Instant::now());
    let [Step::Complete(n)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((n.op, n.kind, n.tuples.len()), (Op::Truncate, RowKind::Degraded, 0));
    assert_eq!((n.classes.as_deref(), n.note.as_deref()), (Some([0, 2].as_slice()), Some("gone")));
}

#[test]
fn slices_that_do_not_come_are_given_up_with_their_layout() {
    let mut a = Assembler::new(LIMITS);
    let now = Instant::now();
    assert_eq!(a.take(1, &slices(42, "9", BODY, 2, 1)[0], now), [Step::Pending]);
    assert_eq!(a.deadline(), Some(now + LIMITS.age));
    assert_eq!(a.expire(now + LIMITS.age - Duration::from_nanos(1)), []);
    assert_eq!(a.expire(now + LIMITS.age), [Broken { layout: Some(42), why: Why::Incomplete }]);
    assert_eq!(a.deadline(), None);
    a.take(1, &slices(42, "9", BODY, 2, 1)[0], now);
    assert_eq!(a.clear(), [Broken { layout: Some(42), why: Why::Incomplete }]);
}

#[test]
fn the_oldest_gives_way_when_too_many_are_open() {
    let mut a = Assembler::new(LIMITS);
    let now = Instant::now();
    for layout in 0..3 {
        assert_eq!(a.take(1, &slices(layout, &layout.to_string(), BODY, 2, 0)[0], now), [Step::Pending]);
    }
    let steps = a.take(1, &slices(9, "9", BODY, 2, 0)[0], now);
    assert_eq!(steps, [broken(0, Why::Crowded), Step::Pending]);
}

#[test]
fn bytes_are_bounded_even_for_a_single_statement() {
    let mut a = Assembler::new(LIMITS);
    let steps = a.take(1, &format!("1 42 u r 9 0 2 {}", "x".repeat(5000)), Instant::now());
    assert_eq!(steps, [broken(42, Why::Crowded)]);
    assert_eq!(a.bytes, 0);
}

#[test]
fn contradictions_name_every_layout_they_touch() {
    let mut a = Assembler::new(LIMITS);
    let now = Instant::now();
    a.take(1, "1 42 u r 9 0 2 a", now);
    assert_eq!(a.take(1, "1 43 u r 9 1 2 b", now), [broken(43, Why::Contradiction), broken(42, Why::Contradiction)]);
    a.take(1, "1 42 u r 9 0 2 a", now);
    assert_eq!(a.take(1, "1 42 u r 9 0 2 a", now), [Step::Pending], "a repeat is harmless");
    assert_eq!(a.take(1, "1 42 u r 9 0 2 other", now), [broken(42, Why::Contradiction)]);
    a.take(1, "1 42 u r 9 0 2 a", now);
    assert_eq!(a.take(1, "1 42 u r 9 2 2 b", now), [broken(42, Why::Contradiction)], "0 and 2 leave 1 out");
}

#[test]
fn another_session_cannot_disturb_a_statement() {
    let mut a = Assembler::new(LIMITS);
    let now = Instant::now();
    let s = slices(42, "9", BODY, 2, 0);
    a.take(1, &s[0], now);
    assert_eq!(a.take(2, "1 42 u r 9 1 2 forged", now), [Step::Pending]);
    assert!(matches!(a.take(1, &s[1], now).as_slice(), [Step::Complete(_)]));
}

#[test]
fn foreign_payloads_say_what_they_lack() {
    let why = |p: &str| parse(p).unwrap_err();
    assert_eq!(why(""), Broken { layout: None, why: Why::Version });
    assert_eq!(why("2 42 u r 9 0 1 {}"), Broken { layout: None, why: Why::Version });
    assert_eq!(why("1 x"), Broken { layout: None, why: Why::Field("layout") });
    for (payload, field) in [
        ("1 42", "op"),
        ("1 42 uu r 9 0 1 {}", "op"),
        ("1 42 u q 9 0 1 {}", "kind"),
        ("1 42 u r  0 1 {}", "id"),
        ("1 42 u r 9 -1 1 {}", "index"),
        ("1 42 u r 9 3 2 {}", "index"),
        ("1 42 u r 9 0 0 {}", "total"),
        ("1 42 u r 9 0 1", "slice"),
    ] {
        assert_eq!(why(payload), Broken { layout: Some(42), why: Why::Field(field) }, "{payload}");
    }
    let mut a = Assembler::new(LIMITS);
    let steps = a.take(1, r#"1 42 u r 9 0 1 {"tuples":[[]]}"#, Instant::now());
    assert_eq!(steps, [broken(42, Why::Content(PayloadError::NoClass))]);
}

#[test]
fn times_are_read_or_left_out() {
    let unix = |s: &str| instant(s).map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64());
    assert_eq!(unix("1970-01-01T00:00:00Z"), Some(0.0));
    assert_eq!(unix("2024-02-29T23:59:59.5Z"), Some(1_709_251_199.5));
    for bad in
        ["", "Z", "2026-11-20 12:00:00Z", "1969-12-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-20T12:00:00.Z"]
    {
        assert_eq!(unix(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn slices_in_any_order_make_the_statement(total in 1usize..6, first in 0usize..2, seed in any::<u64>()) {
        let mut parts = slices(42, "9-7", BODY, total, first);
        let n = parts.len();
        for i in (1..n).rev() {
            parts.swap(i, (seed.wrapping_mul(i as u64 + 7) % (i as u64 + 1)) as usize);
        }
        let mut a = Assembler::new(LIMITS);
        let now = Instant::now();
        let last = parts.iter().map(|p| a.take(1, p, now)).last().unwrap();
        let complete = matches!(last.as_slice(), [Step::Complete(n)] if n.tuples.len() == 2);
        prop_assert!(complete, "{last:?}");
        prop_assert_eq!(a.bytes, 0);
    }

    #[test]
    fn nothing_panics_and_the_limits_hold(
        payloads in prop::collection::vec(
            prop_oneof!["\\PC{0,40}", "1 [0-9]{1,3} [iudt] [rwx] [a-d] [0-3] [1-3] [a-z{}\"]{0,90}"], 0..40)
    ) {
        let limits = Limits { bytes: 600, ..LIMITS };
        let mut a = Assembler::new(limits);
        let start = Instant::now();
        for (i, p) in payloads.iter().enumerate() {
            let now = start + Duration::from_millis(300 * i as u64);
            a.expire(now);
            a.take((i % 2) as i32, p, now);
            prop_assert!(a.open.len() <= LIMITS.open && a.bytes <= limits.bytes);
            prop_assert!(a.order.len() <= 2 * LIMITS.open.max(16) + 1);
        }
        a.clear();
        prop_assert_eq!((a.open.len(), a.bytes, a.order.len()), (0, 0, 0));
    }

    #[test]
    fn times_never_panic(s in "\\PC{0,30}", t in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,16}Z") {
        let _ = instant(&s);
        let _ = instant(&t);
    }
}
