//! The file's text as it may be shown: without passwords.

use std::ops::Range;

const STARS: &str = "***";

/// A text with parts replaced by stars, and the way from offsets of the original to its own.
#[derive(Clone, Default)]
pub(super) struct Redacted {
    shown: String,
    /// Hidden ranges of the original, ascending, not overlapping.
    hidden: Vec<Range<usize>>,
    /// Offsets of line starts in the original.
    lines: Vec<usize>,
    original: String,
}

impl Redacted {
    /// `secrets` are ranges known from the parsed document; user information of URLs is found here. Where the
    /// document could not be parsed (`broken`), whatever follows a word like `password` goes too.
    pub(super) fn new(original: &str, mut secrets: Vec<Range<usize>>, broken: bool) -> Self {
        userinfo(original, &mut secrets, broken);
        if broken {
            assignments(original, &mut secrets);
            before_at(original, &mut secrets);
        }
        secrets.retain(|r| r.start < r.end && r.end <= original.len());
        secrets.sort_by_key(|r| r.start);
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for mut r in secrets {
            while !original.is_char_boundary(r.start) {
                r.start -= 1;
            }
            while !original.is_char_boundary(r.end) {
                r.end += 1;
            }
            match hidden.last_mut() {
                Some(last) if last.end >= r.start => last.end = last.end.max(r.end),
                _ => hidden.push(r),
            }
        }
        let mut shown = String::with_capacity(original.len());
        let mut at = 0;
        for r in &hidden {
            shown.push_str(&original[at..r.start]);
            shown.push_str(STARS);
            // Line numbers must stay right when a hidden part spans lines.
            shown.extend(original[r.clone()].chars().filter(|c| *c == '\n'));
            at = r.end;
        }
        shown.push_str(&original[at..]);
        let lines = std::iter::once(0).chain(original.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { shown, hidden, lines, original: original.to_owned() }
    }

    pub(super) fn text(&self) -> &str {
        &self.shown
    }

    /// Where a range of the original is shown.
    pub(super) fn map(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.offset(span.start, false);
        start..self.offset(span.end, true).max(start)
    }

    fn offset(&self, at: usize, end: bool) -> usize {
        let (mut gone, mut come) = (0, 0);
        for r in &self.hidden {
            if at <= r.start {
                break;
            }
            let stars = STARS.len() + self.original[r.clone()].matches('\n').count();
            if at < r.end {
                return r.start - gone + come + if end { stars } else { 0 };
            }
            gone += r.len();
            come += stars;
        }
        let mut out = (at - gone + come).min(self.shown.len());
        while !self.shown.is_char_boundary(out) {
            out -= 1;
        }
        out
    }

    /// Line and column (in characters) of an offset of the original, from 1.
    pub(super) fn line_column(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.original.get(start..at).map_or(0, |s| s.chars().count());
        (line, column + 1)
    }
}

/// Everything between `://` and the last `@` of the same string: a password with an unescaped `/` or `@` ends up
/// there too. Without `@`, what stands in place of a port but is no number.
fn userinfo(text: &str, out: &mut Vec<Range<usize>>, broken: bool) {
    // Quotes can be trusted to end a text only where the file could be parsed.
    let ends: &[char] = if broken { &['\n'] } else { &['"', '\'', '\n'] };
    for (i, _) in text.match_indices("://") {
        let start = i + 3;
        let rest = &text[start..];
        let rest = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if let Some(at) = rest.rfind('@') {
            out.push(start..start + at);
        } else {
            let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
            let mut from = start;
            for part in authority.split(',') {
                let after_brackets = if part.starts_with('[') { part.find(']').map_or(0, |b| b + 1) } else { 0 };
                if let Some(colon) = part[after_brackets..].find(':') {
                    let port = &part[after_brackets + colon + 1..];
                    if !port.bytes().all(|b| b.is_ascii_digit()) {
                        let begin = from + after_brackets + colon + 1;
                        out.push(begin..start + rest.len());
                    }
                }
                from += part.len() + 1;
            }
        }
        if let Some(p) = rest.find("pass") {
            out.push(start + p + 4..start + rest.len());
        }
    }
}

/// In a broken file a quote may have swallowed a line end: what stands before an `@` may be a password.
fn before_at(text: &str, out: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let (Some(at), None) = (line.rfind('@'), line.find("://")) {
            out.push(start..start + at);
        }
        start += line.len();
    }
}

/// What follows `password =` and its like, to the end of the line or of a multi-line text.
fn assignments(text: &str, out: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for word in ["pass", "secret", "token", "pwd", "auth"] {
        for (i, _) in lower.match_indices(word) {
            let line_end = text[i..].find('\n').map_or(text.len(), |n| i + n);
            let Some(equals) = text[i..line_end].find('=') else { continue };
            let value = i + equals + 1;
            let trimmed = text[value..line_end].trim_start();
            let multi = ["\"\"\"", "'''", "[", "{"].iter().find(|q| trimmed.starts_with(**q));
            let end = match multi {
                Some(q) => {
                    let close = match *q {
                        "[" => "]",
                        "{" => "}",
                        same => same,
                    };
                    let open = line_end - trimmed.len() + q.len();
                    text[open.min(text.len())..].find(close).map_or(text.len(), |n| open + n)
                }
                None => line_end,
            };
            out.push(value..end.max(line_end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, broken: bool) -> String {
        Redacted::new(text, Vec::new(), broken).text().to_owned()
    }

    #[test]
    fn userinfo_is_hidden_even_where_the_url_is_wrong() {
        assert_eq!(shown("url = \"postgresql://u:p@h/db\"", false), "url = \"postgresql://***@h/db\"");
        assert_eq!(shown("url = \"postgresql://u:p/a@b@h/db\"", false), "url = \"postgresql://***@h/db\"");
        assert_eq!(shown("url = \"redis://:hunter2\"", false), "url = \"redis://:***\"");
        assert_eq!(shown("url = \"redis://[::1]:6379,h:1\"", false), "url = \"redis://[::1]:6379,h:1\"");
        assert_eq!(shown("url = \"postgresql://h/d?password=x\"", false), "url = \"postgresql://h/d?pass***\"");
    }

    #[test]
    fn a_broken_file_hides_what_follows_a_password() {
        assert_eq!(shown("password = \"x\na = 1", true), "password =***\na = 1");
        assert_eq!(shown("password = \"\"\"x\ny\"\"\"\na", true), "password =***\n\"\"\"\na");
    }

    #[test]
    fn offsets_follow_the_shown_text() {
        let r = Redacted::new("a://secret@h x", Vec::new(), false);
        assert_eq!(r.text(), "a://***@h x");
        assert_eq!(&r.text()[r.map(&(13..14))], "x");
        assert_eq!(&r.text()[r.map(&(5..8))], "***");
        assert_eq!(r.line_column(13), (1, 14));
    }
}
