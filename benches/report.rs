//! Where figures go: the terminal, and docs/benchmarks.md between the marks of their part.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What one part found.
#[derive(Debug, Default)]
pub(crate) struct Section {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    compared: String,
    reach: String,
    met: Option<bool>,
}

impl Section {
    /// A row whose right column is wanted: `met` says whether it was reached.
    pub(crate) fn goal(&mut self, what: &str, measured: String, compared: String, reach: &str, met: bool) {
        eprintln!("   {what}: {measured} ({compared}; reach {reach})");
        let (what, reach) = (what.to_owned(), reach.to_owned());
        self.rows.push(Row { what, measured, compared, reach, met: Some(met) });
    }

    /// A row that is there to be seen.
    pub(crate) fn step(&mut self, what: &str, measured: String, compared: String) {
        eprintln!("   {what}: {measured} ({compared})");
        self.rows.push(Row { what: what.to_owned(), measured, compared, reach: String::new(), met: None });
    }

    /// What a reader must know about how it was measured.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn markdown(&self) -> String {
        let mut text = "| what | measured | compared with | reach | met |\n|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(text, "| {} | {} | {} | {} | {met} |", row.what, row.measured, row.compared, row.reach);
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }
}

pub(crate) fn print(part: &str, section: &Section) {
    println!("\n{part}\n{}", section.markdown());
}

/// Replaces what stands between the marks of the part; without marks the page is left alone.
pub(crate) fn write(part: &str, section: &Section) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let (begin, end) = (format!("<!-- measured: {part} -->\n"), "<!-- end -->");
    let found = page.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let Some((head, tail)) = found else {
        eprintln!("docs/benchmarks.md has no place for {part}");
        return;
    };
    let page = format!("{head}{begin}{}\n{}\n{end}{tail}", section.markdown(), machine());
    std::fs::write(&path, page).unwrap_or_else(|e| eprintln!("cannot write {}: {e}", path.display()));
}

/// On what, with what and when.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kb: u64 = memory.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let load = read("/proc/loadavg");
    let load = load.split(' ').nth(2).unwrap_or_default().to_owned();
    let bin = pgevict::cli::demo::servers::find_postgres().unwrap_or_default();
    let redis = pgevict::cli::demo::servers::find_redis().unwrap_or_default();
    format!(
        "<sub>{}; {cores} × {model}, {} GiB, Linux {}; load of the 15 minutes before {load}; {}; {}; {}</sub>\n",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        kb >> 20,
        // What a distribution or a provider adds to the version says nothing here.
        said("uname", &["-r"]).split('-').next().unwrap_or_default(),
        said(&bin.join("postgres").to_string_lossy(), &["--version"]),
        said(&redis.to_string_lossy(), &["--version"]).split(" sha").next().unwrap_or_default(),
        said("rustc", &["--version"]),
    )
}

fn said(program: &str, words: &[&str]) -> String {
    let out = Command::new(program).args(words).output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&out).trim().to_owned()
}
