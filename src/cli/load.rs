//! Loading the configuration for a command: every command says the same about a file that is wrong.

use super::{Common, Output, exit::Exit};
use crate::config::{self, Environment, Loaded, Report};
use std::io::{IsTerminal as _, Write as _};

/// Finds, reads and checks the configuration. Problems are printed: for people to stderr, with `-o json` to stdout.
/// Warnings are left to the caller (`check` prints them, `run` logs them).
///
/// # Errors
/// [`Exit::Config`], after all problems have been printed.
pub fn load(common: &Common) -> Result<Loaded, Exit> {
    config::load(common.config.as_deref(), &Environment::from_process()).map_err(|report| {
        match common.output {
            Output::Text => print_report(&report),
            Output::Json => print_line(&report.to_json().to_string()),
        }
        Exit::Config
    })
}

/// Draws a report on stderr, with colours on a terminal unless `NO_COLOR` says otherwise.
pub fn print_report(report: &Report) {
    let mut stderr = std::io::stderr().lock();
    let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // Who closed stderr does not want to know.
    let _ = stderr.write_all(report.to_text(colours).as_bytes());
}

/// A line of the result. A reader that has gone away (`| head`) is nobody's error.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Loads once more for a reload; the problems come back as text.
///
/// # Errors
/// What [`load`] would have printed, without colours.
pub fn again(named: Option<&std::path::Path>) -> Result<config::model::Config, String> {
    match config::load(named, &Environment::from_process()) {
        Ok(loaded) => Ok(loaded.config),
        Err(report) => Err(report.to_text(false)),
    }
}
