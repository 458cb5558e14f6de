//! `pgevict pause` and `pgevict resume`.

use super::client::{self, Daemon};
use super::{Common, Output, exit::Exit, out};
use serde_json::Value;

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only warming: evictions go on
    #[arg(long)]
    pub warming: bool,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Pauses the daemon, or lets it go on.
#[must_use]
pub fn run(args: Args, paused: bool, common: &Common) -> Exit {
    let socket = match client::socket(&args.daemon, common) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let target = format!("/{}?warming={}", if paused { "pause" } else { "resume" }, args.warming);
    client::block_on(async {
        match client::post(&socket, &target).await {
            Ok((200, text)) if common.output == Output::Json => {
                out::text(&text);
                Exit::Done
            }
            Ok((200, text)) => {
                let new = serde_json::from_str::<Value>(&text).is_ok_and(|v| v["new"] == true);
                out::text(&format!("{}\n", words(args.warming, paused, new)));
                Exit::Done
            }
            Ok((409, why)) => {
                eprintln!("error: {why}");
                Exit::Refused
            }
            Ok((404, _)) => {
                eprintln!("error: the daemon at {} is older than this command", socket.display());
                Exit::Unreachable
            }
            Ok((code, why)) => {
                eprintln!("error: the daemon at {} answers with HTTP {code}: {why}", socket.display());
                Exit::Unreachable
            }
            Err(e) => e.tell(),
        }
    })
}

fn words(warming: bool, paused: bool, new: bool) -> &'static str {
    match (warming, paused, new) {
        (true, true, true) => "warming is paused; evictions go on",
        (true, true, false) => "warming was paused already",
        (true, false, true) => "warming goes on",
        (true, false, false) => "warming was not paused",
        (false, true, true) => {
            "delivery is paused: nothing is evicted until `pgevict resume`, or until the daemon restarts"
        }
        (false, true, false) => "delivery was paused already",
        (false, false, true) => "delivery goes on from where it stood",
        (false, false, false) => "delivery was not paused",
    }
}
