//! `pgevict test`: runs the `[[test]]` cases of the configuration, without servers.

use super::{Common, Output, exit::Exit, load};
use crate::config::model::{Config, Test};
use crate::rules::evaluate::{self, Event};
use crate::rules::glob;
use crate::rules::template::Rendered;
use serde_json::json;
use std::collections::BTreeSet;

/// Arguments of `pgevict test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only the tests whose name contains this
    pub filter: Option<String>,
}

/// What became of one test.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Keys that were expected and do not go; keys that go and were not expected.
    Differs {
        missing: Vec<String>,
        unexpected: Vec<String>,
    },
    /// The rows could not be evaluated.
    Error(String),
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let loaded = match load::load(common) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = &loaded.config;
    let chosen = |t: &&Test| args.filter.as_ref().is_none_or(|f| t.name.contains(f.as_str()));
    let results: Vec<(&Test, Verdict)> = config.tests.iter().filter(chosen).map(|t| (t, verdict(config, t))).collect();
    let failed = results.iter().filter(|(_, v)| *v != Verdict::Ok).count();
    let file = loaded.path.display().to_string();
    match common.output {
        Output::Json => print_json(&results, failed, &file),
        Output::Text => {
            results.iter().for_each(|(test, verdict)| print(test, verdict, &file));
            match (config.tests.len(), results.len()) {
                (0, _) => load::print_line(&format!("{file} has no [[test]]")),
                (n, 0) => {
                    let filter = args.filter.unwrap_or_default();
                    load::print_line(&format!("none of the {n} tests has `{filter}` in its name"));
                }
                (_, n) => load::print_line(&format!("{} of {n} tests passed", n - failed)),
            }
        }
    }
    if failed == 0 { Exit::Done } else { Exit::No }
}

fn verdict(config: &Config, test: &Test) -> Verdict {
    let Some(event) = Event::from_images(test.old.as_ref(), test.new.as_ref(), test.truncate) else {
        return Verdict::Error("give `old`, `new` or both, or `truncate = true`".into());
    };
    let evaluation = match evaluate::evaluate(config, &test.table, event) {
        Ok(evaluation) => evaluation,
        Err(e) => return Verdict::Error(e.to_string()),
    };
    // All versions of a key are one: tests are written without prefix.
    let actual: BTreeSet<&Rendered> = evaluation.evict.iter().map(|e| &e.bare).collect();
    let same = |expected: &str, actual: &Rendered| match actual {
        Rendered::Key(key) => expected.as_bytes() == key.as_slice(),
        // There is more than one way to escape a value.
        Rendered::Pattern(pattern) => glob::canonical(expected.as_bytes()) == glob::canonical(pattern),
    };
    let expected: BTreeSet<&String> = test.expect.iter().collect();
    let missing: Vec<String> =
        expected.iter().filter(|e| !actual.iter().any(|a| same(e, a))).map(|e| (*e).clone()).collect();
    let unexpected: Vec<String> = actual
        .iter()
        .filter(|a| !expected.iter().any(|e| same(e, a)))
        .map(|a| String::from_utf8_lossy(a.bytes()).into_owned())
        .collect();
    if missing.is_empty() && unexpected.is_empty() { Verdict::Ok } else { Verdict::Differs { missing, unexpected } }
}

fn print(test: &Test, verdict: &Verdict, file: &str) {
    match verdict {
        Verdict::Ok => load::print_line(&format!("ok      {}", test.name)),
        Verdict::Error(why) => {
            load::print_line(&format!("FAILED  {} ({file}:{})\n          {why}", test.name, test.line));
        }
        Verdict::Differs { missing, unexpected } => {
            load::print_line(&format!("FAILED  {} ({file}:{})", test.name, test.line));
            missing.iter().for_each(|k| load::print_line(&format!("          missing     {}", k.escape_debug())));
            unexpected.iter().for_each(|k| load::print_line(&format!("          unexpected  {}", k.escape_debug())));
        }
    }
}

fn print_json(results: &[(&Test, Verdict)], failed: usize, file: &str) {
    let one = |(test, verdict): &(&Test, Verdict)| {
        let (missing, unexpected, error) = match verdict {
            Verdict::Ok => (&[][..], &[][..], None),
            Verdict::Differs { missing, unexpected } => (missing.as_slice(), unexpected.as_slice(), None),
            Verdict::Error(why) => (&[][..], &[][..], Some(why)),
        };
        json!({
            "name": test.name,
            "file": file,
            "line": test.line,
            "ok": *verdict == Verdict::Ok,
            "missing": missing,
            "unexpected": unexpected,
            "error": error,
        })
    };
    let tests: Vec<_> = results.iter().map(one).collect();
    let passed = results.len() - failed;
    load::print_line(&json!({ "passed": passed, "failed": failed, "tests": tests }).to_string());
}
