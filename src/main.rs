//! A doorbell: rings [`pgevict::cli`] and leaves with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgevict::cli::main().into()
}
