//! `pgevict tail`.

use super::client::{self, Daemon, Stream};
use super::{Common, Output, exit::Exit, out};
use crate::observe::tail::text_of;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `pgevict tail`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
    /// End after this many lines
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u64>,
}

/// Prints lines as they come, until a signal, a closed pipe, `--lines`, or the end of the daemon.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let socket = match client::socket(&args.daemon, common) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    client::block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            eprintln!("error: signals cannot be waited for");
            return Exit::Bug;
        };
        let stream = match client::stream(&socket, "/tail").await {
            Ok(stream) => stream,
            Err(e) => return e.tell(),
        };
        tokio::select! {
            exit = follow(stream, args.lines, common.output) => exit,
            _ = interrupt.recv() => Exit::Done,
            _ = terminate.recv() => Exit::Done,
        }
    })
}

async fn follow(mut stream: Stream, lines: Option<u64>, form: Output) -> Exit {
    let mut left = lines;
    while left != Some(0) {
        let line = match stream.line().await {
            Ok(line) => line,
            Err(e) => return e.tell(),
        };
        let shown = match form {
            Output::Json => line,
            // What an older or newer daemon words differently is better shown raw than not at all.
            Output::Text => text_of(&line).unwrap_or(line),
        };
        if !out::line(&shown) {
            return Exit::Done;
        }
        left = left.map(|n| n - 1);
    }
    Exit::Done
}
