//! `pgevict evict`: deletes keys by hand, straight in Redis. Works with and without a running daemon.
//!
//! Nothing deletes what is exempt (`never_delete`, pgevict's own keys), not even this. When a pattern also matches
//! exempt keys, they are kept and counted; the command is refused (exit 3) only when exempt keys were all it found.

mod delete;

use super::{Common, Output, client, exit::Exit, load};
use crate::config::model::{Cache, Config, OverLimit};
use crate::config::scalar::nearest;
use crate::rules::glob;
use crate::rules::mapping::Protection;
use crate::rules::template::{Fill, Rendered, Segment, Template};
use crate::sink::connect;
use delete::Tally;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Arguments of `pgevict evict`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cache, with all namespace versions
    #[arg(required_unless_present_any = ["key", "pattern"], conflicts_with_all = ["key", "pattern"])]
    pub cache: Option<String>,
    /// A value for each hole of the cache's template
    #[arg(value_name = "NAME=VALUE")]
    pub values: Vec<String>,
    /// Everything the cache can hold
    #[arg(long, requires = "cache", conflicts_with = "values")]
    pub all: bool,
    /// A full Redis key, namespace prefix included; may be repeated
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub key: Vec<String>,
    /// A Redis glob pattern over full keys; may be repeated
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub pattern: Vec<String>,
    /// Count what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Delete nothing: tell the daemon that what it refused of the cache (over_limit = "refuse") may stay
    #[arg(long, requires = "cache", conflicts_with_all = ["values", "all", "dry_run"])]
    pub dismiss: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    targets: Vec<Rendered>,
    /// Why a confirmation is needed.
    confirm: Option<String>,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let config = match load::load(common) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let mut wish = match wish(&args, &config) {
        Ok(_) if args.dismiss => return dismiss_only(&args, &config, common.output),
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("error: {why}");
            return Exit::Usage;
        }
    };
    let protection = Protection::new(&config.limits, &config.redis);
    let mut tally = Tally::default();
    wish.targets.retain(|target| {
        let Some(exempt) = protection.rendered(target) else { return true };
        eprintln!("refused {}: {}", super::explain::printable(target), exempt.as_str());
        tally.refused += 1;
        false
    });
    if !wish.targets.is_empty() {
        if let Some(why) = wish.confirm.filter(|_| !args.yes && !args.dry_run)
            && !confirmed(&why)
        {
            return Exit::Refused;
        }
        if let Err(why) = perform(&config, &wish.targets, &protection, args.dry_run, &mut tally) {
            // Part of it may have been done: the numbers are said all the same, on stderr.
            eprintln!("error: {why}");
            eprintln!("until then: {tally}");
            return Exit::Unreachable;
        }
    }
    if args.all && !args.dry_run {
        dealt_with(&args, &config);
    }
    match common.output {
        Output::Json => {
            let mut out = json!({ "deleted": tally.deleted, "absent": tally.absent, "refused": tally.refused });
            if args.dry_run {
                out["dry_run"] = true.into();
                out["would_delete"] = tally.would_delete.into();
            }
            load::print_line(&out.to_string());
        }
        Output::Text => load::print_line(&tally.to_string()),
    }
    if tally.refused > 0 && tally.deleted + tally.would_delete == 0 { Exit::Refused } else { Exit::Done }
}

fn dismiss_only(args: &Args, config: &Config, output: Output) -> Exit {
    match dismiss(args, config) {
        Ok(()) => {
            load::print_line(match output {
                Output::Json => r#"{"deleted":0,"absent":0,"refused":0,"dismissed":true}"#,
                Output::Text => "dismissed",
            });
            Exit::Done
        }
        Err(why) => {
            eprintln!("error: {why}");
            Exit::Unreachable
        }
    }
}

/// The whole cache is gone, and with it whatever the daemon had refused to delete of it. Evicting works without a
/// daemon, so that one that does not answer matters only where it may have refused something.
fn dealt_with(args: &Args, config: &Config) {
    if let Err(why) = dismiss(args, config)
        && config.limits.over_limit == OverLimit::Refuse
    {
        let cache = args.cache.as_deref().unwrap_or_default();
        eprintln!("note: {why}");
        eprintln!("note: if it refused something of this cache, tell it: pgevict evict {cache} --dismiss");
    }
}

fn dismiss(args: &Args, config: &Config) -> Result<(), String> {
    // Names of caches are free text; in a URL they are percent-encoded.
    let name: String = args.cache.as_deref().unwrap_or_default().bytes().map(|b| format!("%{b:02X}")).collect();
    let target = format!("/dismiss/{name}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    match runtime.block_on(client::post(&config.admin.socket, &target)) {
        Ok((200..300, _)) => Ok(()),
        Ok((code, text)) => Err(format!("the daemon answers with HTTP {code}: {}", text.trim())),
        Err(e) => Err(e.to_string()),
    }
}

fn perform(
    config: &Config,
    targets: &[Rendered],
    protection: &Protection,
    dry_run: bool,
    tally: &mut Tally,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    runtime.block_on(async {
        let mut connection = connect::connect(&config.redis).await.map_err(|e| e.to_string())?;
        delete::delete(&mut connection, targets, protection, dry_run, tally).await.map_err(|e| {
            let remedy = connect::remedy(&e);
            let remedy = if remedy.is_empty() { String::new() } else { format!(" ({remedy})") };
            format!("Redis at {}: {}{remedy}", config.redis.url, connect::describe(&e))
        })
    })
}

fn wish(args: &Args, config: &Config) -> Result<Wish, String> {
    if let Some(name) = &args.cache {
        let cache = config.cache(name).ok_or_else(|| unknown_cache(name, config))?;
        return of_cache(args, cache, config);
    }
    let mut wish = Wish::default();
    wish.targets.extend(args.key.iter().map(|k| Rendered::Key(k.clone().into_bytes())));
    for pattern in &args.pattern {
        if pattern.is_empty() {
            return Err("the pattern is empty".into());
        }
        if glob::literal_prefix(pattern.as_bytes()).is_empty() {
            wish.confirm = Some(format!("the pattern `{pattern}` begins with a wildcard, so it reaches over all keys"));
        }
        wish.targets.push(Rendered::Pattern(pattern.clone().into_bytes()));
    }
    Ok(wish)
}

pub(super) fn unknown_cache(name: &str, config: &Config) -> String {
    let names = || config.caches.iter().map(|c| c.name.as_str());
    match nearest(name, names()) {
        Some(near) => format!("no cache `{name}`: did you mean `{near}`?"),
        None => format!("no cache `{name}`: there are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

fn of_cache(args: &Args, cache: &Cache, config: &Config) -> Result<Wish, String> {
    let template = &cache.template;
    let values = values(&args.values, cache)?;
    let whole = args.all || args.dismiss;
    if let Some(missing) = template.holes().into_iter().find(|h| !whole && !values.contains_key(h)) {
        return Err(format!(
            "cache `{}` needs a value for `{missing}`: give {missing}=VALUE, or --all for all of `{}`",
            cache.name, template.source
        ));
    }
    filters_fit(template, &values)?;
    let prefixes = config.namespace.prefixes.iter().map(|(_, prefix)| prefix.as_bytes());
    let render =
        |prefix| template.render(prefix, |hole| values.get(hole).map_or(Fill::Unknown, |v| Fill::Value(v.as_bytes())));
    let confirm = args.all.then(|| format!("--all deletes everything that cache `{}` can hold", cache.name));
    Ok(Wish { targets: prefixes.map(render).collect(), confirm })
}

pub(super) fn values<'a>(pairs: &'a [String], cache: &Cache) -> Result<BTreeMap<&'a str, &'a str>, String> {
    let holes = cache.template.holes();
    let mut out = BTreeMap::new();
    for pair in pairs {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("`{pair}` is not of the form NAME=VALUE, such as user_id=7"))?;
        if !holes.contains(&name) {
            return Err(match nearest(name, holes.iter().copied()) {
                Some(near) => format!("cache `{}` has no hole `{name}`: did you mean `{near}`?", cache.name),
                None if holes.is_empty() => format!("cache `{}` has no holes: give no values", cache.name),
                None => format!("cache `{}` has no hole `{name}`: it has {}", cache.name, holes.join(", ")),
            });
        }
        if out.insert(name, value).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
    }
    Ok(out)
}

/// Rendering turns a value that a filter cannot work on into `*`; by hand that would delete more than was asked for.
pub(super) fn filters_fit(template: &Template, values: &BTreeMap<&str, &str>) -> Result<(), String> {
    for segment in &template.segments {
        let Segment::Hole(hole) = segment else { continue };
        let Some(value) = values.get(hole.name.as_str()) else { continue };
        let filtered = hole.filters.iter().try_fold(value.as_bytes().to_vec(), |v, f| f.apply(v));
        filtered.map_err(|_| format!("{}={value} is not a day, such as 2026-11-20", hole.name))?;
    }
    Ok(())
}

/// Asks on the terminal; without one the answer is no.
fn confirmed(why: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        eprintln!("refused: {why}; confirm with --yes");
        return false;
    }
    eprint!("{why}. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let yes = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        eprintln!("refused: not confirmed");
    }
    yes
}
