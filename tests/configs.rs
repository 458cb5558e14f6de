//! Configurations that load, and configurations that do not, with the message they get.
//!
//! `tests/configs/bad/NAME.toml` has its expected message beside it in `NAME.stderr`; `UPDATE_EXPECT=1` rewrites them.
//! A line `# env: NAME=value` in a file sets a variable for it.

use pgevict::config::{Environment, codes, parse};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// No message may hold it; files use it wherever a password stands.
const PASSWORD: &str = "hunter2";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/configs").join(folder)).expect("the folder exists");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn environment(text: &str) -> Environment {
    let set = text.lines().filter_map(|l| l.strip_prefix("# env: ")?.split_once('='));
    Environment::of(set.chain([("USER", "somebody")]))
}

/// Whether `path` holds `actual`; with `UPDATE_EXPECT` set it is made to.
fn expect(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, actual).map_err(|e| e.to_string())?;
        return Ok(());
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{} expects\n{expected}\nbut there is\n{actual}\n(UPDATE_EXPECT=1 rewrites it)", path.display()))
}

#[test]
fn every_good_configuration_loads_without_a_warning() {
    for path in files("good").into_iter().chain([root().join("config.toml")]) {
        let text = std::fs::read_to_string(&path).expect("readable");
        match parse(&text, "config.toml", &environment(&text)) {
            Ok((_, warnings)) => assert_eq!(warnings.to_text(false), "", "{}", path.display()),
            Err(report) => panic!("{}:\n{}", path.display(), report.to_text(false)),
        }
    }
}

#[test]
fn every_bad_configuration_has_its_message_and_no_message_holds_a_password() {
    let mut wrong = Vec::new();
    for path in files("bad") {
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        let report = match parse(&text, name, &environment(&text)) {
            Ok((_, warnings)) => warnings,
            Err(report) => report,
        };
        assert!(!report.problems.is_empty(), "{name} has no problem");
        let drawn = report.to_text(false);
        let everything = [drawn.clone(), report.to_text(true), report.to_json().to_string(), format!("{report:?}")];
        assert!(everything.iter().all(|t| !t.contains(PASSWORD)), "{name} shows a password:\n{everything:?}");
        wrong.extend(expect(&path.with_extension("stderr"), &drawn).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_about_files_has_a_bad_configuration() {
    let expected: String = files("bad")
        .into_iter()
        .map(|p| std::fs::read_to_string(p.with_extension("stderr")).unwrap_or_default())
        .collect();
    // Codes about files that cannot be read, and about servers, have tests where these are.
    let elsewhere = |code: &str| code >= "PE5" || ["PE001", "PE002", "PE013", "PE014"].contains(&code);
    for entry in codes::ALL.iter().filter(|e| !elsewhere(e.code.as_str())) {
        assert!(expected.contains(&format!("[{}]", entry.code)), "no configuration shows {}", entry.code);
    }
}

#[test]
fn the_list_of_errors_is_complete() {
    let mut page = String::from(
        "# Errors\n\nEvery problem that `pgevict check` finds has a code that keeps its meaning. `pgevict help CODE` shows the \
         same text.\n\nPE0… files and environment, PE1… settings, PE2… caches, PE3… tables, PE4… tests, PE5… servers.\n\n\
         ## Exit codes\n\n\
         | code | meaning |\n|---|---|\n\
         | 0 | yes, or done; also: nothing was there to delete |\n\
         | 1 | it worked, and the answer is no: drift, a failed test, not ready, servers that do not fit |\n\
         | 2 | usage: unknown command, table, cache or hole on the command line |\n\
         | 3 | refused: `never_delete`, a missing confirmation, a foreign identity |\n\
         | 4 | PostgreSQL, Redis or the daemon cannot be reached |\n\
         | 70 | a bug of pgevict |\n\
         | 78 | the configuration file is invalid |\n",
    );
    for e in codes::ALL {
        page.push_str(&format!("\n## {}: {}\n\n{}\n\n**What to do:** {}\n", e.code, e.title, e.cause, e.remedy));
    }
    expect(&root().join("docs/errors.md"), &page).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn every_setting_is_documented() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).expect("docs/configuration.md");
    let settings = pgevict::config::settings();
    assert!(settings.len() > 40, "{settings:?}");
    for (section, setting) in settings {
        assert!(page.contains(&format!("`{setting}`")), "`{setting}` of [{section}] is not documented");
    }
}

fn base() -> String {
    std::fs::read_to_string(root().join("config.toml")).expect("config.toml")
}

/// Whatever comes in, an answer comes out, and it can be drawn.
fn answers(text: &str, environment: &Environment) {
    let report = match parse(text, "x.toml", environment) {
        Ok((config, warnings)) => {
            let _ = format!("{config:?}");
            warnings
        }
        Err(report) => report,
    };
    let _ = (report.to_text(false), report.to_text(true), report.to_json());
}

proptest! {
    #[test]
    fn arbitrary_text_is_answered(text in "\\PC{0,60}", toml in "[\\[\\]{}=\"'#a-z.\n0-9 ,é\\\\]{0,80}") {
        answers(&text, &Environment::empty());
        answers(&toml, &Environment::empty());
    }

    #[test]
    fn a_mutilated_configuration_is_answered(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..30, "[\\[\\]{}=\"'\n.a*|é]{0,4}"), 1..6)
    ) {
        let mut text: Vec<char> = base().chars().collect();
        for (at, length, instead) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, instead.chars());
        }
        answers(&text.into_iter().collect::<String>(), &Environment::empty());
    }

    #[test]
    fn arbitrary_templates_are_answered(template in "\\PC{0,20}", braces in "[{}|*a\\[\\]\\\\:é]{0,16}", prefix in "[{}version:*é]{0,14}") {
        for text in [template, braces] {
            let quoted = text.replace(['\'', '\n'], "");
            let text = format!("[namespace]\nprefix = '{prefix}'\nversions = ['é']\n[cache.a]\nkey = '{quoted}'\n[cache.b]\npattern = '{quoted}'\n");
            answers(&text, &Environment::empty());
        }
    }

    #[test]
    fn arbitrary_variables_are_answered(name in "(POSTGRES|REDIS|LIMITS|NAMESPACE|LOG)__[A-Z_]{1,12}", value in "\\PC{0,20}") {
        let settings = ["POSTGRES__URL", "REDIS__URL", "NAMESPACE__PREFIX", "LIMITS__MAX_KEYS_PER_CHANGE", "ADMIN__LISTEN", "MODE", name.as_str()];
        for setting in settings {
            answers(&base(), &Environment::of([(format!("PGEVICT_{setting}"), value.clone())]));
        }
    }

    #[test]
    fn no_password_is_shown_whatever_stands_around_it(around in "[\\[\\]{}=\"'@:/?a#% ]{0,6}", after in "[\\[\\]{}\"'@:/?a#% ]{0,6}") {
        for text in [
            format!("[postgres]\nurl = \"postgresql://u:{around}hunter2{after}@h/d\"\nbell = 1\n"),
            format!("[redis]\nurl = 'redis://:{around}hunter2{after}@h'\n"),
            format!("[postgres]\npassword = \"{around}hunter2{after}\"\nurl = 1\n"),
        ] {
            let Err(report) = parse(&text, "x.toml", &Environment::empty()) else { continue };
            let shown = format!("{}{}{report:?}", report.to_text(false), report.to_json());
            prop_assert!(!shown.contains(PASSWORD), "{text}\n{shown}");
        }
    }
}
