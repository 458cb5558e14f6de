//! `pgevict check`: the file, its meaning, and whether the servers fit it.

use super::load::{load, print_line, print_report};
use super::{Common, Output, check_servers, exit::Exit};
use crate::config::codes;
use serde_json::json;

/// Arguments of `pgevict check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check the file alone, without connecting to PostgreSQL and Redis
    #[arg(long)]
    offline: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let loaded = match load(common) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = &loaded.config;
    // Only to point into it; who has replaced it meanwhile is pointed at nothing.
    let text = std::fs::read_to_string(&loaded.path).unwrap_or_default();
    let findings = if args.offline { Vec::new() } else { check_servers::check(config, &text) };
    let unreachable = findings.iter().any(|p| [codes::NO_POSTGRES, codes::NO_REDIS].contains(&p.code));
    let servers = loaded.warnings.with(findings);
    let exit = match (unreachable, servers.has_errors()) {
        (true, _) => Exit::Unreachable,
        (false, true) => Exit::No,
        (false, false) => Exit::Done,
    };
    let edges: usize = config.tables.iter().map(|t| t.edges.len()).sum();
    let (caches, tables) = (config.caches.len(), config.tables.len());
    match common.output {
        Output::Text => {
            print_report(&loaded.warnings);
            print_report(&servers);
            if exit == Exit::Done {
                let stage = if args.offline { "the servers were not asked" } else { "the servers fit" };
                print_line(&format!(
                    "{}: {}, {}, {}; {stage}",
                    loaded.path.display(),
                    count(caches, "cache"),
                    count(tables, "table"),
                    count(edges, "edge"),
                ));
            }
        }
        Output::Json => {
            let both = loaded.warnings.problems.iter().chain(&servers.problems).cloned().collect();
            let mut out = loaded.warnings.with(both).to_json();
            out["ok"] = json!(exit == Exit::Done);
            out["caches"] = json!(caches);
            out["tables"] = json!(tables);
            out["edges"] = json!(edges);
            print_line(&out.to_string());
        }
    }
    exit
}

/// `1 cache`, `2 caches`.
fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
