//! `pgevict completions`.

use super::{Cli, Common, exit::Exit};
use clap::CommandFactory as _;
use std::io::Write as _;

/// Arguments of `pgevict completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell whose completions are printed
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, _common: &Common) -> Exit {
    // The generator panics when its writer fails; a closed pipe must not look like a bug.
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pgevict", &mut out);
    let _ = std::io::stdout().lock().write_all(&out);
    Exit::Done
}
