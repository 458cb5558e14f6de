//! `pgevict run`.

use super::load;
use super::{Common, exit::Exit};
use crate::daemon::End;
use crate::daemon::supervise::{Options, supervise};
use crate::daemon::threads::runtime;

/// Arguments of `pgevict run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Without a position in Redis, take the present caches as fresh instead of flushing them
    #[arg(long)]
    pub adopt: bool,
}

/// Runs the daemon in the foreground until SIGTERM or SIGINT.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let loaded = match load::load(common) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let log = match crate::observe::init(&loaded.config.log) {
        Ok(log) => log,
        Err(why) => {
            eprintln!("pgevict: the log cannot be set up: {why}");
            return Exit::Bug;
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("pgevict: the runtime cannot be started: {e}");
            return Exit::Bug;
        }
    };
    let named = common.config.clone();
    let warnings = loaded.warnings.problems.iter();
    let options = Options {
        warnings: warnings.map(|p| format!("{}: {}; see `pgevict check`", p.code, p.whole_message())).collect(),
        path: loaded.path.display().to_string(),
        config: loaded.config,
        adopt: args.adopt,
        reload: Box::new(move || load::again(named.as_deref())),
        log,
    };
    match runtime.block_on(supervise(options)) {
        Ok(End::Stopped) => Exit::Done,
        Ok(End::Refused(why)) => {
            eprintln!("pgevict: refused: {why}");
            Exit::Refused
        }
        Err(e) => {
            eprintln!("pgevict: signals cannot be handled, or no thread can be started: {e}");
            Exit::Bug
        }
    }
}
