//! `pgevict demo`: the whole path on private servers, for somebody who has never seen it.
//!
//! - [`process`], [`servers`]: children and servers as values; the tests use them too
//! - [`stage`]: where it plays: servers, database, daemon, and that nothing of it stays
//! - [`shop`]: the application: what it caches, how rows change, what the truth is
//! - [`show`]: the acts; [`screen`]: how they are printed

pub mod process;
mod screen;
pub mod servers;
mod shop;
mod show;
mod stage;

use super::{Common, Output, exit::Exit, out};
use screen::Screen;
use stage::Stage;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `pgevict demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Use this PostgreSQL, in a database of its own that is dropped at the end [default: a private server]
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Use this Redis, under a key prefix of its own that is emptied at the end [default: a private server]
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Seconds of load
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
}

/// Why the show was not played to its end.
#[derive(Debug)]
enum Failure {
    /// A server is not there, or not usable.
    Unreachable(String),
    /// What could not be cleaned up is not begun.
    Refused(String),
    /// The arguments do not fit.
    Usage(String),
    /// It did not work.
    Broken(String),
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl Failure {
    fn tell(&self) -> Exit {
        let (text, exit) = match self {
            Self::Unreachable(text) => (text.as_str(), Exit::Unreachable),
            Self::Refused(text) => (text.as_str(), Exit::Refused),
            Self::Usage(text) => (text.as_str(), Exit::Usage),
            Self::Broken(text) => (text.as_str(), Exit::Bug),
            Self::Interrupted => ("interrupted: nothing was proven", Exit::No),
        };
        eprintln!("error: {text}");
        exit
    }
}

/// Plays it, and removes everything.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Failure::Broken(format!("the runtime cannot start: {e}")).tell(),
    };
    let screen = Screen::new(common.output);
    match runtime.block_on(play(&args, &screen)) {
        Ok(figures) => {
            if common.output == Output::Json {
                out::text(&figures.to_json().to_string());
            }
            if figures.stale.is_empty() { Exit::Done } else { Exit::No }
        }
        Err(failure) => failure.tell(),
    }
}

async fn play(args: &Args, screen: &Screen) -> Result<show::Figures, Failure> {
    // Registered before anything is started: from here on a signal ends the show, and cleaning up comes after it.
    let failed = |e: std::io::Error| Failure::Broken(format!("signals cannot be waited for: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut stage = Stage::open(args, screen).await?;
    let played = tokio::select! {
        played = show::play(&mut stage, screen, args.seconds) => played,
        _ = interrupt.recv() => Err(Failure::Interrupted),
        _ = terminate.recv() => Err(Failure::Interrupted),
    };
    let cleaned = stage.close().await;
    let figures = played?;
    cleaned?;
    Ok(figures)
}
