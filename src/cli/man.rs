//! `pgevict man`.

use super::{Cli, Common, exit::Exit};
use clap::CommandFactory as _;
use std::io::Write as _;

/// Arguments of `pgevict man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Page of this command instead of the overview
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, _common: &Common) -> Exit {
    let mut cli = Cli::command();
    cli.build();
    let page = match &args.command {
        None => cli,
        Some(name) => match cli.find_subcommand(name) {
            Some(command) => command.clone().name(format!("pgevict-{name}")),
            None => {
                eprintln!("pgevict: there is no command `{name}`");
                return Exit::Usage;
            }
        },
    };
    let mut out = Vec::new();
    if let Err(e) = clap_mangen::Man::new(page).render(&mut out) {
        eprintln!("pgevict: the manual page cannot be rendered: {e}");
        return Exit::Bug;
    }
    let _ = std::io::stdout().lock().write_all(&out);
    Exit::Done
}
