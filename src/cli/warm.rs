//! `pgevict warm`: fills keys by hand, through the same queries, limits and contract as the daemon. Works with and without one; where
//! none has ever guarded the cache, the contract refuses.

use super::{Common, Output, evict, exit::Exit, load};
use crate::daemon::warmer::hand::{Hand, Told};
use crate::observe::event::WarmOutcome;
use crate::rules::binding::Binding;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments of `pgevict warm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cache; of several namespace versions, the newest
    pub cache: String,
    /// A value for each hole of the cache's template
    #[arg(value_name = "NAME=VALUE")]
    pub values: Vec<String>,
    /// Every key that warm.startup.sql of the cache names and that is not there
    #[arg(long, conflicts_with = "values")]
    pub all: bool,
    /// With --all: those that are there, too
    #[arg(long, requires = "all")]
    pub force: bool,
    /// Print the keys that would be filled, and fill none
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let config = match load::load(common) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(exit) => return exit,
    };
    let usage = |why: String| {
        eprintln!("error: {why}");
        Exit::Usage
    };
    let Some(index) = config.caches.iter().position(|c| c.name == args.cache) else {
        return usage(evict::unknown_cache(&args.cache, &config));
    };
    let cache = &config.caches[index];
    let Some(warm) = &cache.warm else { return usage(format!("cache `{}` has no `warm`", cache.name)) };
    if args.all && warm.startup.is_none() {
        return usage(format!("--all needs `warm.startup.sql` of `{}`, which names its keys", cache.name));
    }
    let values: BTreeMap<&str, &str> = match evict::values(&args.values, cache) {
        Ok(values) => values,
        Err(why) => return usage(why),
    };
    let missing = cache.template.holes().into_iter().find(|h| !args.all && !values.contains_key(h));
    if let Some(missing) = missing {
        return usage(format!("cache `{}` needs a value for `{missing}`: give {missing}=VALUE, or --all", cache.name));
    }
    if let Err(why) = evict::filters_fit(&cache.template, &values) {
        return usage(why);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start the runtime: {e}");
            return Exit::Bug;
        }
    };
    runtime.block_on(async {
        let unreachable = |why: String| {
            eprintln!("error: {why}");
            Exit::Unreachable
        };
        let mut hand = match Hand::new(&config, index).await {
            Ok(hand) => hand,
            Err(why) => return unreachable(why),
        };
        let keys: Vec<(Vec<u8>, Binding)> = if args.all {
            match hand.all().await {
                Ok(keys) => keys,
                Err(why) => {
                    eprintln!("error: warm.startup.sql: {why}");
                    return Exit::No;
                }
            }
        } else {
            hand.key(|hole| values.get(hole).copied()).into_iter().collect()
        };
        if args.dry_run {
            return dry_run(&keys, common.output);
        }
        let mut tally = Tally { all: keys.len(), begun: Some(Instant::now()), ..Tally::default() };
        hand.warm(keys, args.all && !args.force, |told| tally.told(told, common.output)).await;
        tally.end(common.output)
    })
}

fn printable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}

fn dry_run(keys: &[(Vec<u8>, Binding)], output: Output) -> Exit {
    match output {
        Output::Json => {
            let names: Vec<String> = keys.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
            load::print_line(&json!({ "dry_run": true, "would_warm": names }).to_string());
        }
        Output::Text => keys.iter().for_each(|(key, _)| load::print_line(&printable(key))),
    }
    Exit::Done
}

/// How far it is, and how long it will take if it goes on like this.
fn bar(done: usize, all: usize, took: Duration) -> String {
    let filled = (done * 30).checked_div(all).unwrap_or(30);
    let left = took.as_secs_f64() / done.max(1) as f64 * all.saturating_sub(done) as f64;
    let left = match left.round() as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    };
    format!("[{:30}] {done}/{all}, {left} left", "#".repeat(filled))
}

/// What became of the keys.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    done: usize,
    begun: Option<Instant>,
    by: BTreeMap<WarmOutcome, u64>,
}

/// In this order they are said.
const SAID: [WarmOutcome; 7] = [
    WarmOutcome::Stored,
    WarmOutcome::Asked,
    WarmOutcome::Empty,
    WarmOutcome::Present,
    WarmOutcome::Refused,
    WarmOutcome::Failed,
    WarmOutcome::Dropped,
];

impl Tally {
    fn told(&mut self, (key, outcome, why): Told, output: Output) {
        self.done += 1;
        *self.by.entry(outcome).or_default() += 1;
        let terminal = std::io::stderr().is_terminal();
        let clear = if terminal && self.all > 1 { "\r\x1b[K" } else { "" };
        if let Some(why) = why {
            eprintln!("{clear}{}: {}: {why}", printable(&key), outcome.as_str());
        } else if self.all == 1 && output == Output::Text {
            eprintln!("{}: {}", printable(&key), outcome.as_str());
        }
        if terminal && self.all > 1 {
            // The result stands on stdout; this line is gone when it does.
            let took = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            eprint!("{clear}{}", bar(self.done, self.all, took));
            if self.done == self.all {
                eprint!("{clear}");
            }
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self, output: Output) -> Exit {
        let of = |outcome: WarmOutcome| self.by.get(&outcome).copied().unwrap_or_default();
        match output {
            Output::Json => {
                let fields = SAID.map(|outcome| (outcome.as_str().to_owned(), json!(of(outcome))));
                load::print_line(&serde_json::Value::Object(fields.into_iter().collect()).to_string());
            }
            Output::Text => {
                let parts = SAID.into_iter().filter(|o| of(*o) > 0).map(|o| format!("{} {}", of(o), o.as_str()));
                let text = parts.collect::<Vec<_>>().join(", ");
                load::print_line(if text.is_empty() { "nothing to warm" } else { &text });
            }
        }
        let unwell = of(WarmOutcome::Refused) + of(WarmOutcome::Failed) + of(WarmOutcome::Dropped);
        if unwell > 0 { Exit::No } else { Exit::Done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far_it_is_and_how_long_it_will_take() {
        let seconds = Duration::from_secs;
        assert_eq!(bar(1, 3, seconds(5)), "[##########                    ] 1/3, 10 s left");
        assert_eq!(bar(50, 100_000, seconds(1)), "[                              ] 50/100000, 34 min left");
        assert_eq!(bar(3, 3, seconds(9)), "[##############################] 3/3, 0 s left");
        assert!(bar(0, 0, seconds(0)).ends_with("0/0, 0 s left"));
    }
}
