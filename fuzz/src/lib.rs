//! What the fuzz targets do with bytes: read them as pgevict would, and hold what comes out against what it must be.
//!
//! Plain functions, so that `tests/fuzz.rs` runs them on the stable toolchain too, over mutated seeds for a few seconds.
//! An input of several parts has a line for each.

use pgevict::config::{self, Environment};
use pgevict::rules::glob;
use pgevict::rules::layout::{Layout, layouts};
use pgevict::rules::payload::{self, notify};
use pgevict::rules::query::Query;
use pgevict::rules::snapshot::Snapshot;
use pgevict::rules::template::{Fill, Kind, Rendered, Template};
use postgres_protocol::types::array_from_sql;
use std::time::{Duration, Instant};
use tokio_postgres::fallible_iterator::FallibleIterator as _;

/// Reads some bytes, and panics where something is wrong.
pub type Target = fn(&[u8]);

/// All of them by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("payload", payload),
    ("notify", notify),
    ("config", config),
    ("template", template),
    ("snapshot", snapshot),
    ("glob", glob),
    ("query", query),
];

/// The tuples of a journal row: what is decoded is what the driver's own decoder finds, and nothing else is decoded.
pub fn payload(data: &[u8]) {
    let Ok(tuples) = payload::tuples(data) else { return };
    if tuples.is_empty() {
        return;
    }
    let array = array_from_sql(data).expect("an array");
    let values: Vec<Option<&[u8]>> = array.values().collect().expect("its values");
    let width = tuples[0].values.len() + 1;
    assert_eq!(values.len(), tuples.len() * width);
    for (tuple, elements) in tuples.iter().zip(values.chunks(width)) {
        let class = std::str::from_utf8(elements[0].expect("a class")).expect("digits");
        assert_eq!(class.parse(), Ok(tuple.class));
        assert!(tuple.values.iter().map(Option::as_deref).eq(elements[1..].iter().copied()));
    }
}

/// Notifications, a line each, from two sessions in turn: bounded, and nothing is left when the session ends.
pub fn notify(data: &[u8]) {
    let limits = notify::Limits { open: 4, bytes: 4096, age: Duration::from_secs(5) };
    let mut assembler = notify::Assembler::new(limits);
    let start = Instant::now();
    let text = String::from_utf8_lossy(data);
    for (i, line) in text.split('\n').enumerate() {
        let now = start + Duration::from_millis(400 * i as u64);
        assert!(assembler.expire(now).len() <= limits.open);
        for step in assembler.take((i % 2) as i32, line, now) {
            if let notify::Step::Complete(statement) = step {
                let bytes: usize = statement.tuples.iter().flat_map(|t| t.values.iter().flatten()).map(Vec::len).sum();
                assert!(bytes <= text.len(), "more than was sent");
            }
        }
    }
    assert!(assembler.clear().len() <= limits.open);
    assert_eq!(assembler.deadline(), None);
}

/// A configuration: valid, or problems that can be drawn. What is valid can be installed and evicted whole.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, "config.toml", &Environment::empty()) {
        Ok((config, warnings)) => {
            assert!(!warnings.has_errors());
            for layout in layouts(&config) {
                let stored = layout.to_json();
                assert_eq!(Layout::from_json(&stored).as_ref(), Ok(&layout), "{stored}");
            }
            for cache in &config.caches {
                assert!(!cache.template.whole(b"").bytes().is_empty());
            }
        }
        Err(report) => {
            assert!(report.has_errors() && !report.to_text(false).is_empty());
            let _ = report.to_json();
        }
    }
}

/// A template and the values of all its holes: a key renders as itself, a value never widens a pattern, and the whole form
/// matches whatever is rendered.
pub fn template(data: &[u8]) {
    let mut lines = data.splitn(3, |b| *b == b'\n');
    let Some(Ok(source)) = lines.next().map(std::str::from_utf8) else { return };
    let value = lines.next().unwrap_or_default();
    let other = lines.next().unwrap_or_default();
    for kind in [Kind::Key, Kind::Pattern] {
        let Ok(template) = Template::parse(source, kind) else { continue };
        let whole = template.whole(b"n:");
        let rendered = template.render(b"n:", |_| Fill::Value(value));
        match (&whole, &rendered) {
            (Rendered::Key(a), Rendered::Key(b)) => assert_eq!(a, b),
            (Rendered::Pattern(whole), Rendered::Key(key)) => assert!(glob::matches(whole, key)),
            (Rendered::Pattern(whole), Rendered::Pattern(pattern)) => {
                // Inside a class a hole is one byte of its value, so there is no key without one.
                if let Some(key) = glob::example(pattern, b"nobody") {
                    assert!(glob::matches(whole, &key), "{}", key.escape_ascii());
                }
            }
            (Rendered::Key(_), Rendered::Pattern(_)) => panic!("a value made a key without holes a pattern"),
        }
        // A template that names one key alone names it for this value alone.
        let plain = template.segments.iter().all(|s| !matches!(s, pgevict::rules::template::Segment::Glob(_)));
        let exact = template.is_named_by(|_| Fill::Value(value)) && template.is_named_by(|_| Fill::Value(other));
        if let (Rendered::Pattern(pattern), true, true) = (&rendered, plain, exact)
            && let Rendered::Pattern(foreign) = template.render(b"n:", |_| Fill::Value(other))
        {
            let key = glob::example(&[foreign.as_slice(), b"*"].concat(), b"").unwrap_or_default();
            let same = glob::canonical(pattern) == glob::canonical(&foreign);
            assert_eq!(glob::matches(pattern, &key), same, "{}", key.escape_ascii());
        }
    }
}

/// Two snapshots, a line each: text round trips, and containment is what it says for the ids around their borders.
pub fn snapshot(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read: Vec<Snapshot> = text.split('\n').take(2).filter_map(|line| line.parse().ok()).collect();
    for s in &read {
        assert_eq!(s.to_string().parse().as_ref(), Ok(s));
        assert!(s.contains(s) && s.xmin() <= s.xmax() && !s.sees(s.xmax()) && s.sees(s.xmin() - 1));
    }
    if let [a, b] = read.as_slice()
        && a.contains(b)
    {
        let borders = [a.xmin(), a.xmax(), b.xmin(), b.xmax()];
        let near = borders.into_iter().flat_map(|x| x.saturating_sub(3)..=x.saturating_add(3));
        assert!(near.into_iter().all(|x| a.sees(x) || !b.sees(x)), "{a} contains {b}");
    }
}

/// A pattern, a key and another pattern: the matcher against one that is written otherwise, and what follows from a match.
pub fn glob(data: &[u8]) {
    let mut lines = data.splitn(3, |b| *b == b'\n');
    let (pattern, key) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let other = lines.next().unwrap_or_default();
    if pattern.len() * key.len() > 1 << 16 || pattern.len() * other.len() > 1 << 16 {
        return;
    }
    let matched = glob::matches(pattern, key);
    assert_eq!(matched, reference(pattern, key), "{} against {}", pattern.escape_ascii(), key.escape_ascii());
    assert!(!matched || key.starts_with(&glob::literal_prefix(pattern)));
    assert!(key.is_empty() || glob::matches(&glob::canonical(pattern), key) == matched);
    assert!(glob::matches(&glob::escape(key), key));
    if glob::covers(other, pattern) {
        assert!(!matched || glob::matches(other, key));
    }
    if matched && glob::matches(other, key) && !key.is_empty() {
        assert!(glob::intersects(pattern, other));
    }
    if let Some(example) = glob::example(pattern, b"nobody") {
        assert!(glob::matches(pattern, &example));
    }
}

/// Which ends of the pattern are reached by which beginnings of the key: no backtracking, so nothing in common with the matcher.
fn reference(pattern: &[u8], key: &[u8]) -> bool {
    if key.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let mut reached: Vec<bool> = (0..=key.len()).map(|n| n == 0).collect();
    let mut at = 0;
    while at < pattern.len() {
        let rest = &pattern[at..];
        let (members, length): (Vec<bool>, usize) = match rest {
            [b'*', ..] => {
                let first = reached.iter().position(|r| *r).unwrap_or(reached.len());
                reached.iter_mut().skip(first).for_each(|r| *r = true);
                at += 1;
                continue;
            }
            [b'?', ..] => (vec![true; 256], 1),
            [b'[', ..] => members(rest),
            [b'\\', b, ..] => (one(*b), 2),
            [b, ..] => (one(*b), 1),
            [] => break,
        };
        for n in (0..=key.len()).rev() {
            reached[n] = n > 0 && reached[n - 1] && members[usize::from(key[n - 1])];
        }
        at += length;
    }
    reached[key.len()]
}

fn one(byte: u8) -> Vec<bool> {
    (0..=255).map(|b: u8| b == byte).collect()
}

/// The bytes of the class that `text` begins with, and its length.
fn members(text: &[u8]) -> (Vec<bool>, usize) {
    let negated = text.get(1) == Some(&b'^');
    let (mut set, mut at) = (vec![false; 256], if negated { 2 } else { 1 });
    while at < text.len() && text[at] != b']' {
        match &text[at..] {
            [b'\\', b, ..] => {
                set[usize::from(*b)] = true;
                at += 2;
            }
            [low, b'-', high, ..] => {
                // C's char.
                let (low, high) = (*low as i8, *high as i8);
                (low.min(high)..=low.max(high)).for_each(|b| set[usize::from(b as u8)] = true);
                at += 3;
            }
            [b, ..] => {
                set[usize::from(*b)] = true;
                at += 1;
            }
            [] => {}
        }
    }
    set.iter_mut().for_each(|s| *s = *s != negated);
    (set, text.len().min(at + 1))
}

/// `warm.sql`: what is not a parameter stays as it is, and there are as many of them as names.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Query::parse(text) {
        Ok(query) => {
            let named = query.parameters.iter().enumerate().fold(query.text.clone(), |text, (i, name)| {
                // From the last on, so that `$1` is not found in `$10`.
                let i = query.parameters.len() - i;
                let name = query.parameters.get(i - 1).unwrap_or(name);
                text.replace(&format!("${i}"), &format!(":{name}"))
            });
            // A semicolon at the end goes.
            let blanks = |s: &str| s.chars().filter(|c| !c.is_whitespace() && *c != ';').collect::<String>();
            // A name may stand in quotes; what that looked like is forgotten.
            if !text.contains('$') && !text.contains(":\"") {
                assert_eq!(blanks(text), blanks(&named), "{text:?} became {named:?}");
            }
            for i in 1..=query.parameters.len() {
                assert!(query.text.contains(&format!("${i}")));
            }
        }
        Err(error) => assert!(text.get(error.at.clone()).is_some(), "{error:?}"),
    }
}
