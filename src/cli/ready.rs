//! `pgevict ready`.

use super::client::{self, Daemon};
use super::{Common, Output, exit::Exit, out};

/// Arguments of `pgevict ready`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Says whether the daemon is ready, and if not, why and what to do.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let socket = match client::socket(&args.daemon, common) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let target = match common.output {
        Output::Text => "/readyz",
        Output::Json => "/readyz?format=json",
    };
    client::block_on(async {
        match client::get(&socket, target).await {
            Ok((code, text)) => {
                out::text(&text);
                if code == 200 { Exit::Done } else { Exit::No }
            }
            Err(e) => e.tell(),
        }
    })
}
