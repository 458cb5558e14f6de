//! Walks the parsed document by hand, so that every problem is found and each has its place.

use super::codes;
use super::environment::{Environment, read_value};
use super::problem::{Place, Problem};
use super::scalar::{self, nearest};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What is common to the whole walk.
pub(super) struct Reader<'a> {
    pub(super) source: &'a str,
    pub(super) environment: &'a Environment,
    pub(super) problems: Vec<Problem>,
    /// Parts of the file that must never be shown.
    pub(super) secrets: Vec<Range<usize>>,
    /// Variables that could be set.
    variables: BTreeSet<String>,
    /// Every setting that was asked for: `(section, setting)`.
    pub(super) asked: BTreeSet<(String, &'static str)>,
}

/// What was found for a setting.
#[derive(Clone)]
pub(super) enum Found<'a> {
    Toml(&'a Spanned<DeValue<'a>>),
    Variable { name: String, text: String },
}

impl Found<'_> {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Toml(v) => Place::Span(v.span()),
            Self::Variable { name, .. } => Place::Variable(name.clone()),
        }
    }
}

/// The entries of a table in the file's order.
pub(super) fn entries<'a>(table: &'a DeTable<'a>) -> Vec<(&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
    let mut out: Vec<_> = table.iter().map(|(k, v)| (k.get_ref().as_ref(), k.span(), v)).collect();
    out.sort_by_key(|(_, span, _)| span.start);
    out
}

/// What a TOML value is, for people.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a str, environment: &'a Environment) -> Self {
        Self {
            source,
            environment,
            problems: Vec::new(),
            secrets: Vec::new(),
            variables: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// An error about a value; where it came from a variable, the message names that.
    pub(super) fn error(&mut self, code: codes::Code, place: &Place, message: impl Into<String>) -> &mut Problem {
        let message = message.into();
        let message = match place {
            Place::Variable(name) => format!("{name}: {message}"),
            _ => message,
        };
        self.problems.push(Problem::error(code, place.clone(), message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// The variable that overrides `path`, or the contents of the file that its `_FILE` form names.
    fn variable(&mut self, path: &str) -> Option<Found<'a>> {
        let name = format!("PGEVICT_{}", path.to_ascii_uppercase().replace('.', "__"));
        let file = format!("{name}_FILE");
        let (direct, indirect) = (self.environment.get(&name), self.environment.get(&file));
        self.variables.insert(name.clone());
        self.variables.insert(file.clone());
        match (direct, indirect) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.error(
                    codes::VARIABLE_TWICE,
                    &Place::Variable(name.clone()),
                    format!("both {name} and {file} are set"),
                )
                .help
                .push("unset one of the two".into());
                None
            }
            (Some(text), None) => Some(Found::Variable { name, text: text.to_owned() }),
            (None, Some(from)) => match read_value(Path::new(from)) {
                Ok(text) => Some(Found::Variable { name: file, text }),
                Err(e) => {
                    self.error(codes::VARIABLE_FILE, &Place::Variable(file), format!("cannot read {from}: {e}"));
                    None
                }
            },
        }
    }

    /// Every `PGEVICT_*` that no setting asked for.
    pub(super) fn unknown_variables(&mut self) {
        let unknown: Vec<String> = self
            .environment
            .own_names()
            .filter(|n| *n != "PGEVICT_CONFIG" && !self.variables.contains(*n))
            .map(str::to_owned)
            .collect();
        for name in unknown {
            let near = nearest(&name, self.variables.iter().map(String::as_str)).map(str::to_owned);
            let problem = Problem::error(
                codes::UNKNOWN_VARIABLE,
                Place::Variable(name.clone()),
                format!("the environment variable {name} names no setting"),
            );
            self.push(problem.did_you_mean(near.as_deref()));
        }
    }

    fn wrong_type(&mut self, found: &Spanned<DeValue<'_>>, path: &str, wanted: &str) {
        let message = format!("`{path}` wants {wanted}");
        let label = format!("this is {}", kind(found.get_ref()));
        self.push(Problem::error(codes::WRONG_TYPE, Place::Span(found.span()), message).label(label));
    }

    pub(super) fn text(&mut self, found: Found<'a>, path: &str) -> Option<At<String>> {
        let place = found.place();
        match found {
            Found::Variable { text, .. } => Some(At { value: text, place }),
            Found::Toml(v) => match v.get_ref() {
                DeValue::String(s) => Some(At { value: s.to_string(), place }),
                _ => {
                    self.wrong_type(v, path, "a text in quotes");
                    None
                }
            },
        }
    }

    /// A text that is not empty.
    pub(super) fn name(&mut self, found: Found<'a>, path: &str) -> Option<At<String>> {
        let text = self.text(found, path)?;
        if text.value.is_empty() {
            self.error(codes::EMPTY, &text.place, format!("`{path}` is empty"));
            return None;
        }
        if text.value.contains('\0') {
            self.error(codes::OUT_OF_RANGE, &text.place, format!("`{path}` holds a NUL"));
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&mut self, found: Found<'a>, path: &str) -> Option<At<bool>> {
        let place = found.place();
        let value = match &found {
            Found::Variable { text, .. } => match text.as_str() {
                "true" => true,
                "false" => false,
                _ => {
                    self.error(codes::WRONG_TYPE, &place, format!("`{path}` wants true or false"));
                    return None;
                }
            },
            Found::Toml(v) => match v.get_ref() {
                DeValue::Boolean(b) => *b,
                _ => {
                    self.wrong_type(v, path, "true or false");
                    return None;
                }
            },
        };
        Some(At { value, place })
    }

    pub(super) fn integer(
        &mut self,
        found: Found<'a>,
        path: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let place = found.place();
        let value = match &found {
            Found::Variable { text, .. } => text.trim().parse::<i128>().ok(),
            Found::Toml(v) => match v.get_ref() {
                DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix()).ok(),
                _ => {
                    self.wrong_type(v, path, "a whole number");
                    return None;
                }
            },
        };
        match value.and_then(|v| u64::try_from(v).ok()).filter(|v| range.contains(v)) {
            Some(v) => Some(v),
            None => {
                let message = format!("`{path}` wants a whole number from {} to {}", range.start(), range.end());
                self.error(codes::OUT_OF_RANGE, &place, message);
                None
            }
        }
    }

    /// A share between 0 and 1, in thousandths.
    pub(super) fn thousandths(&mut self, found: Found<'a>, path: &str) -> Option<u32> {
        let place = found.place();
        let value = match &found {
            Found::Variable { text, .. } => text.trim().parse::<f64>().ok(),
            Found::Toml(v) => match v.get_ref() {
                DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
                _ => None,
            },
        };
        match value.filter(|v| (0.1..=0.99).contains(v)) {
            Some(share) => Some((share * 1000.0).round() as u32),
            None => {
                self.error(codes::OUT_OF_RANGE, &place, format!("`{path}` wants a number from 0.1 to 0.99"));
                None
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        found: Found<'a>,
        path: &str,
        range: std::ops::RangeInclusive<&str>,
    ) -> Option<At<Duration>> {
        if let Found::Toml(v) = &found
            && let DeValue::Integer(i) = v.get_ref()
        {
            let number = i.as_str().to_owned();
            self.error(codes::BAD_DURATION, &found.place(), format!("`{path}` is a number without unit"))
                .help
                .push(format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"));
            return None;
        }
        let text = self.text(found, path)?;
        let value = match scalar::duration(&text.value) {
            Ok(value) => value,
            Err(why) => {
                self.error(codes::BAD_DURATION, &text.place, format!("`{path}` is no duration")).label = why;
                return None;
            }
        };
        let bounds = (scalar::duration(range.start()), scalar::duration(range.end()));
        if let (Ok(low), Ok(high)) = bounds
            && !(low..=high).contains(&value)
        {
            let message = format!("`{path}` wants a duration from {} to {}", range.start(), range.end());
            self.error(codes::OUT_OF_RANGE, &text.place, message);
            return None;
        }
        Some(At { value, place: text.place })
    }

    pub(super) fn size(&mut self, found: Found<'a>, path: &str) -> Option<u64> {
        let text = self.text(found, path)?;
        match scalar::size(&text.value) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                self.error(codes::BAD_SIZE, &text.place, format!("`{path}` is no size")).label = why;
                None
            }
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, found: Found<'a>, path: &str, choices: &[(&str, T)]) -> Option<At<T>> {
        let text = self.text(found, path)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(At { value: *value, place: text.place });
        }
        let names: Vec<String> = choices.iter().map(|(n, _)| format!("\"{n}\"")).collect();
        let near = nearest(&text.value, choices.iter().map(|(n, _)| *n));
        let problem = self.error(codes::NOT_A_CHOICE, &text.place, format!("`{path}` is one of {}", names.join(", ")));
        if let Some(near) = near {
            problem.help.push(format!("did you mean `{near}`?"));
        }
        None
    }

    /// A list of texts, none empty, none twice. From a variable: comma separated.
    pub(super) fn list(&mut self, found: Found<'a>, path: &str) -> Option<Vec<At<String>>> {
        let items: Vec<At<String>> = match found {
            Found::Variable { name, text } => text
                .split(',')
                .map(|part| At { value: part.trim().to_owned(), place: Place::Variable(name.clone()) })
                .collect(),
            Found::Toml(v) => {
                let DeValue::Array(array) = v.get_ref() else {
                    self.wrong_type(v, path, "a list of texts, such as [\"a\", \"b\"]");
                    return None;
                };
                array.iter().filter_map(|item| self.text(Found::Toml(item), path)).collect()
            }
        };
        let mut out: Vec<At<String>> = Vec::new();
        for item in items {
            if item.value.is_empty() {
                self.error(codes::EMPTY, &item.place, format!("`{path}` holds an empty text"));
            } else if let Some(first) = out.iter().find(|o| o.value == item.value) {
                let first = first.place.clone();
                let message = format!("`{}` stands twice in `{path}`", item.value);
                let problem =
                    Problem::error(codes::DUPLICATE, item.place.clone(), message).context(&first, "first here");
                let message = match &item.place {
                    Place::Variable(name) => format!("{name}: {}", problem.message),
                    _ => problem.message.clone(),
                };
                self.push(Problem { message, ..problem });
            } else {
                out.push(item);
            }
        }
        Some(out)
    }

    /// The sub-table, where there is one.
    pub(super) fn table(&mut self, found: &Found<'a>, path: &str, wanted: &str) -> Option<&'a DeTable<'a>> {
        let Found::Toml(v) = found else { return None };
        match v.get_ref() {
            DeValue::Table(t) => Some(t),
            _ => {
                self.wrong_type(v, path, wanted);
                None
            }
        }
    }

    /// The bytes of the file that hold `inside` of a text at `place`; the whole text where that cannot be told.
    pub(super) fn inside(&self, place: &Place, decoded: &str, inside: Range<usize>) -> Place {
        let Place::Span(span) = place else { return place.clone() };
        let Some(raw) = self.source.get(span.clone()) else { return place.clone() };
        let start = match (raw.len().checked_sub(2), raw.find(decoded)) {
            (Some(inner), _) if raw.get(1..1 + inner) == Some(decoded) => 1,
            (_, Some(at)) if !decoded.is_empty() => at,
            _ => return place.clone(),
        };
        let start = span.start + start;
        Place::Span(start + inside.start..start + inside.end)
    }
}

/// One section of the file while its settings are taken out of it.
pub(super) struct Section<'a> {
    path: String,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    /// Settings of later versions: refused by name, never suggested.
    later: Vec<&'static str>,
    /// Whether variables override its settings.
    overridable: bool,
    /// Whether an unknown setting of it may well be a mistyped password.
    delicate: bool,
}

impl<'a> Section<'a> {
    /// A section whose settings variables override; the empty path is the top of the file.
    pub(super) fn global(path: &str, table: Option<&'a DeTable<'a>>) -> Self {
        Self { path: path.to_owned(), table, known: Vec::new(), later: Vec::new(), overridable: true, delicate: true }
    }

    /// A section inside `[cache]`, `[table]` or `[[test]]`.
    pub(super) fn local(path: String, table: &'a DeTable<'a>) -> Self {
        Self { path, table: Some(table), known: Vec::new(), later: Vec::new(), overridable: false, delicate: false }
    }

    /// The full name of a setting.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The setting's value; a variable goes before the file.
    pub(super) fn get(&mut self, reader: &mut Reader<'a>, name: &'static str) -> Option<Found<'a>> {
        reader.asked.insert((self.path.clone(), name));
        let in_file = self.in_file(name);
        let variable = if self.overridable { reader.variable(&self.path(name)) } else { None };
        variable.or(in_file)
    }

    /// The setting's value in the file alone.
    pub(super) fn in_file(&mut self, name: &'static str) -> Option<Found<'a>> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table?.get(name).map(Found::Toml)
    }

    /// Only the variable.
    pub(super) fn in_variable(&mut self, reader: &mut Reader<'a>, name: &'static str) -> Option<Found<'a>> {
        reader.asked.insert((self.path.clone(), name));
        reader.variable(&self.path(name))
    }

    /// Refuses a setting of a later version.
    pub(super) fn not_built(&mut self, reader: &mut Reader<'a>, name: &'static str) {
        self.later.push(name);
        let path = self.path(name);
        let place = if let Some((key, value)) = self.table.and_then(|t| t.get_key_value(name)) {
            if self.delicate {
                hide(value, &mut reader.secrets);
            }
            Place::Span(key.span())
        } else if let Some(found) = self.overridable.then(|| reader.variable(&path)).flatten() {
            found.place()
        } else {
            return;
        };
        reader.error(codes::NOT_BUILT, &place, format!("`{path}` is designed, but not yet built"));
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'a>) {
        let Some(table) = self.table else { return };
        for (name, span, value) in entries(table) {
            if self.known.contains(&name) || self.later.contains(&name) {
                continue;
            }
            let near = nearest(name, self.known.iter().copied());
            // What is near a harmless setting is that one mistyped; anything else may be a password.
            if self.delicate && near.is_none_or(|n| ["password", "url"].contains(&n)) {
                hide(value, &mut reader.secrets);
            }
            let here = if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", self.path) };
            let mut problem = Problem::error(
                codes::UNKNOWN_SETTING,
                Place::Span(span),
                format!("there is no setting `{name}` {here}"),
            );
            problem = match near {
                Some(near) => problem.did_you_mean(Some(near)),
                None => problem.help(format!("known here: {}", self.known.join(", "))),
            };
            if let (Some(schema), DeValue::Table(_)) = (self.path.strip_prefix("table."), value.get_ref())
                && !schema.contains('.')
            {
                problem = problem.help(format!("a table of schema `{schema}` is written [table.\"{schema}.{name}\"]"));
            }
            reader.push(problem);
        }
    }
}

/// Marks every scalar below `value` as not to be shown.
pub(super) fn hide(value: &Spanned<DeValue<'_>>, out: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|v| hide(v, out)),
        DeValue::Array(array) => array.iter().for_each(|v| hide(v, out)),
        _ => out.push(value.span()),
    }
}
