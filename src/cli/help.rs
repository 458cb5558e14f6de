//! `pgevict help`.

use super::load::print_line;
use super::{Cli, Common, exit::Exit};
use crate::config::codes::{self, Entry};
use crate::config::scalar::nearest;
use clap::CommandFactory as _;

/// Arguments of `pgevict help`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A command, or an error code such as PE104
    #[arg(value_name = "COMMAND|CODE")]
    topic: Option<String>,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, _common: &Common) -> Exit {
    let mut cli = Cli::command();
    // Propagates names and options to the subcommands, so that their help reads as `pgevict COMMAND --help`.
    cli.build();
    let Some(topic) = args.topic else {
        print_line(cli.render_long_help().to_string().trim_end());
        return Exit::Done;
    };
    if let Some(entry) = Entry::of(&topic) {
        print_line(&explain(entry));
        return Exit::Done;
    }
    if let Some(command) = cli.find_subcommand_mut(&topic) {
        print_line(command.render_long_help().to_string().trim_end());
        return Exit::Done;
    }
    let names: Vec<String> = cli.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let candidates = names.iter().map(String::as_str).chain(codes::ALL.iter().map(|e| e.code.as_str()));
    let near = nearest(&topic, candidates).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
    eprintln!("pgevict: `{topic}` is neither a command nor an error code{near}");
    Exit::Usage
}

/// A code as `help` prints it.
fn explain(entry: &Entry) -> String {
    format!("{}: {}\n\n{}\n\nWhat to do: {}", entry.code, entry.title, entry.cause, entry.remedy)
}
