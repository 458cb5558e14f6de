//! Problems of a configuration, and how they are drawn.

use super::codes::Code;
use super::redact::Redacted;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

/// Whether the configuration can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and may not do what was meant.
    Warning,
}

impl Severity {
    /// As JSON spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// These bytes of the file.
    Span(Range<usize>),
    /// This environment variable.
    Variable(String),
    /// Nowhere in particular.
    None,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, as one sentence without secrets.
    pub message: String,
    /// A few words under the caret; may be empty.
    pub label: String,
    /// Where.
    pub place: Place,
    /// Another place that belongs to it, with a few words.
    pub context: Option<(Range<usize>, String)>,
    /// What to do, each a line.
    pub help: Vec<String>,
}

impl Problem {
    /// An error.
    #[must_use]
    pub fn error(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            label: String::new(),
            place,
            context: None,
            help: Vec::new(),
        }
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// Words under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// A line of help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// "did you mean", where something is near.
    #[must_use]
    pub fn did_you_mean(self, suggestion: Option<&str>) -> Self {
        match suggestion {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// The message with the words that otherwise stand under the caret.
    #[must_use]
    pub fn whole_message(&self) -> String {
        if self.label.is_empty() { self.message.clone() } else { format!("{}: {}", self.message, self.label) }
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn context(mut self, place: &Place, label: impl Into<String>) -> Self {
        if let Place::Span(span) = place {
            self.context = Some((span.clone(), label.into()));
        }
        self
    }
}

/// All problems of one configuration, with the text they point into. `Debug` shows no text of the file.
#[derive(Clone, Default)]
pub struct Report {
    /// The problems, errors and warnings, in the file's order; those without a place in the file come first.
    pub problems: Vec<Problem>,
    file: String,
    text: Arc<Redacted>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("file", &self.file).field("problems", &self.problems).finish_non_exhaustive()
    }
}

impl Report {
    pub(super) fn new(mut problems: Vec<Problem>, file: &str, text: Redacted) -> Self {
        let key = |p: &Problem| match &p.place {
            Place::Span(s) => (1, s.start, s.end, p.severity),
            _ => (0, 0, 0, p.severity),
        };
        problems.sort_by_key(key);
        problems.dedup();
        Self { problems, file: file.to_owned(), text: Arc::new(text) }
    }

    /// A report of problems that concern no file.
    #[must_use]
    pub fn bare(problems: Vec<Problem>) -> Self {
        Self { problems, file: String::new(), text: Arc::default() }
    }

    /// Whether there is an error among the problems.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// The same text with other problems: findings about the servers point into the same file.
    #[must_use]
    pub fn with(&self, problems: Vec<Problem>) -> Self {
        Self { problems, ..self.clone() }
    }

    /// Drawn as rustc draws: file, line, caret, help.
    #[must_use]
    pub fn to_text(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for problem in &self.problems {
            out.push_str(&self.draw(problem, &renderer));
            out.push_str("\n\n");
        }
        out
    }

    fn draw(&self, problem: &Problem, renderer: &Renderer) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = match &problem.place {
            Place::Span(_) => printable(&problem.message),
            _ => printable(&problem.whole_message()),
        };
        let mut group = annotate_snippets::Group::with_title(level.primary_title(message).id(problem.code.as_str()));
        if let Place::Span(span) = &problem.place {
            let mut primary = AnnotationKind::Primary.span(self.text.map(span));
            if !problem.label.is_empty() {
                primary = primary.label(printable(&problem.label));
            }
            let mut snippet = Snippet::source(self.text.text()).path(self.file.as_str()).annotation(primary);
            if let Some((span, label)) = &problem.context {
                let context = AnnotationKind::Context.span(self.text.map(span));
                snippet = snippet.annotation(context.label(printable(label)));
            }
            group = group.element(snippet);
        }
        for help in &problem.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        group = group.element(Level::NOTE.message(format!("see `pgevict help {}`", problem.code)));
        let drawn = renderer.render(&[group]).to_string();
        // The renderer pads; expected texts in version control should not carry blanks at line ends.
        drawn.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// `{problems: [{code, severity, file, line, column, message, help}]}`; `line` and `column` count from 1, columns
    /// in characters, and are null where the problem has no place in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|p| {
                let at = match &p.place {
                    Place::Span(span) => Some(self.text.line_column(span.start)),
                    _ => None,
                };
                json!({
                    "code": p.code.as_str(),
                    "severity": p.severity.as_str(),
                    "file": at.map(|_| self.file.as_str()),
                    "line": at.map(|(line, _)| line),
                    "column": at.map(|(_, column)| column),
                    "message": p.whole_message(),
                    "help": if p.help.is_empty() { Value::Null } else { Value::from(p.help.join("\n")) },
                })
            })
            .collect();
        json!({ "problems": problems })
    }
}

/// Terminals obey control characters, and a message may quote what stands in a file.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
