//! The unit that ships: hardened as promised, readable by systemd, and made for this program's exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The worst figure that is accepted, in tenths as `systemd-analyze` prints it.
const EXPOSURE: f64 = 1.5;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn unit() -> String {
    std::fs::read_to_string(file("pgevict.service")).unwrap()
}

/// Runs a tool of systemd. It is part of the package `systemd`, also where systemd does not run.
fn run(tool: &str, args: &[&str]) -> Output {
    Command::new(tool).args(args).env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "").output().unwrap_or_else(|e| {
        panic!("{tool} cannot be run ({e}): install the package `systemd` (`make test` does so)");
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_unit_is_exposed_to_at_most_1_5() {
    let unit = file("pgevict.service");
    let output = run("systemd-analyze", &["security", "--offline=true", unit.to_str().unwrap()]);
    let text = text(&output);
    let figure = text
        .lines()
        .find_map(|l| l.split_once("Overall exposure level for pgevict.service:"))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    let figure = figure.unwrap_or_else(|| panic!("no figure in:\n{text}"));
    assert!(figure <= EXPOSURE, "exposure {figure}, more than {EXPOSURE}:\n{text}");
}

#[test]
fn systemd_understands_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgevict.service");
    // `verify` wants the programs and pages that a unit names to be installed; here they are those of the build.
    let here = unit().replace("/usr/bin/pgevict", env!("CARGO_BIN_EXE_pgevict"));
    let here: Vec<&str> = here.lines().filter(|l| !l.starts_with("Documentation=man:")).collect();
    std::fs::write(&path, here.join("\n")).unwrap();
    let output = run("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]);
    let text = text(&output);
    let complaints: Vec<&str> = text.lines().filter(|l| l.contains("pgevict")).collect();
    assert!(complaints.is_empty(), "{text}");
}

#[test]
fn a_misspelled_line_would_be_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgevict.service");
    std::fs::write(&path, unit().replace("WatchdogSec=", "WatchDogSecs=")).unwrap();
    let text = text(&run("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]));
    assert!(text.contains("WatchDogSecs"), "{text}");
}

#[test]
fn the_user_can_be_made() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let root_arg = format!("--root={}", root.path().display());
    let output = run("systemd-sysusers", &[&root_arg, file("pgevict.sysusers").to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let passwd = std::fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(passwd.starts_with("pgevict:x:"), "{passwd}");
    let group = std::fs::read_to_string(root.path().join("etc/group")).unwrap();
    assert!(group.starts_with("pgevict:x:"), "{group}");
}

#[test]
fn the_unit_keeps_what_the_program_relies_on() {
    let unit = unit();
    let has = |line: &str| assert!(unit.lines().any(|l| l == line), "no line `{line}`");
    has("Type=notify");
    has("User=pgevict");
    has("Restart=on-failure");
    has("RestartPreventExitStatus=2 3 78");
    has("ExecReload=/bin/kill -HUP $MAINPID");
    has("RuntimeDirectory=pgevict");
    has("#LoadCredential=postgres.password:/etc/pgevict/postgres.password");
    has("#LoadCredential=redis.password:/etc/pgevict/redis.password");
    let setting = |name: &str| {
        let line = unit.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}"))
    };
    let watchdog: u64 = setting("WatchdogSec").trim_end_matches('s').parse().unwrap();
    // A loop that is slow but counts as alive must not be killed for it.
    assert!(watchdog > pgevict::observe::observer::BEAT_LIMIT.as_secs());
    assert!(setting("After").contains("network-online.target"));
    for name in ["Requires", "BindsTo", "PartOf"] {
        assert!(!unit.lines().any(|l| l.starts_with(&format!("{name}="))), "{name}: boot order must not matter");
    }
    for limit in ["MemoryMax", "TasksMax", "LimitNOFILE"] {
        setting(limit);
    }
}
