//! `make bench`: how fast pgevict is, beside what it is compared with, in one run.
//!
//! Every part starts private servers, runs its candidates in turn (A B C, A B C, …) and compares what they did in the
//! same round: this machine is never quiet, so figures of different rounds are not comparable, their ratios are.
//! Nothing here is asserted. The tables are printed and written into docs/benchmarks.md, each between marks of its own.
//!
//! `measure [PART…]` runs parts (all when none is named); `measure baseline NAME …` is a program that a part starts.

mod baselines;
mod numbers;
mod parts;
mod report;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    // cargo says --bench to every bench target.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if words.first().is_some_and(|w| w == "baseline") {
        return baselines::run(&words[1..]);
    }
    let asked = std::env::var("BENCH").unwrap_or_default();
    let asked: Vec<&str> = words.iter().map(String::as_str).chain(asked.split_whitespace()).collect();
    if let Some(unknown) = asked.iter().find(|name| !parts::ALL.iter().any(|p| p.name == **name)) {
        let known: Vec<&str> = parts::ALL.iter().map(|p| p.name).collect();
        eprintln!("there is no part {unknown}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    for part in parts::ALL.iter().filter(|p| asked.is_empty() || asked.contains(&p.name)) {
        eprintln!("== {}", part.name);
        let section = (part.run)();
        report::print(part.name, &section);
        report::write(part.name, &section);
    }
    ExitCode::SUCCESS
}
