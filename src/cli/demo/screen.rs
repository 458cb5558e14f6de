//! How the show is printed: plain lines, colours only where a terminal wants them.

use crate::cli::Output;
use serde_json::Value;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Keys that are named for one change; the others are counted.
const NAMED_KEYS: usize = 6;

/// Between two changes that are shown one by one: as fast as one reads.
const READING: Duration = Duration::from_millis(300);

/// Where it is printed.
#[derive(Debug)]
pub(super) struct Screen {
    colours: bool,
    silent: bool,
}

/// What a colour means here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    /// An act.
    Title,
    /// What went, what holds.
    Good,
    /// What must not be.
    Bad,
    /// Beside the point.
    Dim,
}

impl Screen {
    /// With `-o json` nothing is shown but the figures.
    pub(super) fn new(output: Output) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !plain, silent: output == Output::Json }
    }

    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Title => "1",
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line.
    pub(super) fn line(&self, text: &str) {
        if !self.silent {
            let mut out = std::io::stdout().lock();
            // A reader who has left misses nothing that anybody else needs.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// The title of an act, with what it shows.
    pub(super) fn act(&self, title: &str, what: &str) {
        self.line("");
        self.line(&format!("{}  {}", self.paint(Tone::Title, title), self.paint(Tone::Dim, what)));
    }

    /// One change and what it evicted: `event` is a line of `pgevict tail`, None when nothing went.
    pub(super) fn change(&self, story: &str, sql: &str, event: Option<&Value>) {
        self.line("");
        self.line(&format!("  {story}"));
        self.line(&format!("    {}", self.paint(Tone::Dim, sql)));
        let Some(event) = event else {
            self.line(&format!("    {}", self.paint(Tone::Good, "nothing goes")));
            return;
        };
        let keys = event["keys"].as_array().map_or(&[][..], Vec::as_slice);
        for key in keys.iter().take(NAMED_KEYS) {
            let name = key["key"].as_str().unwrap_or("?");
            let text = match (key["outcome"].as_str(), key["kind"].as_str(), key["count"].as_u64()) {
                (Some("deleted"), Some("pattern"), Some(n)) => {
                    format!("{name}  {n} key{} deleted", if n == 1 { "" } else { "s" })
                }
                (Some("absent"), ..) => format!("{name}  was not cached"),
                (Some(outcome), ..) => format!("{name}  {outcome}"),
                _ => name.to_owned(),
            };
            self.line(&format!("    {}", self.paint(Tone::Good, &text)));
        }
        if keys.len() > NAMED_KEYS {
            self.line(&format!("    and {} more", keys.len() - NAMED_KEYS));
        }
        if let Some(lag) = event["lag_ms"].as_f64() {
            self.line(&format!("    {}", self.paint(Tone::Dim, &format!("gone {lag:.1} ms after the row changed"))));
        }
    }

    /// Lets a person read.
    pub(super) async fn pause(&self) {
        if !self.silent {
            tokio::time::sleep(READING).await;
        }
    }
}
