//! Floor 4: words in, words out. One file a command; every command ends with an [`exit::Exit`].

pub mod check;
mod check_postgres;
mod check_redis;
mod check_replica;
pub mod check_servers;
mod check_warm;
pub mod client;
pub mod completions;
pub mod demo;
pub mod evict;
pub mod exit;
pub mod explain;
pub mod help;
pub mod load;
pub mod man;
pub mod out;
pub mod pause;
pub mod ready;
pub mod run;
pub mod sql;
pub mod status;
pub mod tail;
pub mod test;
pub mod warm;

use clap::{Parser, Subcommand, ValueEnum};
use exit::Exit;
use std::path::PathBuf;

/// Deletes the right Redis keys a few milliseconds after PostgreSQL rows change.
#[derive(Debug, Parser)]
#[command(name = "pgevict", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Configuration file [default: $PGEVICT_CONFIG, ./config.toml, /etc/pgevict/config.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the result on stdout
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
}

/// Form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs; see docs/json.md
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::Args),
    /// Check the configuration, and that the servers fit it
    Check(check::Args),
    /// Run the [[test]] cases of the configuration, without servers
    Test(test::Args),
    /// Show which keys a change of a row evicts, without servers
    Explain(explain::Args),
    /// Print, apply or compare the triggers
    Sql(sql::Args),
    /// See it work on private servers
    Demo(demo::Args),
    /// Delete keys by hand
    Evict(evict::Args),
    /// Fill keys by hand
    Warm(warm::Args),
    /// Hold the position: nothing is evicted until `resume`
    Pause(pause::Args),
    /// Go on after `pause`
    Resume(pause::Args),
    /// Exit 0 if the daemon is ready, 1 if not
    Ready(ready::Args),
    /// Show what the daemon does
    Status(status::Args),
    /// Follow evictions as they happen
    Tail(tail::Args),
    /// Explain an error code, or show help
    Help(help::Args),
    /// Print shell completions
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

/// Reads the command line and runs the command.
#[must_use]
pub fn main() -> Exit {
    // One provider for all TLS of the process; it can only be there already when a test calls this twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // A closed pipe under --help is nobody's error.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(args, &cli.common),
        Command::Check(args) => check::run(args, &cli.common),
        Command::Test(args) => test::run(args, &cli.common),
        Command::Explain(args) => explain::run(args, &cli.common),
        Command::Sql(args) => sql::run(args, &cli.common),
        Command::Demo(args) => demo::run(args, &cli.common),
        Command::Evict(args) => evict::run(args, &cli.common),
        Command::Warm(args) => warm::run(args, &cli.common),
        Command::Pause(args) => pause::run(args, true, &cli.common),
        Command::Resume(args) => pause::run(args, false, &cli.common),
        Command::Ready(args) => ready::run(args, &cli.common),
        Command::Status(args) => status::run(args, &cli.common),
        Command::Tail(args) => tail::run(args, &cli.common),
        Command::Help(args) => help::run(args, &cli.common),
        Command::Completions(args) => completions::run(args, &cli.common),
        Command::Man(args) => man::run(args, &cli.common),
    }
}
