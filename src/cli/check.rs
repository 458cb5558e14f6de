//! `pgevict check`.

use super::{Common, exit::Exit};

/// Arguments of `pgevict check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn run(_args: Args, _common: &Common) -> Exit {
    Exit::Bug
}
