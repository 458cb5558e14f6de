//! stdout of commands whose reader may go away (`| head`): that is no error.

use std::io::Write as _;

/// Prints a text that brings its own line ends; adds the last one where it is missing.
pub fn text(text: &str) {
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let mut out = std::io::stdout().lock();
    // The reader may have left; what it has is what it wanted.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
}

/// Prints a line at once; false when nobody reads any more.
#[must_use]
pub fn line(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}
