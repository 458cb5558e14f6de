//! `pgevict demo`.

pub mod process;
pub mod servers;

use super::{Common, exit::Exit};

/// Arguments of `pgevict demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
#[must_use]
pub fn run(_args: Args, _common: &Common) -> Exit {
    Exit::Bug
}
