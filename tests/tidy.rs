//! House rules as a test. Each failure names file and line, and the rule's reason stands beside the rule.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file that is or would be committed, relative to the top.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from).filter(|p| top(p).exists()).collect()
}

fn top(path: &Path) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file; None for what is not text.
fn text(path: &Path) -> Option<String> {
    std::fs::read(top(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// The lines of a source file up to its tests, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).take_while(|(_, line)| *line != "#[cfg(test)]")
}

#[track_caller]
fn no_problems(rule: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{rule}\n  {}", problems.join("\n  "));
}

/// The floors of ARCHITECTURE.md; None: lib.rs and main.rs, which stand outside.
fn floor(room: &str) -> Option<u8> {
    match room {
        "cli" => Some(4),
        "daemon" => Some(3),
        "source" | "sink" | "warm" | "admin" => Some(2),
        "flow" | "observe" => Some(1),
        "config" | "rules" | "planted" => Some(0),
        _ => None,
    }
}

/// The room a file belongs to: `src/sink/scan.rs` → `sink`, `src/sink.rs` → `sink`.
fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// Rooms that a line reaches for by absolute path, braces of one line included.
fn rooms_named(line: &str) -> Vec<&str> {
    let line = line.split("//").next().unwrap_or_default();
    let mut rooms = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let rest = &line[at + found.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        rooms.extend(names.into_iter().map(|name| {
            let name = name.trim();
            &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())]
        }));
    }
    rooms
}

#[test]
fn imports_point_down_and_never_sideways_on_floor_two() {
    let mut problems = Vec::new();
    for path in files().iter().filter(|p| has_extension(p, "rs") && p.starts_with("src")) {
        let Some(room) = room(path).filter(|r| r != "lib" && r != "main") else { continue };
        let Some(own) = floor(&room) else {
            problems.push(format!("{}: the room {room} stands on no floor of ARCHITECTURE.md", path.display()));
            continue;
        };
        for (n, line) in code(&text(path).unwrap_or_default()) {
            for named in rooms_named(line).into_iter().filter(|n| *n != room) {
                if floor(named).is_some_and(|other| other > own || (other == 2 && own == 2)) {
                    problems.push(format!("{}:{n}: {room} reaches up or across to {named}", path.display()));
                }
            }
        }
    }
    no_problems("imports point down, never sideways on floor 2", &problems);
}

#[test]
fn the_reader_of_imports_sees_every_room() {
    assert_eq!(rooms_named("use crate::sink::Thing;"), ["sink"]);
    assert_eq!(rooms_named("use crate::{sink::Thing, source};"), ["sink", "source"]);
    assert_eq!(rooms_named("    let x = crate::rules::sql::ident(a); // crate::cli"), ["rules"]);
    assert_eq!(room(Path::new("src/cli/demo/process.rs")).as_deref(), Some("cli"));
}

#[test]
fn no_file_is_longer_than_500_lines_without_its_tests() {
    let mut problems = Vec::new();
    for path in files().iter().filter(|p| has_extension(p, "rs") && p.starts_with("src")) {
        let lines = code(&text(path).unwrap_or_default()).count();
        if lines > 500 {
            problems.push(format!("{}: {lines} lines", path.display()));
        }
    }
    no_problems("a file over 500 lines has two purposes", &problems);
}

#[test]
fn the_top_level_holds_what_it_should_and_nothing_else() {
    let given = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "sql",
        "tests",
        "systemd",
        "config.toml",
        "README.md",
        "docs",
        "benches",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
        "deny.toml",
        // cargo-fuzz wants its crate here.
        "fuzz",
        "rustfmt.toml",
    ];
    let found: BTreeSet<String> = files()
        .iter()
        .filter_map(|p| p.components().next().and_then(|c| c.as_os_str().to_str()).map(str::to_owned))
        .collect();
    let problems: Vec<String> =
        found.into_iter().filter(|name| !name.starts_with('.') && !given.contains(&name.as_str())).collect();
    no_problems("the top level is given (ARCHITECTURE.md)", &problems);
}

#[test]
fn every_sql_file_is_used() {
    let all = files();
    let sources: String = all
        .iter()
        .filter(|p| has_extension(p, "rs") || p.file_name().is_some_and(|n| n == "Makefile"))
        .filter_map(|p| text(p))
        .collect();
    let problems: Vec<String> = all
        .iter()
        .filter(|p| p.starts_with("sql"))
        .filter(|p| !p.file_name().and_then(|n| n.to_str()).is_some_and(|name| sources.contains(name)))
        .map(|p| p.display().to_string())
        .collect();
    no_problems("a file of sql/ that neither the program nor a test reads is not what PostgreSQL hears", &problems);
}

#[test]
fn nothing_names_a_machine_or_a_package_registry() {
    // Split so that this file does not find itself.
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("registry.npm", "js.org"),
        concat!("pypi", ".org"),
        concat!("static.", "crates.io"),
    ];
    let mut problems = Vec::new();
    for path in files().iter().filter(|p| !has_extension(p, "lock")) {
        for (n, line) in (1..).zip(text(path).unwrap_or_default().lines()) {
            for name in forbidden.iter().filter(|f| line.contains(**f)) {
                problems.push(format!("{}:{n}: {name}", path.display()));
            }
        }
    }
    no_problems("the repository knows no machine and no host", &problems);
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut problems = Vec::new();
    for path in files().iter().filter(|p| has_extension(p, "md")) {
        let here = path.parent().unwrap_or(Path::new(""));
        for (n, line) in (1..).zip(text(path).unwrap_or_default().lines()) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split('#').next().unwrap_or_default();
                let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
                if !outside && !top(&here.join(target)).exists() {
                    problems.push(format!("{}:{n}: {link}", path.display()));
                }
            }
        }
    }
    no_problems("a link that leads nowhere wastes a reader's trust", &problems);
}

#[test]
fn every_exit_code_is_documented() {
    let source = text(Path::new("src/cli/exit.rs")).expect("src/cli/exit.rs");
    let codes: Vec<u8> =
        source.lines().filter_map(|l| l.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok()).collect();
    assert!(codes.len() >= 7, "the exit codes were not found: {codes:?}");
    let pages = documentation();
    let problems: Vec<String> = codes
        .iter()
        .filter(|code| !pages.contains(&format!("| {code} |")) && !pages.contains(&format!("| `{code}` |")))
        .map(|code| format!("no table of README.md or docs/ has a row for exit code {code}"))
        .collect();
    no_problems("exit codes are an interface", &problems);
}

#[test]
fn every_setting_is_documented() {
    let page = text(Path::new("docs/configuration.md")).expect("docs/configuration.md");
    let settings = pgevict::config::settings();
    assert!(settings.len() > 40, "the settings were not found: {settings:?}");
    let problems: Vec<String> = settings
        .iter()
        .filter(|(_, name)| !page.contains(&format!("`{name}")))
        .map(|(section, name)| format!("docs/configuration.md does not describe [{section}] {name}"))
        .collect();
    no_problems("settings are an interface", &problems);
}

#[test]
fn the_reference_configuration_is_valid() {
    let ran = Command::new(env!("CARGO_BIN_EXE_pgevict"))
        .args(["check", "--offline", "-c", "config.toml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .output()
        .expect("pgevict runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// README and docs/, as one text.
fn documentation() -> String {
    files()
        .iter()
        .filter(|p| has_extension(p, "md") && (p.starts_with("docs") || p.as_path() == Path::new("README.md")))
        .filter_map(|p| text(p))
        .fold(String::new(), |mut all, page| {
            let _ = writeln!(all, "{page}");
            all
        })
}
