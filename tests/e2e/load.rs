//! What holds under load: which commands Redis gets, how many rings writers send, what works at the same time, who goes first.

use crate::support::proxy::{Fault, Proxy};
use crate::support::{PATIENCE, Setup, World};
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SCHEMA: &str = "CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text);
                      INSERT INTO posts SELECT i, i, 't' FROM generate_series(1, 6000) i";
const CONFIG: &str = r#"
[cache.post]
key = "post:{id}"
[cache.posts]
pattern = "posts:{user_id}:*"
[table.posts]
evict = ["post", "posts"]
"#;

fn setup(config: &str) -> Setup<'_> {
    Setup { config, schema: SCHEMA, indexed_marker: true, ..Setup::default() }
}

/// Without exact keys: the first that the daemon wants of Redis for a change is what the index needs.
const PATTERN: &str = "[cache.posts]\npattern = \"posts:{user_id}:*\"\n[table.posts]\nevict = [\"posts\"]\n";

fn change(id: u32) -> String {
    format!("UPDATE posts SET title = title || '.' WHERE id = {id}")
}

fn wait_live(w: &World) {
    w.wait_line(0, &["the key index is live"]);
    w.drain();
}

/// A daemon that reaches Redis through a proxy; the test itself reaches it directly.
fn behind_a_proxy(setup: &Setup<'_>) -> (World, Proxy) {
    let mut w = World::new(setup);
    w.apply();
    let url = w.redis.borrow().url(0);
    let proxy = Proxy::before(&url);
    w.set_env("PGEVICT_REDIS__URL", &proxy.url(&url));
    w.start();
    w.wait_position();
    (w, proxy)
}

/// Asks until it is so; Redis answers in tens of microseconds.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
    }
}

fn there(redis: &mut redis::Connection, names: &[String]) -> usize {
    redis.exists(names).unwrap()
}

/// Whether the daemon sleeps: it holds the lock of the bell.
fn asleep(w: &World) -> bool {
    w.value("SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database AND datname = current_database() WHERE locktype = 'advisory' AND classid = 1885431413 AND mode = 'ExclusiveLock' AND granted") == "1"
}

/// Waits until it does.
pub(crate) fn wait_asleep(w: &World) {
    until("the daemon to sleep", || asleep(w));
}

/// How often Redis was asked this.
fn calls(redis: &mut redis::Connection, command: &str) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(redis).unwrap();
    let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |l| l.split(',').next().unwrap().parse().unwrap())
}

/// The position that Redis holds.
fn position(redis: &mut redis::Connection) -> String {
    let record: String = redis.hget("{pgevict}:position", "rec").unwrap();
    serde_json::from_str::<serde_json::Value>(&record).unwrap()["pos"].to_string()
}

fn put(redis: &mut redis::Connection, names: impl Iterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = names.collect();
    for names in names.chunks(10_000) {
        let pairs: Vec<(&String, u8)> = names.iter().map(|name| (name, 1)).collect();
        let () = redis.mset(&pairs).unwrap();
    }
    names
}

/// The worst race: the key is written and acknowledged, the change commits, and Redis' report of the key has not arrived.
/// Here it cannot: everything that Redis says to the daemon is held until the daemon has asked its question.
#[test]
fn a_key_whose_report_is_still_on_its_way_when_its_change_is_read_is_found() {
    let (w, proxy) = behind_a_proxy(&setup(PATTERN));
    wait_live(&w);
    let (mut redis, mut fenced) = (w.redis(), 0);
    // The daemon's heartbeat may fall into a try and wait for its answer; then nothing is tried.
    for id in 1..=100 {
        if fenced == 10 {
            break;
        }
        let (key, asked, before) = (format!("posts:{id}:late"), calls(&mut redis, "ping"), position(&mut redis));
        proxy.inflict(Fault::Held);
        redis.set::<_, _, ()>(&key, "cached").unwrap();
        w.sql(&change(id));
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut asks = false;
        while !asks && Instant::now() < deadline {
            asks = calls(&mut redis, "ping") > asked;
        }
        fenced += u32::from(asks);
        proxy.heal();
        w.wait_gone(&[&key]);
        // The position follows by a script of its own, which is not to fall into the next try.
        until("the position to follow", || position(&mut redis) != before);
    }
    assert!(fenced == 10, "in {fenced} of 100 tries only was the report held when the daemon asked");
}

/// A database that counts its statements, behind a proxy. None: builds of PostgreSQL without its contributed modules, as the matrix has them.
fn counting(config: &str) -> Option<(World, Proxy)> {
    let counts = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'";
    if World::new(&setup(config)).value(counts) == "0" {
        eprintln!("skipped: this PostgreSQL cannot count its statements");
        return None;
    }
    let postgres = [("shared_preload_libraries", "pg_stat_statements")];
    let (w, proxy) = behind_a_proxy(&Setup { own_postgres: Some(&postgres), ..setup(config) });
    w.sql("CREATE EXTENSION pg_stat_statements");
    wait_live(&w);
    Some((w, proxy))
}

/// PostgreSQL, the daemon and Redis work at the same time: while Redis has not said what became of a page's keys, the next page
/// is read, and no more than that one.
#[test]
fn the_next_page_is_read_while_redis_deletes_the_keys_of_this_one() {
    let Some((w, proxy)) = counting(CONFIG) else { return };
    // A heartbeat or a beacon of those milliseconds waits for its answer instead; then nothing was tried.
    assert!((0..10).any(|_| reads_ahead(&w, &proxy, &mut || ())), "{NEVER}");
}

/// What was mapped ahead is mapped again where a reload comes between: numbers of caches are another's by then.
#[test]
fn a_page_that_waits_for_its_turn_during_a_reload_is_delivered_as_the_new_configuration_says() {
    let gone: String = (1..=9).map(|n| format!("[cache.gone{n}]\nkey = \"gone{n}:{{id}}\"\n")).collect();
    let Some((w, proxy)) = counting(&format!("{gone}{CONFIG}")) else { return };
    let mark = w.mark();
    let mut reload = || {
        w.write_config(CONFIG);
        let mut socket = UnixStream::connect(w.socket()).unwrap();
        socket.write_all(b"POST /reload HTTP/1.1\r\nHost: pgevict\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    };
    assert!((0..10).any(|_| reads_ahead(&w, &proxy, &mut reload)), "{NEVER}");
    w.wait_line(mark, &["reloaded"]);
    // In the same session: a new one would have read the page again.
    let again = w.daemon(|d| d.log().since(mark).into_iter().find(|line| line.contains("\"connected\"")));
    assert_eq!(again, None);
}

const NEVER: &str = "the daemon never came to its first page, or never to the next one";

fn reads_ahead(w: &World, proxy: &Proxy, meanwhile: &mut dyn FnMut()) -> bool {
    let mut redis = w.redis();
    let keys = put(&mut redis, (1..=6000).map(|id| format!("post:{id}")));
    let writer = w.connect();
    // Who writes while the daemon is awake keeps it from sleeping.
    wait_asleep(w);
    writer.sql("BEGIN");
    writer
        .sql("DO $$ BEGIN FOR n IN 1..6000 LOOP UPDATE posts SET title = title || '.' WHERE id = n; END LOOP; END $$");
    let pages = || -> u64 {
        let asked = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%both_arms%'";
        w.value(asked).parse().unwrap()
    };
    if !asleep(w) {
        // A probe has woken it meanwhile, and whoever is awake reads pages all the time.
        writer.sql("ROLLBACK");
        return false;
    }
    let before = pages();
    proxy.inflict(Fault::Held);
    writer.sql("COMMIT");
    // Well within the daemon's own patience, after which its session ends.
    let soon = || Instant::now() + Duration::from_secs(3);
    let mut deadline = soon();
    let mut tried = false;
    while !tried && Instant::now() < deadline {
        tried = there(&mut redis, &keys) < keys.len();
    }
    if tried {
        // What became of these keys the daemon does not know yet.
        deadline = soon();
        while tried && pages() < before + 2 {
            tried = Instant::now() < deadline;
        }
    }
    if tried {
        let left = there(&mut redis, &keys);
        assert!(left > 4_000, "{left} keys are left: the daemon does not wait for Redis");
        assert_eq!(pages(), before + 2, "more than one page is read ahead");
        meanwhile();
    }
    proxy.heal();
    until("all keys to go", || there(&mut redis, &keys) == 0);
    w.drain();
    tried
}

/// The commands that Redis got, each as its words; a long one ends with how many more there were.
fn commands(redis: &mut redis::Connection) -> Vec<Vec<String>> {
    let entries: Vec<Vec<redis::Value>> = redis::cmd("SLOWLOG").arg("GET").arg(1_000_000).query(redis).unwrap();
    entries.iter().map(|entry| redis::from_redis_value_ref(&entry[3]).unwrap()).collect()
}

/// Scripts that delete, with the number of keys they delete.
fn deletes(redis: &mut redis::Connection) -> Vec<(usize, Vec<String>)> {
    let scripts = commands(redis).into_iter().filter(|c| c[0] == "EVALSHA" && c.len() > 3);
    scripts.filter_map(|c| c[2].parse::<usize>().ok()?.checked_sub(3).map(|keys| (keys, c))).collect()
}

/// Prints how long the longest scripts took: what it says of a machine that others use is for people, not for an assertion.
fn tell_longest(redis: &mut redis::Connection, what: &str) {
    let entries: Vec<Vec<redis::Value>> = redis::cmd("SLOWLOG").arg("GET").arg(1_000_000).query(redis).unwrap();
    let took = |entry: &[redis::Value]| -> Option<u64> {
        let words: Vec<String> = redis::from_redis_value_ref(&entry[3]).ok()?;
        (words[0] == "EVALSHA").then(|| redis::from_redis_value_ref(&entry[2]).ok())?
    };
    let mut micros: Vec<u64> = entries.iter().filter_map(|entry| took(entry)).collect();
    micros.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
    micros.truncate(10);
    println!("{what}: the ten longest scripts took Redis {micros:?} µs");
}

/// How many words a command had.
fn length(words: &[String]) -> usize {
    let more = words.last().and_then(|last| last.strip_prefix("... (")?.split(' ').next()?.parse::<usize>().ok());
    more.map_or(words.len(), |more| words.len() - 1 + more)
}

const EVERY_COMMAND: [(&str, &str); 2] = [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "1000000")];

#[test]
fn a_key_that_every_statement_of_a_batch_names_goes_once() {
    let w = World::running(&Setup { redis: &EVERY_COMMAND, ..setup(CONFIG) });
    wait_live(&w);
    let mut redis = w.redis();
    put(&mut redis, ["post:7".to_owned(), "posts:7:a".to_owned()].into_iter());
    w.sql("DO $$ BEGIN FOR n IN 1..300 LOOP UPDATE posts SET title = title || '.' WHERE id = 7; END LOOP; END $$");
    w.drain();
    let deletes = deletes(&mut redis);
    for key in ["post:7", "posts:7:a"] {
        let scripts = deletes.iter().filter(|(_, words)| words.iter().any(|word| word == key));
        let keys: Vec<usize> = scripts.map(|(keys, _)| *keys).collect();
        // The harness's marker or a probe may be in it.
        assert!(keys.len() == 1 && keys[0] <= 3, "{key}: keys of the scripts that deleted it: {keys:?}");
    }
}

#[test]
fn no_script_deletes_more_keys_than_redis_can_in_a_millisecond() {
    let walked = CONFIG.replace("pattern = \"posts:{user_id}:*\"", "pattern = \"posts:{user_id}:*\"\nindex = false");
    for config in [CONFIG, &walked] {
        let w = World::running(&Setup { redis: &EVERY_COMMAND, ..setup(config) });
        w.drain();
        let mut redis = w.redis();
        let exact = put(&mut redis, (1..=6000).map(|id| format!("post:{id}")));
        w.sql("UPDATE posts SET title = 'new'");
        w.drain();
        let found = put(&mut redis, (0..3000).map(|n| format!("posts:7:{n}")));
        w.sql(&change(7));
        w.drain();
        until("all of them to go", || there(&mut redis, &exact) + there(&mut redis, &found) == 0);
        tell_longest(&mut redis, "exact keys, and those of a pattern");
        let deletes = deletes(&mut redis);
        let most = |prefix: &str| {
            let of_these = deletes.iter().filter(|(_, words)| words.get(6).is_some_and(|key| key.starts_with(prefix)));
            of_these.map(|(keys, _)| *keys).max().unwrap()
        };
        assert_eq!(most("post:"), 1_000, "exact keys of one script");
        assert!(most("posts:7:") <= 200, "{} keys that a pattern matched", most("posts:7:"));
        assert!(most("posts:7:") > 100, "{} keys: fewer than a script may have", most("posts:7:"));
        // Nor does anything else walk or ask in larger steps.
        let scan = commands(&mut redis).into_iter().filter(|c| c[0] == "SCAN");
        assert!(scan.flat_map(|c| c.last().cloned()).all(|count| count.parse::<u32>().unwrap() <= 250));
    }
}

/// A tombstone takes Redis as long as two keys, and a script may hold both.
#[test]
fn no_script_of_a_guarded_cache_writes_more_than_redis_can_in_a_millisecond() {
    let guarded = CONFIG.replace("key = \"post:{id}\"", "key = \"post:{id}\"\nguard_fills = true");
    let w = World::running(&Setup { redis: &EVERY_COMMAND, ..setup(&guarded) });
    w.wait_position();
    w.drain();
    let mut redis = w.redis();
    let exact = put(&mut redis, (1..=6000).map(|id| format!("post:{id}")));
    w.sql("UPDATE posts SET title = 'new'");
    until("all of them to go", || there(&mut redis, &exact) == 0);
    tell_longest(&mut redis, "keys and tombstones");
    let scripts = deletes(&mut redis);
    // What stands behind the keys are five words and pairs of field and value.
    let sizes = scripts.iter().map(|(keys, words)| (*keys, (length(words) - 3 - 3 - keys).saturating_sub(5) / 2));
    let (mut deleted, mut written) = (0, 0);
    for (keys, fields) in sizes {
        (deleted, written) = (deleted + keys, written + fields);
        assert!(keys + 2 * fields <= 1_004, "{keys} keys and {fields} fields in one script");
    }
    assert!(deleted >= 6_000 && written >= 6_000, "{deleted} keys and {written} fields: not everything was seen");
}

/// A whole cache goes in throttled slices; what changes meanwhile, an exact key or a pattern, does not wait for its end.
#[test]
fn fresh_changes_go_before_the_end_of_a_long_flush() {
    for index in ["", "\nindex = false"] {
        let long = format!(
            "[limits]\nmax_keys_per_change = 1000\n[cache.old]\npattern = \"old:*\"{index}\n[table.olds]\nevict = [\"old\"]\n{CONFIG}"
        );
        let schema = format!("CREATE TABLE olds (id int PRIMARY KEY); {SCHEMA}");
        let w = World::running(&Setup { schema: &schema, ..setup(&long) });
        wait_live(&w);
        let mut redis = w.redis();
        let mut meanwhile = || {
            let old = put(&mut redis, (0..150_000).map(|n| format!("old:{n}")));
            put(&mut redis, (1..=5).flat_map(|id| [format!("post:{id}"), format!("posts:{id}:a")]));
            // Over the limit, so a slice of a hundred keys each 2 ms at most: three seconds.
            w.sql("TRUNCATE olds");
            let size = |redis: &mut redis::Connection| redis::cmd("DBSIZE").query::<usize>(redis).unwrap();
            until("the flush to begin", || size(&mut redis) < old.len());
            let mut before_its_end = 0;
            for id in 1..=5 {
                w.sql(&change(id));
                w.wait_gone(&[&format!("post:{id}"), &format!("posts:{id}:a")]);
                before_its_end += u32::from(there(&mut redis, &old) > 0);
            }
            until("the flush to end", || size(&mut redis) < 100);
            before_its_end
        };
        // One could pass for chance, and where the test gets no core for three seconds it cannot tell: then once more.
        assert!((0..5).any(|_| meanwhile() > 1), "changes waited for the flush");
    }
}

/// HAZARDS B17: a client that does not read its reports would make Redis grow without end; one that subscribes is cut off.
#[test]
fn a_daemon_that_stands_still_is_cut_off_before_its_reports_fill_redis_and_misses_nothing() {
    let w = World::running(&setup(CONFIG));
    wait_live(&w);
    let (mut redis, mark) = (w.redis(), w.mark());
    let limit = ["SET", "client-output-buffer-limit", "pubsub 1mb 1mb 0"];
    redis::cmd("CONFIG").arg(&limit).exec(&mut redis).unwrap();
    let listeners = |redis: &mut redis::Connection| -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(redis).unwrap();
        list.lines().filter(|line| line.contains(" sub=1 ")).count()
    };
    assert_eq!(listeners(&mut redis), 1);
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    // What the kernel holds does not count; a megabyte in Redis is soon more.
    let cut = (0..40).any(|round| {
        put(&mut redis, (0..10_000).map(|n| format!("posts:1:{n}:{round}:{}", "x".repeat(200))));
        listeners(&mut redis) == 0
    });
    assert!(cut, "Redis keeps 88 MB of reports for a daemon that reads none");
    w.daemon(|d| d.signal(Signal::SIGCONT));
    put(&mut redis, ["posts:7:a".to_owned()].into_iter());
    w.sql(&change(7));
    w.wait_gone(&["posts:7:a"]);
    w.wait_line(mark, &["the key index is live"]);
}

/// What nobody reads is not asked for: reports cost Redis with every write.
#[test]
fn a_full_index_ends_the_reports() {
    let w = World::running(&setup(&format!("[limits]\nindex_memory = \"20kB\"\n{CONFIG}")));
    wait_live(&w);
    let mut redis = w.redis();
    let tracking = |redis: &mut redis::Connection| -> bool {
        let info: String = redis::cmd("INFO").arg("clients").query(redis).unwrap();
        !info.contains("tracking_clients:0")
    };
    assert!(tracking(&mut redis));
    put(&mut redis, (0..5_000u64).map(|n| format!("posts:1:{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
    until("Redis to stop its reports", || !tracking(&mut redis));
    put(&mut redis, ["posts:7:a".to_owned()].into_iter());
    w.sql(&change(7));
    w.wait_gone(&["posts:7:a"]);
}
