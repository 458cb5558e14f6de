//! How keys and values may appear in a line: `[log] keys`, control characters, length.

use crate::config::model::LogKeys;
use sha2::Digest as _;
use std::fmt::Write as _;

/// Bytes of a key, value or note that are shown at most; what is cut off shows as `…`.
pub const MAX_BYTES: usize = 256;

/// Bytes as text that cannot do anything to a terminal or start a new log line: control characters, invisible and
/// direction-changing ones are spelled (`\n`, `\x1b`, `\u{202e}`), as are bytes that are not UTF-8 (`\xff`).
/// A backslash stays as it is, so that patterns read as Redis reads them.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().min(MAX_BYTES) + 4);
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            used += c.len_utf8();
            if used > MAX_BYTES {
                out.push('…');
                return out;
            }
            push(&mut out, c);
        }
        for b in chunk.invalid() {
            used += 1;
            if used > MAX_BYTES {
                out.push('…');
                return out;
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if (c as u32) < 0x80 && c.is_control() => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if c.is_control() || is_invisible(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
        c => out.push(c),
    }
}

/// Line separators, zero-width characters and those that turn the direction of text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text for people, escaped: error texts of servers and drivers may be long (about 2 kB is kept) and must stay on
/// their line.
#[must_use]
pub fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 2_000;
    let mut out = String::new();
    let mut rest = text;
    // `escape` cuts at its own limit, which is that of keys; texts for people go through it piece by piece.
    while !rest.is_empty() && out.chars().count() < MAX_CHARS {
        let cut = rest.char_indices().map(|(i, _)| i).find(|i| *i >= 128).unwrap_or(rest.len());
        out.push_str(&escape(&rest.as_bytes()[..cut]));
        rest = &rest[cut..];
    }
    if !rest.is_empty() {
        out.push('…');
    }
    out
}

/// A key or value as `[log] keys` wants it; None where it is not to appear at all.
#[must_use]
pub fn shown(bytes: &[u8], keys: LogKeys) -> Option<String> {
    match keys {
        LogKeys::Full => Some(escape(bytes)),
        LogKeys::Hashed => Some(hashed(bytes)),
        LogKeys::None => None,
    }
}

/// `#` and the first 48 bits of SHA-256 in hex: the same for the same bytes, so that lines can be joined. It is no
/// secret: who can guess a key can check the guess.
fn hashed(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().take(6).fold("#".to_owned(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &str) {
        assert_eq!(escape(input), expected);
    }

    #[test]
    fn what_could_act_on_a_terminal_is_spelled() {
        check(b"user_stats:7:*", "user_stats:7:*");
        check("grüße:日本".as_bytes(), "grüße:日本");
        check(b"a\nb\r\tc", "a\\nb\\r\\tc");
        check(b"\x1b[2J", "\\x1b[2J");
        check(b"nul\0del\x7f", "nul\\x00del\\x7f");
        check(b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3");
        check("\u{85}\u{202e}abc\u{2028}\u{200b}".as_bytes(), "\\u{85}\\u{202e}abc\\u{2028}\\u{200b}");
        check(b"user\\*:1", "user\\*:1");
        check(b"", "");
    }

    #[test]
    fn more_than_256_bytes_are_cut_at_a_whole_character() {
        check(&[b'x'; 256], &"x".repeat(256));
        check(&[b'x'; 257], &format!("{}…", "x".repeat(256)));
        check("é".repeat(200).as_bytes(), &format!("{}…", "é".repeat(128)));
        check(&[0xff; 300], &format!("{}…", "\\xff".repeat(256)));
        let odd = format!("x{}", "é".repeat(200));
        check(odd.as_bytes(), &format!("x{}…", "é".repeat(127)));
    }

    #[test]
    fn hashes_are_short_stable_and_do_not_show_the_key() {
        let seven = shown(b"user:7", LogKeys::Hashed).unwrap();
        assert_eq!(seven.len(), 13);
        assert_eq!(Some(&seven), shown(b"user:7", LogKeys::Hashed).as_ref());
        assert_ne!(Some(&seven), shown(b"user:8", LogKeys::Hashed).as_ref());
        assert!(!seven.contains("user"));
        assert_eq!(shown(b"user:7", LogKeys::None), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_shown_holds_a_control_character(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let text = escape(&bytes);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)), "{:?}", text);
        }
    }
}
