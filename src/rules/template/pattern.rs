//! A pattern while it is rendered: the operator's text keeps its glob meaning, a value never gets any.
//!
//! What makes this more than escaping is that a value ends where the operator's text goes on. A backslash in front of a
//! hole would take the value's own escape for itself, and between the brackets of a class an empty value would make
//! a `-` or `^` mean something else. So a backslash in front of a hole says nothing (what it could escape is a value
//! already), and `-` and `^` beside a hole stand for themselves.

use super::glob;

/// What has been rendered so far.
pub(super) struct Pattern {
    out: Vec<u8>,
    class: Option<Class>,
}

/// A class that is open.
struct Class {
    /// Where its bracket stands.
    at: usize,
    /// A hole in it is not known: any byte may be meant.
    unknown: bool,
}

impl Pattern {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), class: None }
    }

    /// Text that stands for itself.
    pub(super) fn literal(&mut self, text: &[u8]) {
        glob::escape_into(&mut self.out, text);
    }

    /// The value of a hole; None: not known.
    pub(super) fn value(&mut self, value: Option<&[u8]>) {
        match (value, &mut self.class) {
            (Some(value), None) => glob::escape_into(&mut self.out, value),
            (Some(value), Some(_)) => glob::escape_in_class_into(&mut self.out, value),
            (None, Some(class)) => class.unknown = true,
            (None, None) => {
                if !ends_with_star(&self.out) {
                    self.out.push(b'*');
                }
            }
        }
    }

    /// Text with glob meaning, and whether it stands behind a hole, before a hole.
    pub(super) fn glob(&mut self, text: &[u8], behind_hole: bool, before_hole: bool) {
        let mut rest = text;
        while !rest.is_empty() {
            let in_class = self.class.is_some();
            let first = behind_hole && rest.len() == text.len();
            let (token, length) =
                if in_class && first && rest[0] == b'-' { (Token::Byte, 1) } else { token(rest, in_class) };
            let (this, after) = rest.split_at(length);
            let beside_hole = first || (before_hole && after.is_empty());
            match token {
                Token::Backslash if before_hole => {}
                Token::Byte if in_class && beside_hole => glob::escape_in_class_into(&mut self.out, this),
                _ => {
                    if token == Token::Open {
                        self.class = Some(Class { at: self.out.len(), unknown: false });
                    }
                    self.out.extend_from_slice(this);
                }
            }
            if token == Token::Close {
                self.close();
            }
            rest = after;
        }
    }

    /// The pattern. A class without its bracket ends here.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.close();
        self.out
    }

    fn close(&mut self) {
        if let Some(class) = self.class.take().filter(|class| class.unknown) {
            self.out.truncate(class.at);
            self.out.push(b'?');
        }
    }
}

/// What glob text is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `[` or `[^`.
    Open,
    /// The `]` of a class.
    Close,
    /// A byte, `*` and `?` among them.
    Byte,
    /// `\x`.
    Escaped,
    /// A backslash with nothing behind it in this text.
    Backslash,
    /// `a-z` in a class.
    Range,
}

/// The first token of `text`, which is not empty, and its length; read as [`glob::matches`] reads it.
fn token(text: &[u8], in_class: bool) -> (Token, usize) {
    match text {
        [b']', ..] if in_class => (Token::Close, 1),
        [b'\\', _, ..] => (Token::Escaped, 2),
        [b'\\'] => (Token::Backslash, 1),
        [_, b'-', _, ..] if in_class => (Token::Range, 3),
        [b'[', b'^', ..] if !in_class => (Token::Open, 2),
        [b'[', ..] if !in_class => (Token::Open, 1),
        _ => (Token::Byte, 1),
    }
}

/// Whether a class is open behind `text`.
pub(super) fn ends_in_class(mut text: &[u8], mut in_class: bool) -> bool {
    while !text.is_empty() {
        let (token, length) = token(text, in_class);
        match token {
            Token::Open => in_class = true,
            Token::Close => in_class = false,
            _ => {}
        }
        text = &text[length..];
    }
    in_class
}

/// An unescaped `*` at the end. Two in a row mean the same as one and cost the matcher time.
fn ends_with_star(out: &[u8]) -> bool {
    out.last() == Some(&b'*') && out[..out.len() - 1].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0
}
