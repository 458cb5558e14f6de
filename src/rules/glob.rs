//! Redis' glob dialect: a matcher equal to the server's, escaping, and "does one pattern cover another".
//!
//! Read from `stringmatchlen` of Redis 7.0 and held against a real server by a differential test. Its oddities
//! (FACTS, Redis): only `^` negates a class, a class without its `]` runs to the end of the pattern, a range may
//! be written downwards, a backslash at the very end stands for itself, and the empty key is matched by `*` alone.
//! Bounds of a range are C's `char`: from 0x80 on they count as negative on x86-64; a server on ARM would disagree.

/// True when `key` matches `pattern` as `KEYS pattern` on a server would say.
///
/// Runs in `O(pattern × key)` at worst: on a mismatch only the last `*` is tried again, which is enough because an
/// earlier `*` can give up nothing that the last one could not take.
#[must_use]
pub fn matches(pattern: &[u8], key: &[u8]) -> bool {
    // The server's loop does not begin on an empty key, so no star takes it, except that it never asks for `*`.
    if key.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut p, mut k) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            last_star = Some((p, k));
            p += 1;
            continue;
        }
        if k == key.len() {
            return p == pattern.len();
        }
        if p < pattern.len()
            && let (true, next) = one(pattern, p, key[k])
        {
            p = next;
            k += 1;
            continue;
        }
        match last_star {
            Some((star, taken)) => {
                p = star + 1;
                k = taken + 1;
                last_star = Some((star, k));
            }
            None => return false,
        }
    }
}

/// Matches one pattern element (not `*`) against one byte; returns where the next element begins.
fn one(pattern: &[u8], at: usize, byte: u8) -> (bool, usize) {
    match pattern[at] {
        b'?' => (true, at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte, at + 2),
        literal => (literal == byte, at + 1),
    }
}

fn class(pattern: &[u8], mut at: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut hit = false;
    loop {
        match pattern.get(at) {
            // An unclosed class ends with the pattern.
            None => return (hit != negated, at),
            Some(b']') => return (hit != negated, at + 1),
            Some(b'\\') if at + 1 < pattern.len() => {
                hit |= pattern[at + 1] == byte;
                at += 2;
            }
            Some(&low) if pattern.len() - at >= 3 && pattern[at + 1] == b'-' => {
                let high = pattern[at + 2];
                let (low, high, byte) = (low.cast_signed(), high.cast_signed(), byte.cast_signed());
                hit |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            Some(&literal) => {
                hit |= literal == byte;
                at += 1;
            }
        }
    }
}

/// Appends `literal` to `out` so that, outside a class, it matches itself and nothing else.
pub fn escape_into(out: &mut Vec<u8>, literal: &[u8]) {
    for &b in literal {
        if !crate::planted::is("unescaped-glob") && matches!(b, b'*' | b'?' | b'[' | b']' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
}

/// As [`escape_into`], and each byte also stands for itself where it lands between the brackets of a class. Not the
/// rule everywhere, because `2026\-11\-20` in every log line helps nobody.
pub fn escape_in_class_into(out: &mut Vec<u8>, literal: &[u8]) {
    for &b in literal {
        if matches!(b, b'*' | b'?' | b'[' | b']' | b'^' | b'-' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
}

/// [`escape_into`] a new buffer.
#[must_use]
pub fn escape(literal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(literal.len() + 8);
    escape_into(&mut out, literal);
    out
}

/// The literal bytes that every match of `pattern` begins with (unescaped).
#[must_use]
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < pattern.len() {
        match pattern[i] {
            b'*' | b'?' | b'[' => break,
            b'\\' if i + 1 < pattern.len() => {
                out.push(pattern[i + 1]);
                i += 2;
            }
            b => {
                out.push(b);
                i += 1;
            }
        }
    }
    out
}

/// A key that `pattern` matches, with `stand_in` where its first `*` is: for asking a server about such keys without meaning
/// one that exists. None without a `*`, or where a class takes no byte.
#[must_use]
pub fn example(pattern: &[u8], stand_in: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut star = Some(stand_in);
    let mut i = 0;
    while i < pattern.len() {
        if pattern[i] == b'*' {
            out.extend_from_slice(star.take().unwrap_or_default());
            i += 1;
            continue;
        }
        // A literal stands for itself and what is escaped for the next byte; a wildcard takes a letter if it takes one.
        let own = match pattern[i] {
            b'[' | b'?' => None,
            b'\\' => Some(*pattern.get(i + 1).unwrap_or(&b'\\')),
            literal => Some(literal),
        };
        let tries = own.into_iter().chain(b'a'..=b'z').chain(0..=u8::MAX);
        let (byte, next) =
            tries.map(|b| (b, one(pattern, i, b))).find_map(|(b, (hit, next))| hit.then_some((b, next)))?;
        out.push(byte);
        i = next;
    }
    star.is_none().then_some(out)
}

/// Whether every key that `inner` can match is surely matched by `outer`. May say no where the answer is yes:
/// it treats `inner` as a key whose wildcards only a `*` of `outer` can take.
///
/// Runs in `O(outer × inner)` at worst, without recursion: `inner` holds row data, up to a mebibyte of it.
#[must_use]
pub fn covers(outer: &[u8], inner: &[u8]) -> bool {
    if outer == inner || outer == b"*" {
        return true;
    }
    let (outer, inner) = (elements(outer), elements(inner));
    // Only `*` alone matches the empty key (see `matches`): nothing else covers what can match it.
    if inner.iter().all(|e| *e == Element::Star) {
        return false;
    }
    let (mut o, mut i) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        if outer.get(o) == Some(&Element::Star) {
            last_star = Some((o, i));
            o += 1;
        } else if i == inner.len() {
            return o == outer.len();
        } else if outer.get(o).is_some_and(|e| e.takes(inner[i])) {
            o += 1;
            i += 1;
        } else if let Some((star, taken)) = last_star {
            o = star + 1;
            i = taken + 1;
            last_star = Some((star, i));
        } else {
            return false;
        }
    }
}

/// Whether some key may match both patterns. May say yes where the answer is no: of two different classes it does not ask whether
/// they share a byte. Both are templates' whole forms, so that `O(left × right)` is a few thousand steps.
#[must_use]
pub fn intersects(left: &[u8], right: &[u8]) -> bool {
    let (left, right) = (elements(left), elements(right));
    // reach[j]: what is left of `left` from i on and of `right` from j on have a text in common; from the end backwards.
    let mut reach: Vec<bool> = Vec::new();
    for i in (0..=left.len()).rev() {
        let mut row = vec![false; right.len() + 1];
        for j in (0..=right.len()).rev() {
            let (l, r) = (left.get(i), right.get(j));
            let below = |j: usize| reach.get(j).copied().unwrap_or(false);
            row[j] = match (l, r) {
                (None, None) => true,
                (Some(Element::Star), _) => below(j) || (r.is_some() && row[j + 1]),
                (_, Some(Element::Star)) => row[j + 1] || (l.is_some() && below(j)),
                (Some(l), Some(r)) => l.meets(*r) && below(j + 1),
                (Some(_), None) | (None, Some(_)) => false,
            };
        }
        reach = row;
    }
    reach.first().copied().unwrap_or(false)
}

/// The pattern in one of the spellings that mean the same: no needless escapes, no `*` twice in a row.
#[must_use]
pub fn canonical(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pattern.len());
    for element in elements(pattern) {
        match element {
            Element::Star => out.push(b'*'),
            Element::Any => out.push(b'?'),
            Element::Class(class) => out.extend_from_slice(class),
            Element::Literal(b) => {
                if matches!(b, b'*' | b'?' | b'[' | b'\\') {
                    out.push(b'\\');
                }
                out.push(b);
            }
        }
    }
    out
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Element<'a> {
    Star,
    Any,
    Class(&'a [u8]),
    Literal(u8),
}

impl Element<'_> {
    /// Whether this element, which is no star, matches every byte that `other` can stand for.
    fn takes(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Star) => false,
            (Self::Any, _) => true,
            (Self::Class(class), Self::Literal(b)) => one(class, 0, b).0,
            (a, b) => a == b,
        }
    }

    /// Whether two elements, neither a star, may stand for the same byte.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Literal(a), Self::Literal(b)) => a == b,
            (Self::Class(class), Self::Literal(b)) | (Self::Literal(b), Self::Class(class)) => one(class, 0, b).0,
            _ => true,
        }
    }
}

fn elements(pattern: &[u8]) -> Vec<Element<'_>> {
    let mut out: Vec<Element<'_>> = Vec::new();
    let mut i = 0;
    while i < pattern.len() {
        match pattern[i] {
            b'*' => {
                if out.last() != Some(&Element::Star) {
                    out.push(Element::Star);
                }
                i += 1;
            }
            b'?' => {
                out.push(Element::Any);
                i += 1;
            }
            b'[' => {
                let (_, end) = class(pattern, i + 1, 0);
                out.push(Element::Class(&pattern[i..end]));
                i = end;
            }
            b'\\' if i + 1 < pattern.len() => {
                out.push(Element::Literal(pattern[i + 1]));
                i += 2;
            }
            b => {
                out.push(Element::Literal(b));
                i += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, key: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), expected, "{pattern} against {key}");
    }

    #[test]
    fn the_dialect_is_the_servers() {
        check("a*c", "abc", true);
        check("a*c", "ac", true);
        check("a*c", "abd", false);
        check("*", "", true);
        check("", "", true);
        check("?", "", false);
        check("h[ae]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("[!a]", "!", true);
        check("[!a]", "b", false);
        check("[a", "a", true);
        check("[z-a]", "m", true);
        check("\\*", "*", true);
        check("\\*", "x", false);
        check("a\\", "a\\", true);
        check("a*b*c", "a__b__bc", true);
        check("a*b*c", "a__c", false);
        check("[a-]", "]", true);
    }

    #[test]
    fn one_pattern_covers_another() {
        for (outer, inner, yes) in [
            ("a:*", "a:b:*", true),
            ("a:*", "a:7", true),
            ("a:*:x", "a:*", false),
            ("a:?", "a:[xy]", true),
            ("user:*", "user_stats:*", false),
            ("*", "anything*", true),
            ("a*b*", "a*x*b", true),
            ("a:[xy]", "a:x", true),
            ("a:[xy]", "a:?", false),
            ("**", "*", false),
            ("*:x:*:y:*:z:*:x:*:y:*:z", "1:x:*:y:3:z:4:x:5:y:6:z", true),
        ] {
            assert_eq!(covers(outer.as_bytes(), inner.as_bytes()), yes, "{outer} over {inner}");
        }
    }

    #[test]
    fn an_example_has_the_stand_in_where_the_first_star_is() {
        let example = |p: &str| example(p.as_bytes(), b"nobody").map(|k| String::from_utf8(k).unwrap());
        assert_eq!(example("u:*:x*").as_deref(), Some("u:nobody:x"));
        assert_eq!(example("s:*:[^ab]?\\*").as_deref(), Some("s:nobody:ca*"));
        assert_eq!(example("u:[ab]"), None);
        assert_eq!(example("u:*[]"), None);
    }

    #[test]
    fn the_prefix_ends_at_the_first_wildcard() {
        assert_eq!(literal_prefix(b"a\\*b:*:x"), b"a*b:");
        assert_eq!(literal_prefix(b"*"), b"");
    }

    #[test]
    fn a_long_value_neither_overflows_the_stack_nor_takes_for_ever() {
        let value = ":".repeat(20_000);
        assert!(!covers(b"a:*:*:*:*:*:*:x", format!("a:{value}*").as_bytes()));
        assert!(covers(b"a*:*:*:*", format!("a:{value}*").as_bytes()));
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same(p in "[]ab*?^\\\\\\[-]{0,8}", key in "[]ab*?^\\\\\\[-]{1,8}") {
            let canonical = canonical(p.as_bytes());
            prop_assert_eq!(matches(p.as_bytes(), key.as_bytes()), matches(&canonical, key.as_bytes()));
            prop_assert!(covers(&canonical, p.as_bytes()) || p.contains("**"));
        }

        #[test]
        fn what_is_escaped_for_a_class_is_a_member_of_it(v in "[*?\\[\\]^\\\\a-c-]{1,6}", other in any::<u8>()) {
            let mut pattern = b"[".to_vec();
            escape_in_class_into(&mut pattern, v.as_bytes());
            pattern.push(b']');
            prop_assert_eq!(matches(&pattern, &[other]), v.as_bytes().contains(&other));
        }

        #[test]
        fn an_escaped_literal_matches_itself_and_nothing_else(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            prop_assert!(matches(&escape(&a), &a));
            prop_assert_eq!(matches(&escape(&a), &b), a == b);
        }

        #[test]
        fn a_value_in_a_pattern_stays_a_value(v in "[*?\\[\\]^\\\\a-c-]{0,6}", other in "[*?\\[\\]^\\\\a-c-]{0,6}") {
            let pattern = [b"u:", escape(v.as_bytes()).as_slice(), b":*"].concat();
            let own = format!("u:{v}:tail");
            let foreign = format!("u:{other}:tail");
            prop_assert!(matches(&pattern, own.as_bytes()));
            prop_assert_eq!(matches(&pattern, foreign.as_bytes()), foreign.starts_with(&format!("u:{v}:")));
        }

        #[test]
        fn what_covers_matches_all_that_the_inner_matches(outer in "[ab*?:]{0,6}", inner in "[ab*?:]{0,6}", key in "[ab:]{0,8}") {
            if covers(outer.as_bytes(), inner.as_bytes()) && matches(inner.as_bytes(), key.as_bytes()) {
                prop_assert!(matches(outer.as_bytes(), key.as_bytes()));
            }
        }

        #[test]
        fn patterns_with_a_key_in_common_intersect(left in "[ab*?\\[\\]:]{0,6}", right in "[ab*?:]{0,6}", key in "[ab:]{1,8}") {
            let common = matches(left.as_bytes(), key.as_bytes()) && matches(right.as_bytes(), key.as_bytes());
            prop_assert!(!common || intersects(left.as_bytes(), right.as_bytes()));
            prop_assert_eq!(intersects(left.as_bytes(), right.as_bytes()), intersects(right.as_bytes(), left.as_bytes()));
            prop_assert_eq!(intersects(left.as_bytes(), key.as_bytes()), matches(left.as_bytes(), key.as_bytes()));
        }

        #[test]
        fn an_example_is_matched(p in "[]ab*?^\\\\\\[-]{0,8}") {
            if let Some(key) = example(p.as_bytes(), b"nobody") {
                prop_assert!(matches(p.as_bytes(), &key), "{:?}", String::from_utf8_lossy(&key));
            }
        }

        #[test]
        fn nothing_panics(p in any::<Vec<u8>>(), k in any::<Vec<u8>>()) {
            let _ = matches(&p, &k);
            let _ = covers(&p, &k);
            let _ = literal_prefix(&p);
        }
    }
}
