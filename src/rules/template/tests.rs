use super::*;
use proptest::prelude::*;

fn render(source: &str, kind: Kind, value: &str) -> String {
    let t = Template::parse(source, kind).unwrap();
    String::from_utf8(t.render(b"p:", |_| Fill::Value(value.as_bytes())).bytes().to_vec()).unwrap()
}

#[test]
fn keys_render_verbatim_and_patterns_escape() {
    assert_eq!(render("u:{id}", Kind::Key, "*[1]"), "p:u:*[1]");
    assert_eq!(render("u:{id}:*", Kind::Pattern, "*[1]"), "p:u:\\*\\[1\\]:*");
    assert_eq!(render("day:{id}:*", Kind::Pattern, "2026-11-20"), "p:day:2026-11-20:*");
    assert_eq!(render("day[{id}]:*", Kind::Pattern, "^a-z"), "p:day[\\^a\\-z]:*");
    assert_eq!(render("u:{ id | trim | lower }", Kind::Key, " AB "), "p:u:ab");
    assert_eq!(render("a{{b}}:{id}", Kind::Key, "7"), "p:a{b}:7");
    assert_eq!(render("u:{id|tag}:x", Kind::Key, "7"), "p:u:{7}:x");
    assert_eq!(render("d:{at|date}:x", Kind::Key, "never"), "p:d:*:x");
}

#[test]
fn the_text_around_a_hole_cannot_be_changed_by_its_value() {
    for (source, value, expected) in [
        // The backslash would take the value's own escape, and leave a wildcard.
        ("u:\\{id}:*", "*", "p:u:\\*:*"),
        ("u:\\{id}:*", "7", "p:u:7:*"),
        ("u:[\\{id}]:*", "", "p:u:[]:*"),
        ("u:[{id}]:x", "7", "p:u:[7]:x"),
        ("u:[a-{id}]:*", "", "p:u:[a\\-]:*"),
        ("u:[{id}-z]:*", "5", "p:u:[5\\-z]:*"),
        ("u:[{id}--z]:*", "5", "p:u:[5\\--z]:*"),
        ("u:[{id}^a]:*", "", "p:u:[\\^a]:*"),
        ("u:[^{id}]:*", "a", "p:u:[^a]:*"),
        ("u:[a-c{id}]:*", "5", "p:u:[a-c5]:*"),
        ("u:[{id}", "5", "p:u:[5"),
        ("u:*{id}\\", "5", "p:u:*5\\"),
    ] {
        assert_eq!(render(source, Kind::Pattern, value), expected, "{source} with {value:?}");
    }
}

#[test]
fn whole_forms() {
    let whole = |s: &str, k| String::from_utf8(Template::parse(s, k).unwrap().whole(b"p*:").bytes().to_vec()).unwrap();
    assert_eq!(whole("u:{id}:*", Kind::Pattern), "p\\*:u:*:*");
    assert_eq!(whole("u:{a}{b}", Kind::Key), "p\\*:u:*");
    assert_eq!(whole("board", Kind::Key), "p*:board");
    assert_eq!(whole("u:\\{a}:*", Kind::Pattern), "p\\*:u:*:*");
    assert_eq!(whole("u:[{a}]:x", Kind::Pattern), "p\\*:u:?:x");
    assert_eq!(whole("u:[^x-{a}", Kind::Pattern), "p\\*:u:?");
    assert!(Template::parse("{a}:x", Kind::Key).unwrap().is_broad());
    assert!(Template::parse("*:x", Kind::Pattern).unwrap().is_broad());
    assert!(!Template::parse("u:{a}", Kind::Key).unwrap().is_broad());
}

#[test]
fn problems_have_their_places() {
    let problems =
        |s: &str, k| Template::parse(s, k).unwrap_err().into_iter().map(|e| (e.at, e.problem)).collect::<Vec<_>>();
    assert_eq!(problems("", Kind::Key), [(0..0, Problem::Empty)]);
    assert_eq!(problems("a{b", Kind::Key), [(1..2, Problem::Unclosed)]);
    assert_eq!(problems("a}b", Kind::Key), [(1..2, Problem::StrayBrace)]);
    assert_eq!(problems("a{}b", Kind::Key), [(1..3, Problem::NoName)]);
    assert_eq!(
        problems("a*:{b|lowr}", Kind::Key),
        [(1..2, Problem::WildcardInKey), (3..11, Problem::UnknownFilter("lowr".into()))]
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(s in "\\PC{0,24}", s2 in "[{}*|a:\\\\\\[]{0,12}") {
        for text in [s, s2] {
            for kind in [Kind::Key, Kind::Pattern] {
                if let Ok(t) = Template::parse(&text, kind) {
                    let _ = t.whole(b"x");
                    let _ = t.holes();
                }
            }
        }
    }

    #[test]
    fn the_whole_form_covers_every_rendering(a in "\\PC{0,6}", b in "[*?\\[\\]\\\\a]{0,4}") {
        for (source, kind) in [("x:{a}:{b}", Kind::Key), ("x:{a}:*:{b}", Kind::Pattern), ("x{a}{b}y", Kind::Key)] {
            let t = Template::parse(source, kind).unwrap();
            let Rendered::Pattern(whole) = t.whole(b"n:") else { panic!("holes make a pattern") };
            let one = t.render(b"n:", |h| Fill::Value(if h == "a" { a.as_bytes() } else { b.as_bytes() }));
            match one {
                Rendered::Key(k) => prop_assert!(glob::matches(&whole, &k)),
                Rendered::Pattern(p) => prop_assert!(glob::covers(&whole, &p)),
            }
        }
    }
}

/// A pattern template as an operator means it, apart from how it is spelled.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Star,
    Any,
    Class {
        negated: bool,
        members: Vec<Member>,
    },
    Hole(usize),
    /// A backslash in front of a hole, which says nothing.
    BackslashHole(usize),
}

#[derive(Debug, Clone)]
enum Member {
    Byte(char),
    Range(char, char),
    Hole(usize),
    /// `-` or `^` beside a hole, which stand for themselves.
    BesideHole(usize, char),
    BeforeHole(char, usize),
}

/// What matches one byte, or any number of them.
#[derive(Debug, Clone)]
enum Meaning {
    Byte(u8),
    Star,
    One { negated: bool, ranges: Vec<(u8, u8)> },
}

const HOLES: [&str; 2] = ["{a}", "{b}"];

impl Piece {
    fn source(&self) -> String {
        match self {
            Self::Text(text) => text
                .chars()
                .fold(String::new(), |out, c| out + if "*?[]\\".contains(c) { "\\" } else { "" } + &c.to_string()),
            Self::Star => "*".into(),
            Self::Any => "?".into(),
            Self::Class { negated, members } => {
                let inside: String = members.iter().map(Member::source).collect();
                format!("[{}{inside}]", if *negated { "^" } else { "" })
            }
            Self::Hole(n) => HOLES[*n].into(),
            Self::BackslashHole(n) => format!("\\{}", HOLES[*n]),
        }
    }

    /// None as a value: not known.
    fn meaning(&self, values: [Option<&str>; 2]) -> Vec<Meaning> {
        match self {
            Self::Text(text) => text.bytes().map(Meaning::Byte).collect(),
            Self::Star => vec![Meaning::Star],
            Self::Any => vec![Meaning::One { negated: true, ranges: Vec::new() }],
            Self::Class { negated, members } => {
                let ranges: Option<Vec<_>> = members.iter().map(|m| m.meaning(values)).collect();
                // Whatever stands there: one byte.
                let (negated, ranges) = ranges.map_or((true, Vec::new()), |r| (*negated, r.concat()));
                vec![Meaning::One { negated, ranges }]
            }
            Self::Hole(n) | Self::BackslashHole(n) => {
                values[*n].map_or_else(|| vec![Meaning::Star], |v| v.bytes().map(Meaning::Byte).collect())
            }
        }
    }
}

impl Member {
    fn source(&self) -> String {
        let escaped = |c: &char| if "]\\-^".contains(*c) { format!("\\{c}") } else { c.to_string() };
        match self {
            Self::Byte(c) => escaped(c),
            Self::Range(low, high) => format!("{low}-{high}"),
            Self::Hole(n) => HOLES[*n].into(),
            Self::BesideHole(n, c) => format!("{}{c}", HOLES[*n]),
            Self::BeforeHole(c, n) => format!("x{c}{}", HOLES[*n]),
        }
    }

    fn meaning(&self, values: [Option<&str>; 2]) -> Option<Vec<(u8, u8)>> {
        let one = |c: &char| (*c as u8, *c as u8);
        let value = |n: &usize| Some(values[*n]?.bytes().map(|b| (b, b)).collect::<Vec<_>>());
        Some(match self {
            Self::Byte(c) => vec![one(c)],
            Self::Range(low, high) => vec![(*low as u8, *high as u8)],
            Self::Hole(n) => value(n)?,
            Self::BesideHole(n, c) => [value(n)?, vec![one(c)]].concat(),
            Self::BeforeHole(c, n) => [vec![one(&'x'), one(c)], value(n)?].concat(),
        })
    }
}

/// The dialect in a few lines that share nothing with `glob`, for short keys.
fn means(meaning: &[Meaning], key: &[u8]) -> bool {
    let Some((first, rest)) = meaning.split_first() else { return key.is_empty() };
    match first {
        Meaning::Star => (0..=key.len()).any(|n| means(rest, &key[n..])),
        Meaning::Byte(b) => key.first() == Some(b) && means(rest, &key[1..]),
        Meaning::One { negated, ranges } => key.split_first().is_some_and(|(b, tail)| {
            ranges.iter().any(|(low, high)| (low..=high).contains(&b)) != *negated && means(rest, tail)
        }),
    }
}

/// A key that the pattern should match, chosen by `pick`; None where a class has no member.
fn instance(meaning: &[Meaning], pick: &mut impl FnMut(usize) -> usize) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for part in meaning {
        match part {
            Meaning::Byte(b) => key.push(*b),
            Meaning::Star => (0..pick(3)).for_each(|_| key.push(b"a*[]-"[pick(5)])),
            Meaning::One { .. } => {
                let members: Vec<u8> = (b'!'..=b'z').filter(|b| means(std::slice::from_ref(part), &[*b])).collect();
                key.push(*members.get(pick(members.len().max(1)))?);
            }
        }
    }
    Some(key)
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let odd = || prop::sample::select(vec!['a', 'b', ']', '[', '^', '-', '\\', '*', '?', ':']);
    let letter = || prop::sample::select(vec!['a', 'b', 'c', '0']);
    let mark = || prop::sample::select(vec!['-', '^']);
    let member = prop_oneof![
        odd().prop_map(Member::Byte),
        (letter(), letter()).prop_map(|(a, b)| Member::Range(a.min(b), a.max(b))),
        (0usize..2).prop_map(Member::Hole),
        ((0usize..2), mark()).prop_map(|(n, c)| Member::BesideHole(n, c)),
        (mark(), 0usize..2).prop_map(|(c, n)| Member::BeforeHole(c, n)),
    ];
    let piece = prop_oneof![
        3 => prop::collection::vec(odd(), 1..3).prop_map(|c| Piece::Text(c.into_iter().collect())),
        2 => Just(Piece::Star),
        1 => Just(Piece::Any),
        3 => (0usize..2).prop_map(Piece::Hole),
        1 => (0usize..2).prop_map(Piece::BackslashHole),
        2 => (any::<bool>(), prop::collection::vec(member, 0..4)).prop_map(|(negated, members)| Piece::Class { negated, members }),
    ];
    prop::collection::vec(piece, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any value in any pattern matches exactly what the operator meant, and the whole form all of that.
    #[test]
    fn a_pattern_with_any_values_matches_exactly_what_it_should(
        pieces in pieces(), a in "[*?\\[\\]^\\\\a-c-]{0,3}", b in "[*?\\[\\]^\\\\a-c-]{0,3}",
        choices in prop::collection::vec(any::<prop::sample::Index>(), 24), other in "[*?\\[\\]^\\\\a-c:-]{0,6}",
    ) {
        // A wildcard somewhere makes it a pattern in `check`, too; the fixed beginning keeps it from being broad.
        let source = pieces.iter().fold("u:".to_owned(), |out, p| out + &p.source());
        let template = Template::parse(&source, Kind::Pattern).unwrap();
        let fill = |hole: &str| Fill::Value(if hole == "a" { a.as_bytes() } else { b.as_bytes() });
        let Rendered::Pattern(pattern) = template.render(b"n*:", fill) else { panic!("a pattern") };
        let Rendered::Pattern(whole) = template.whole(b"n*:") else { panic!("a pattern") };
        let meaning = |values| -> Vec<Meaning> {
            b"n*:u:".iter().map(|b| Meaning::Byte(*b)).chain(pieces.iter().flat_map(|p| p.meaning(values))).collect()
        };
        let (exact, wide) = (meaning([Some(&a), Some(&b)]), meaning([None, None]));
        let mut next = choices.iter().cycle();
        let mut pick = |n: usize| next.next().unwrap().index(n);
        let mut keys = vec![format!("n*:u:{other}").into_bytes()];
        keys.extend(instance(&exact, &mut pick));
        keys.extend(instance(&wide, &mut pick));
        for i in 0..keys.len() {
            let mut changed = keys[i].clone();
            let at = pick(changed.len());
            changed[at] = b"ab*[]-\\^"[pick(8)];
            keys.push(changed);
        }
        for key in keys {
            let shown = String::from_utf8_lossy(&key).into_owned();
            let rendered = String::from_utf8_lossy(&pattern).into_owned();
            prop_assert_eq!(glob::matches(&pattern, &key), means(&exact, &key), "{} as {} against {}", source, rendered, shown);
            prop_assert_eq!(glob::matches(&whole, &key), means(&wide, &key), "whole {} against {}", source, shown);
        }
    }
}
