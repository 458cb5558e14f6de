//! Key templates: `user_stats:{user_id|lower}:*`.
//!
//! Data cannot widen a pattern: a value is escaped when it is rendered into a pattern, and a key template has no
//! wildcards at all. Literal braces are written twice.

mod pattern;

use super::filter::Filter;
use super::glob;
use pattern::Pattern;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What a template names when it is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Exactly one Redis key.
    Key,
    /// Every key that a Redis glob pattern matches.
    Pattern,
}

impl Kind {
    /// `key` or `pattern`, as configuration and JSON spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Pattern => "pattern",
        }
    }
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text that stands for itself, also in a pattern.
    Literal(String),
    /// Text with glob meaning, as Redis reads it; only in patterns.
    Glob(String),
    /// A place for a value.
    Hole(Hole),
}

/// A place for a value, with the filters it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The hole's name: a column unless `with` or `lookup` say otherwise.
    pub name: String,
    /// Filters, applied left to right.
    pub filters: Vec<Filter>,
}

impl Hole {
    /// What stands in its place; None where that is not known, or a filter cannot work on it.
    fn value<'a>(&self, fill: Fill<'a>) -> Option<Cow<'a, [u8]>> {
        let Fill::Value(value) = fill else { return None };
        if self.filters.is_empty() {
            return Some(Cow::Borrowed(value));
        }
        self.filters.iter().try_fold(value.to_vec(), |value, filter| filter.apply(value)).ok().map(Cow::Owned)
    }
}

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What the operator wrote.
    pub source: String,
    /// Key or pattern.
    pub kind: Kind,
    /// The pieces, in order.
    pub segments: Vec<Segment>,
}

/// Why a template cannot be read; `at` are bytes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The offending bytes of the source.
    pub at: Range<usize>,
    /// What is wrong there.
    pub problem: Problem,
}

/// The ways in which a template is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The template is the empty text.
    Empty,
    /// A `{` without its `}`.
    Unclosed,
    /// A `}` without its `{`; a literal one is written `}}`.
    StrayBrace,
    /// `{}` or `{|lower}`.
    NoName,
    /// A filter that does not exist.
    UnknownFilter(String),
    /// A `*` in a `key`: wildcards stand under `pattern`.
    WildcardInKey,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the template is empty"),
            Self::Unclosed => write!(f, "this `{{` has no `}}`"),
            Self::StrayBrace => write!(f, "this `}}` closes nothing"),
            Self::NoName => write!(f, "this hole has no name"),
            Self::UnknownFilter(name) => write!(f, "there is no filter `{name}`"),
            Self::WildcardInKey => write!(f, "`*` in a `key`"),
        }
    }
}

/// What became of a template for one set of values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rendered {
    /// One exact key.
    Key(Vec<u8>),
    /// A pattern.
    Pattern(Vec<u8>),
}

/// The value of a hole at rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill<'a> {
    /// This value.
    Value(&'a [u8]),
    /// Unknown: the hole becomes `*`, and what is rendered a pattern.
    Unknown,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Every problem of the template, each with its place.
    pub fn parse(source: &str, kind: Kind) -> Result<Self, Vec<TemplateError>> {
        let mut errors = Vec::new();
        let mut segments = Vec::new();
        let mut text = String::new();
        let mut in_class = false;
        let mut chars = source.char_indices().peekable();
        let mut err = |at: Range<usize>, problem| errors.push(TemplateError { at, problem });
        if source.is_empty() {
            err(0..0, Problem::Empty);
        }
        while let Some((i, c)) = chars.next() {
            match c {
                '{' if chars.peek().is_some_and(|(_, n)| *n == '{') => {
                    chars.next();
                    text.push('{');
                }
                '}' if chars.peek().is_some_and(|(_, n)| *n == '}') => {
                    chars.next();
                    text.push('}');
                }
                '}' => err(i..i + 1, Problem::StrayBrace),
                '{' => {
                    let Some(length) =
                        source[i + 1..].find(['}', '{']).filter(|l| source[i + 1 + l..].starts_with('}'))
                    else {
                        err(i..i + 1, Problem::Unclosed);
                        continue;
                    };
                    let end = i + 1 + length;
                    let inside = &source[i + 1..end];
                    while chars.next_if(|(at, _)| *at <= end).is_some() {}
                    flush(&mut segments, &mut text, kind, &mut in_class);
                    let mut parts = inside.split('|');
                    let name = parts.next().unwrap_or_default().trim();
                    if name.is_empty() {
                        err(i..end + 1, Problem::NoName);
                    }
                    let mut filters = Vec::new();
                    for part in parts {
                        match Filter::named(part.trim()) {
                            Some(filter) => filters.push(filter),
                            None => err(i..end + 1, Problem::UnknownFilter(part.trim().to_owned())),
                        }
                    }
                    segments.push(Segment::Hole(Hole { name: name.to_owned(), filters }));
                }
                '*' if kind == Kind::Key => err(i..i + 1, Problem::WildcardInKey),
                c => text.push(c),
            }
        }
        flush(&mut segments, &mut text, kind, &mut in_class);
        if errors.is_empty() { Ok(Self { source: source.to_owned(), kind, segments }) } else { Err(errors) }
    }

    /// Whether one of its holes is such.
    pub fn has_hole(&self, such: impl Fn(&str) -> bool) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Hole(hole) if such(&hole.name)))
    }

    /// The names of the holes, each once, in order of appearance.
    #[must_use]
    pub fn holes(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for segment in &self.segments {
            if let Segment::Hole(h) = segment
                && !out.contains(&h.name.as_str())
            {
                out.push(&h.name);
            }
        }
        out
    }

    /// Renders the template behind `prefix` (a literal, already rendered namespace).
    ///
    /// A value that a filter cannot work on counts as unknown: what cannot be named exactly is evicted more widely.
    pub fn render<'a>(&self, prefix: &[u8], mut fill: impl FnMut(&str) -> Fill<'a>) -> Rendered {
        let room = prefix.len() + self.source.len() + 16;
        if self.kind == Kind::Key
            && let Some(key) = self.render_key(prefix, room, &mut fill)
        {
            return Rendered::Key(key);
        }
        let mut pattern = Pattern::with_capacity(room);
        pattern.literal(prefix);
        for (i, segment) in self.segments.iter().enumerate() {
            let is_hole = |i: usize| matches!(self.segments.get(i), Some(Segment::Hole(_)));
            match segment {
                Segment::Literal(text) => pattern.literal(text.as_bytes()),
                Segment::Glob(text) => pattern.glob(text.as_bytes(), i > 0 && is_hole(i - 1), is_hole(i + 1)),
                Segment::Hole(hole) => pattern.value(hole.value(fill(&hole.name)).as_deref()),
            }
        }
        Rendered::Pattern(pattern.end())
    }

    /// The exact key; None where a value is unknown.
    fn render_key<'a>(&self, prefix: &[u8], room: usize, fill: &mut impl FnMut(&str) -> Fill<'a>) -> Option<Vec<u8>> {
        let mut key = Vec::with_capacity(room);
        key.extend_from_slice(prefix);
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) | Segment::Glob(text) => key.extend_from_slice(text.as_bytes()),
                Segment::Hole(hole) => key.extend_from_slice(&hole.value(fill(&hole.name))?),
            }
        }
        Some(key)
    }

    /// Whether every hole has a value that its filters can work on: what is rendered then is what an application names, too.
    pub fn is_named_by<'a>(&self, fill: impl Fn(&str) -> Fill<'a>) -> bool {
        self.segments.iter().all(|segment| match segment {
            Segment::Hole(hole) => hole.value(fill(&hole.name)).is_some(),
            _ => true,
        })
    }

    /// The whole form: every hole as `*`. A key template without holes stays an exact key.
    #[must_use]
    pub fn whole(&self, prefix: &[u8]) -> Rendered {
        self.render(prefix, |_| Fill::Unknown)
    }

    /// Whether the whole form begins with a wildcard, so that it reaches over the whole namespace.
    #[must_use]
    pub fn is_broad(&self) -> bool {
        match self.whole(b"") {
            Rendered::Key(_) => false,
            Rendered::Pattern(p) => glob::literal_prefix(&p).is_empty(),
        }
    }
}

fn flush(segments: &mut Vec<Segment>, text: &mut String, kind: Kind, in_class: &mut bool) {
    if text.is_empty() {
        return;
    }
    let text = std::mem::take(text);
    // Between brackets, a text without any of these characters may still close them.
    let globbing = kind == Kind::Pattern && (*in_class || text.contains(['*', '?', '[', '\\']));
    if globbing {
        *in_class = pattern::ends_in_class(text.as_bytes(), *in_class);
    }
    segments.push(if globbing { Segment::Glob(text) } else { Segment::Literal(text) });
}

impl Rendered {
    /// The bytes of the key or pattern.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Key(b) | Self::Pattern(b) => b,
        }
    }

    /// Key or pattern.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Key(_) => Kind::Key,
            Self::Pattern(_) => Kind::Pattern,
        }
    }
}

#[cfg(test)]
mod tests;
