//! `warm.sql`: a query with `:name` parameters, and how it is asked together with its token.
//!
//! A value never becomes text of a statement: `:user_id` turns into `$1`, and the server is given the value beside it. What only
//! looks like a parameter (a cast, a literal, a comment, a dollar quote) stays as it is.

use super::sql::ident;
use crate::config::model::WarmFormat;
use std::fmt;
use std::ops::Range;

/// A checked query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What the operator wrote.
    pub source: String,
    /// The same with `$1`, `$2` … for its parameters.
    pub text: String,
    /// The parameters' names: `$1` is the first.
    pub parameters: Vec<String>,
    /// The parameter that stands in `ANY (:name)`: the query answers for many values at once.
    pub batch: Option<String>,
}

/// Why a query cannot be read; `at` are bytes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The offending bytes.
    pub at: Range<usize>,
    /// What is wrong there.
    pub problem: Problem,
}

/// The ways in which a query is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Nothing but blanks.
    Empty,
    /// A quote or comment that does not end.
    Unclosed(&'static str),
    /// `$1`: parameters have names.
    Numbered,
    /// A `;` with something behind it.
    Several,
    /// `ANY (:name)` beside other parameters, which differ from key to key.
    BatchOfMany,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the query is empty"),
            Self::Unclosed(what) => write!(f, "this {what} does not end"),
            Self::Numbered => write!(f, "a parameter is written `:name`, with the name of a hole"),
            Self::Several => write!(f, "there is a second statement behind the `;`"),
            Self::BatchOfMany => write!(f, "a query with `= ANY (:name)` has no other parameter"),
        }
    }
}

/// What a batch is told apart by, or that there is none.
const VERSION: &str = "version";

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// The first problem, with its place.
    pub fn parse(source: &str) -> Result<Self, QueryError> {
        let err = |at: Range<usize>, problem| Err(QueryError { at, problem });
        let mut query = Self { source: source.to_owned(), text: String::new(), parameters: Vec::new(), batch: None };
        let mut rest = Cursor { source, at: 0 };
        let mut end: Option<usize> = None;
        let mut batched: Option<Range<usize>> = None;
        while let Some(c) = rest.peek() {
            let start = rest.at;
            match rest.quoted() {
                Some(Ok(_)) => {
                    query.text.push_str(&source[start..rest.at]);
                    continue;
                }
                Some(Err(what)) => return err(start..start + 1, Problem::Unclosed(what)),
                None => {}
            }
            if let Some(at) = end.filter(|_| !c.is_whitespace()) {
                return err(at..at + 1, Problem::Several);
            }
            match c {
                ';' => {
                    end.get_or_insert(start);
                    rest.at += 1;
                }
                ':' if source[start..].starts_with("::") => {
                    query.text.push_str("::");
                    rest.at += 2;
                }
                ':' => match rest.parameter() {
                    Some(name) => {
                        if is_any(&query.text) {
                            batched = Some(start..rest.at);
                            query.batch = Some(name.clone());
                        }
                        let n = query.parameters.iter().position(|p| *p == name).unwrap_or_else(|| {
                            query.parameters.push(name);
                            query.parameters.len() - 1
                        });
                        query.text.push_str(&format!("${}", n + 1));
                    }
                    None => rest.keep(&mut query.text),
                },
                '$' if source[start + 1..].starts_with(|d: char| d.is_ascii_digit()) && !rest.in_word() => {
                    return err(start..start + 2, Problem::Numbered);
                }
                _ => rest.keep(&mut query.text),
            }
        }
        query.text.truncate(query.text.trim_end().len());
        if query.text.is_empty() {
            return err(0..source.len(), Problem::Empty);
        }
        if let Some(at) = batched.filter(|_| query.parameters.iter().filter(|p| *p != VERSION).count() > 1) {
            return err(at, Problem::BatchOfMany);
        }
        Ok(query)
    }

    /// The byte of the source that a place of the text stands for; `character` counts from 1, as PostgreSQL does.
    #[must_use]
    pub fn in_source(&self, character: usize) -> Option<usize> {
        let at = self.text.char_indices().nth(character.checked_sub(1)?)?.0;
        let mut text = 0;
        let mut source = Cursor { source: &self.source, at: 0 };
        while text < at {
            let (from, rest) = (source.at, &self.text[text..]);
            match source.peek()? {
                // Nothing but blanks stands behind it.
                ';' if !rest.starts_with(';') => source.at += 1,
                ':' if rest.starts_with('$') => {
                    source.parameter()?;
                    text += 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                }
                c => {
                    source.at = from + c.len_utf8();
                    text += c.len_utf8();
                }
            }
        }
        Some(source.at)
    }

    /// The query's columns of these names, as text.
    #[must_use]
    pub fn columns(&self, names: &[&str]) -> String {
        let list: Vec<String> = names.iter().map(|name| format!("w.{}::text", ident(name))).collect();
        format!("SELECT {} FROM (\n{}\n) AS w", list.join(", "), self.text)
    }

    /// One statement for the values and what they were read by, where the query has these columns: token, value, and for a batch the
    /// parameter's value. `plain`: the text of the value's one column is the value as it is.
    ///
    /// The token is a subquery without a row of its own: computed once, by the snapshot of this very statement.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn with_token(&self, columns: &[(&str, bool)], format: WarmFormat, schema: &str) -> Result<String, String> {
        self.told_by(&format!("{}.token()", ident(schema)), columns, format)
    }

    /// The same for a standby: a server that is none, or is none any more, gives no token.
    ///
    /// # Errors
    /// As [`Query::with_token`].
    pub fn with_token_of_a_standby(
        &self,
        columns: &[(&str, bool)],
        format: WarmFormat,
        schema: &str,
    ) -> Result<String, String> {
        let token = format!("CASE WHEN pg_catalog.pg_is_in_recovery() THEN {}.token() END", ident(schema));
        self.told_by(&token, columns, format)
    }

    fn told_by(&self, token: &str, columns: &[(&str, bool)], format: WarmFormat) -> Result<String, String> {
        let told = match &self.batch {
            None => None,
            Some(name) => Some(columns.iter().position(|(column, _)| column == name).ok_or_else(|| {
                format!("a query with `= ANY (:{name})` returns `{name}` beside the value: SELECT {name}, …")
            })?),
        };
        let of: Vec<usize> = (0..columns.len()).filter(|i| Some(*i) != told).collect();
        let object = |cast: &str| {
            let list: Vec<String> = of.iter().map(|i| format!("w.c{i}{cast} AS {}", ident(columns[*i].0))).collect();
            format!("(SELECT pg_catalog.row_to_json(r)::text FROM (SELECT {}) AS r)", list.join(", "))
        };
        let value = match (format, of.as_slice()) {
            (_, []) => return Err("the query returns no value".into()),
            (WarmFormat::Hash, _) => object("::text"),
            (WarmFormat::Text, [i]) => format!("w.c{i}::text"),
            (WarmFormat::Text, _) => return Err("`warm.format = \"text\"` wants one column".into()),
            (WarmFormat::Json, [i]) if columns[*i].1 => format!("w.c{i}::text"),
            (WarmFormat::Json, [i]) => format!("pg_catalog.to_json(w.c{i})::text"),
            (WarmFormat::Json, _) => object(""),
        };
        let told = told.map(|i| format!(", w.c{i}::text")).unwrap_or_default();
        let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
        // The line break ends a comment at the query's end.
        Ok(format!("SELECT (SELECT {token}), {value}{told} FROM (\n{}\n) AS w ({})", self.text, names.join(", ")))
    }
}

/// Whether what was read so far ends with `ANY (`.
fn is_any(text: &str) -> bool {
    let Some(before) = text.trim_end().strip_suffix('(') else { return false };
    let before = before.trim_end();
    let Some(head) = before.len().checked_sub(3).and_then(|i| before.get(i..).map(|word| (&before[..i], word))) else {
        return false;
    };
    head.1.eq_ignore_ascii_case("any") && !head.0.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.')
}

struct Cursor<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Cursor<'s> {
    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// Copies one character.
    fn keep(&mut self, out: &mut String) {
        if let Some(c) = self.peek() {
            out.push(c);
            self.at += c.len_utf8();
        }
    }

    /// Whether the character before is part of a name, so that what follows goes on with it.
    fn in_word(&self) -> bool {
        self.source[..self.at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
    }

    /// Passes over a literal, a quoted name, a comment or a dollar quote; None: there is none here.
    fn quoted(&mut self) -> Option<Result<(), &'static str>> {
        let rest = self.rest();
        let length = if rest.starts_with('\'') {
            let escapes = {
                let before = &self.source[..self.at];
                let e = before.ends_with(['e', 'E']);
                // The E stands alone: `date'…'` ends with an e, too.
                e && !before[..before.len() - 1].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            };
            closing(rest, '\'', escapes).ok_or("literal")
        } else if rest.starts_with('"') {
            closing(rest, '"', false).ok_or("name")
        } else if rest.starts_with("--") {
            Ok(rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            comment(rest).ok_or("comment")
        } else if rest.starts_with('$') && !self.in_word() {
            let tag = rest[1..].find('$').map(|i| &rest[..i + 2]).filter(|tag| {
                let name = &tag[1..tag.len() - 1];
                !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            })?;
            rest[tag.len()..].find(tag).map(|i| i + 2 * tag.len()).ok_or("dollar quote")
        } else {
            return None;
        };
        Some(length.map(|length| self.at += length))
    }

    /// The name behind a `:`; None: a colon that stands for itself, as in `a[1 : 2]` or `f(x := 1)`.
    fn parameter(&mut self) -> Option<String> {
        let rest = &self.rest()[1..];
        if rest.starts_with('"') {
            let length = closing(rest, '"', false)?;
            self.at += 1 + length;
            return Some(rest[1..length - 1].replace("\"\"", "\"")).filter(|n| !n.is_empty());
        }
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = rest[..length].to_owned();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += 1 + length;
        Some(name)
    }
}

/// The bytes of a quoted text, both quotes included.
fn closing(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(i + 1);
        }
    }
    None
}

/// The bytes of a comment; they nest.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// The text of a PostgreSQL array with these elements.
#[must_use]
pub fn array(elements: &[&str]) -> String {
    let quoted: Vec<String> =
        elements.iter().map(|e| format!("\"{}\"", e.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, text: &str, parameters: &[&str]) {
        let query = Query::parse(source).unwrap();
        assert_eq!(
            (query.text.as_str(), query.parameters),
            (text, parameters.iter().map(|p| (*p).to_owned()).collect())
        );
    }

    #[track_caller]
    fn wrong(source: &str, at: Range<usize>, problem: Problem) {
        assert_eq!(Query::parse(source), Err(QueryError { at, problem }));
    }

    #[test]
    fn parameters_become_numbers_and_the_same_name_the_same_number() {
        check("SELECT :a, :b, :a", "SELECT $1, $2, $1", &["a", "b"]);
        check("SELECT :Übung+:\"Order \"\"Id\"\"\"", "SELECT $1+$2", &["Übung", "Order \"Id\""]);
        check("SELECT 1", "SELECT 1", &[]);
    }

    #[test]
    fn what_only_looks_like_a_parameter_stays() {
        check("SELECT :a::int, b::text", "SELECT $1::int, b::text", &["a"]);
        check("SELECT ':a', 'it''s :a', \":a\"", "SELECT ':a', 'it''s :a', \":a\"", &[]);
        check(r"SELECT E'\':a', e'\\', :b", r"SELECT E'\':a', e'\\', $1", &["b"]);
        // A backslash means nothing in a plain literal, nor behind a name that ends with an e.
        check(r"SELECT '\', :b", r"SELECT '\', $1", &["b"]);
        check(r"SELECT date'2026-11-20\', :b", r"SELECT date'2026-11-20\', $1", &["b"]);
        check("SELECT 1 -- :a\n, :b", "SELECT 1 -- :a\n, $1", &["b"]);
        check("SELECT /* :a /* :b */ :c */ :d", "SELECT /* :a /* :b */ :c */ $1", &["d"]);
        check("SELECT $$:a$$, $x$ $$ :a $x$, :b", "SELECT $$:a$$, $x$ $$ :a $x$, $1", &["b"]);
        check("SELECT f(x := 1), a[1 : 2], tab$le", "SELECT f(x := 1), a[1 : 2], tab$le", &[]);
    }

    #[test]
    fn one_statement_may_end_with_a_semicolon() {
        check("SELECT 1 ;\n -- the end", "SELECT 1 \n -- the end", &[]);
        check(" SELECT ';' ; ", " SELECT ';'", &[]);
        wrong("SELECT 1; DELETE FROM t", 8..9, Problem::Several);
        wrong("  ;", 0..3, Problem::Empty);
    }

    #[test]
    fn what_does_not_end_is_an_error_at_its_beginning() {
        wrong("SELECT 'a", 7..8, Problem::Unclosed("literal"));
        wrong("SELECT \"a", 7..8, Problem::Unclosed("name"));
        wrong("SELECT /* /* */", 7..8, Problem::Unclosed("comment"));
        wrong("SELECT $x$ $$", 7..8, Problem::Unclosed("dollar quote"));
        wrong("SELECT $1", 7..9, Problem::Numbered);
    }

    #[test]
    fn any_makes_a_batch_and_a_batch_has_one_parameter() {
        for batched in ["= ANY(:id)", "=any  (  :id::bigint[])", "= ANY(:id) AND v = :version"] {
            assert_eq!(Query::parse(&format!("SELECT 1 WHERE id {batched}")).unwrap().batch.as_deref(), Some("id"));
        }
        for plain in ["= many(:id)", "IN (:id)", "= x.any(:id)", "= :id"] {
            assert_eq!(Query::parse(&format!("SELECT 1 WHERE id {plain}")).unwrap().batch, None, "{plain}");
        }
        wrong("SELECT ANY(:a) = :b", 11..13, Problem::BatchOfMany);
    }

    #[test]
    fn a_comment_at_the_end_swallows_nothing() {
        let query = Query::parse("SELECT 1 -- one").unwrap();
        assert_eq!(
            query.with_token(&[("?column?", false)], WarmFormat::Text, "Cache Eviction").unwrap(),
            "SELECT (SELECT \"Cache Eviction\".token()), w.c0::text FROM (\nSELECT 1 -- one\n) AS w (c0)"
        );
    }

    #[test]
    fn what_is_stored_depends_on_format_and_columns() {
        let check = |sql: &str, columns: &[(&str, bool)], format, expected: &str| {
            let asked = Query::parse(sql).unwrap().with_token(columns, format, "s").unwrap_or_else(|why| why);
            assert!(asked.contains(expected), "{asked}");
        };
        let (one, number) = ([("v", true)], [("v", false)]);
        let two = [("a", true), ("b\"c", false)];
        check("SELECT 1", &one, WarmFormat::Json, "token()), w.c0::text FROM");
        check("SELECT 1", &number, WarmFormat::Json, "pg_catalog.to_json(w.c0)::text");
        check(
            "SELECT 1",
            &two,
            WarmFormat::Json,
            "row_to_json(r)::text FROM (SELECT w.c0 AS \"a\", w.c1 AS \"b\"\"c\") AS r)",
        );
        check("SELECT 1", &one, WarmFormat::Hash, "(SELECT w.c0::text AS \"v\") AS r)");
        check("SELECT 1", &two, WarmFormat::Text, "wants one column");
        check("SELECT 1", &[], WarmFormat::Json, "no value");
        check("SELECT ANY(:a)", &two, WarmFormat::Json, "to_json(w.c1)::text, w.c0::text FROM");
        check("SELECT ANY(:id)", &two, WarmFormat::Json, "returns `id` beside the value");
    }

    #[test]
    fn elements_of_an_array_cannot_leave_it() {
        assert_eq!(array(&["7", "a,b", r#"x"y\"#, "NULL", ""]), r#"{"7","a,b","x\"y\\","NULL",""}"#);
    }

    #[test]
    fn a_place_that_the_server_names_is_found_in_what_the_operator_wrote() {
        let source = "SELECT ä, :\"Order Id\"::int, nam FROM t -- :no\n WHERE a = :a AND b = :a AND wrong ; ";
        let query = Query::parse(source).unwrap();
        for word in ["nam", "wrong", "FROM", "::int"] {
            let character = query.text[..query.text.find(word).unwrap()].chars().count() + 1;
            assert_eq!(query.in_source(character), source.find(word), "{word}");
        }
        assert_eq!(query.in_source(1), Some(0));
        assert_eq!((query.in_source(0), query.in_source(1_000)), (None, None));
    }
}
