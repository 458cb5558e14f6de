//! What one change costs in allocations: step by step by the library's own functions, and for the whole daemon behind a backlog.
//!
//! Counted, not timed, so it may be asserted: the bounds stand a little above what is there, and a change that allocates
//! more must say so here and in docs/benchmarks.md. With `PROFILE=FILE` the daemon writes where its allocations are made, for
//! the viewer of DHAT.
//!
//! A program without the test harness, because it is the daemon, too: the allocator that counts is this program's.

#[expect(dead_code, unused_imports, unused_macros, reason = "one world, one daemon, no faults")]
mod support;

use pgevict::config::{self, Environment};
use pgevict::rules::layout::{Layout, layouts};
use pgevict::rules::mapping::{Mapped, Mapper};
use pgevict::rules::payload::{self, Tuple};
use pgevict::sink::script::Call;
use postgres_protocol::IsNull;
use postgres_protocol::types::{ArrayDimension, array_to_sql};
use redis::Script;
use std::path::Path;
use std::process::{Command, ExitCode};
use support::{Setup, World};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The daemon with this in its environment writes there, at its end, how much it has allocated.
const COUNTED: &str = "COUNTED";
/// The same with this: where.
const PROFILE: &str = "PROFILE";

const CONFIG: &str = "[cache.item]\nkey = \"item:{id}\"\n[table.items]\nevict = [\"item\"]\n";
const SCHEMA: &str = "CREATE TABLE items (id int PRIMARY KEY, status int NOT NULL);
                      INSERT INTO items SELECT n, 0 FROM generate_series(1, 10000) n";

/// What a step may allocate for a change.
const DECODING: f64 = 3.0;
const MAPPING: f64 = 1.1;
const COMMAND: f64 = 0.1;
/// What all of it may be, the PostgreSQL client included, log lines not: 10, and what beacons and heartbeats add while it lasts.
const DAEMON: f64 = 14.0;
/// What a log line takes. No more than 200 a second are written, so how many there are depends on how long it takes.
const LINE: u64 = 40;

#[derive(Debug, Clone, Copy)]
struct Counts {
    blocks: u64,
    bytes: u64,
}

impl Counts {
    fn now() -> Self {
        let stats = dhat::HeapStats::get();
        Self { blocks: stats.total_blocks, bytes: stats.total_bytes }
    }

    /// Since then, for each of so many.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    fn each(self, before: Self, count: usize) -> (f64, f64) {
        let count = count as f64;
        ((self.blocks - before.blocks) as f64 / count, (self.bytes - before.bytes) as f64 / count)
    }
}

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(COUNTED) {
        return daemon(Path::new(&file));
    }
    if std::env::var_os("BINARY").is_none() {
        // Every pgevict that the harness starts is this program.
        let itself = std::env::current_exe().unwrap();
        let ended = Command::new(&itself).env("BINARY", &itself).status().unwrap();
        return ExitCode::from(u8::from(!ended.success()));
    }
    steps();
    whole();
    ExitCode::SUCCESS
}

/// `pgevict`, with an allocator that counts.
fn daemon(file: &Path) -> ExitCode {
    let builder = dhat::Profiler::builder();
    let _profiler = match std::env::var_os(PROFILE) {
        Some(profile) => builder.file_name(profile).build(),
        None => builder.testing().build(),
    };
    let exit = pgevict::cli::main();
    let Counts { blocks, bytes } = Counts::now();
    if std::env::args().nth(1).is_some_and(|command| command == "run") {
        std::fs::write(file, format!("{blocks} {bytes}")).unwrap();
    }
    exit.into()
}

#[track_caller]
fn told(what: &str, (blocks, bytes): (f64, f64), most: f64) {
    println!("{what}: {blocks:.2} allocations, {bytes:.0} bytes a change (at most {most})");
    assert!(blocks <= most, "{what}: {blocks:.2} allocations a change, more than {most}");
}

/// A tuple as PostgreSQL sends it: class 0, and the id.
fn raw(id: usize) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    let dimensions = [1, 2].map(|len| ArrayDimension { len, lower_bound: 1 });
    let put = |text: &String, out: &mut bytes::BytesMut| {
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    };
    array_to_sql(dimensions, 25, &["0".to_owned(), id.to_string()], put, &mut out).unwrap();
    out.to_vec()
}

/// Decoding, mapping with rendering, and the command: each alone, a thousand changes on a page.
fn steps() {
    const COUNT: usize = 1_000;
    let servers = "[postgres]\nurl = \"postgresql://pgevict@localhost/app\"\n[redis]\nurl = \"redis://localhost/0\"\n";
    let (config, _) = config::parse(&format!("{servers}{CONFIG}"), "config.toml", &Environment::empty()).unwrap();
    let layout: Layout = layouts(&config).into_iter().next().unwrap();
    let mapper = Mapper::new(&config);
    let raws: Vec<Vec<u8>> = (0..COUNT).map(raw).collect();
    let mut tuples: Vec<Vec<Tuple>> = Vec::with_capacity(COUNT);
    let (mut mapped, mut keys) = (Mapped::default(), Vec::with_capacity(COUNT));
    let script = Script::new("return 1");
    let profiler = dhat::Profiler::builder().testing().build();

    let before = Counts::now();
    tuples.extend(raws.iter().map(|raw| payload::tuples(raw).unwrap()));
    told("decoding", Counts::now().each(before, COUNT), DECODING);

    let before = Counts::now();
    for tuple in tuples.iter().flatten() {
        mapped.clear();
        mapper.tuple(&layout, tuple, &mut mapped).unwrap();
        keys.extend(mapped.targets.drain(..).map(|(_, target)| target.rendered));
    }
    told("mapping and rendering", Counts::now().each(before, COUNT), MAPPING);
    assert_eq!((keys.len(), keys[7].bytes()), (COUNT, b"item:7".as_slice()));

    let before = Counts::now();
    let mut call = Call::of(&script, COUNT, COUNT, keys.iter().map(|key| key.bytes().len()).sum());
    keys.iter().for_each(|key| call.word(key.bytes()));
    let packed = call.command().get_packed_command();
    told("the command", Counts::now().each(before, COUNT), COMMAND);
    assert!(packed.len() > 10 * COUNT);
    drop(profiler);
}

/// The whole daemon: what it allocates more for more changes that waited while it was down.
fn whole() {
    const FEW: usize = 1_000;
    const MANY: usize = 9_000;
    let [few, many] = [FEW, MANY].map(drained);
    told("the daemon", many.each(few, MANY - FEW), DAEMON);
}

/// From start to stop, with so many changes that wait, each a statement of its own.
fn drained(changes: usize) -> Counts {
    let mut w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counted");
    w.set_env(COUNTED, file.to_str().unwrap());
    if let Ok(profile) = std::env::var(PROFILE) {
        w.set_env(PROFILE, &profile);
    }
    w.apply();
    w.start();
    w.wait_position();
    w.stop();
    let fill = "for n = 1, ARGV[1] do redis.call('SET', 'item:' .. n, n) end";
    redis::cmd("EVAL").arg(fill).arg(0).arg(changes).exec(&mut w.redis()).unwrap();
    w.sql(&format!(
        "DO $$ BEGIN FOR n IN 1..{changes} LOOP UPDATE items SET status = status + 1 WHERE id = n; END LOOP; END $$"
    ));
    w.start();
    w.drain();
    assert!(!redis::Commands::exists::<_, bool>(&mut w.redis(), format!("item:{changes}")).unwrap());
    let lines = w.daemon(|d| d.log().since(0).iter().filter(|line| line.contains("evict items.update")).count());
    println!("{changes} changes, {lines} log lines");
    w.stop();
    let said = std::fs::read_to_string(file).unwrap();
    let (blocks, bytes) = said.split_once(' ').unwrap();
    let blocks = blocks.parse::<u64>().unwrap() - LINE * lines as u64;
    Counts { blocks, bytes: bytes.parse().unwrap() }
}
