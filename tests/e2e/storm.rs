//! What the storm (`tests/storm.rs`) and the reading of its traces have found, each reduced to the smallest case.

use crate::support::proxy::{Fault, Proxy};
use crate::support::{PATIENCE, Setup, World};
use redis::Commands as _;
use std::time::Duration;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 50) n;
CREATE TABLE events (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (10);
INSERT INTO events VALUES (1, 1);
";
/// The second time comes late enough for a test that waits for a core to store before it what it is to delete.
const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
repeat_after = "3s"
[cache.event]
key = "event:{id}"
repeat_after = "3s"
[table.users]
evict = ["user"]
[table.events]
evict = ["event"]
"#;

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    settled(&w, 1);
    w
}

/// Waits until `flushes` second flushes are over since the daemon started: nothing of them deletes what a test stores.
fn settled(w: &World, flushes: u32) {
    let mut mark = 0;
    for line in (0..flushes).flat_map(|_| ["once more after", "flush_done"]) {
        mark = w.daemon(|d| d.log().wait_for(mark, PATIENCE, |l| l.contains(line)).expect(line).0);
    }
}

/// Stores `key`, as a filler that is late does, and waits until it goes.
#[track_caller]
fn goes(w: &World, key: &str) {
    w.redis().set::<_, _, ()>(key, "stale").unwrap();
    w.wait_gone(&[key]);
}

/// A partition that leaves and comes back takes its rows with it, and nothing else about it is another than before.
#[test]
fn a_partition_that_was_away_between_two_audits_is_flushed() {
    let w = world();
    w.sql("ALTER TABLE events DETACH PARTITION events_1");
    w.sql("ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (1) TO (10)");
    // Read while the row was away.
    w.fill(&["event:1"]);
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_gone(&["event:1"]);
}

/// A reader may store what it read before the DDL just after its flush: the flush, too, has a second time.
#[test]
fn a_stale_fill_after_a_flush_for_ddl_goes_too() {
    let w = world();
    w.sql("ALTER TABLE events DETACH PARTITION events_1");
    let mark = w.mark();
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["flush_done", "event"]);
    goes(&w, "event:1");
}

/// The same after captures that could only be counted: two flushes, because the counter moves before the commit, and
/// the second delete of the second.
#[test]
fn a_stale_fill_after_the_flushes_for_lost_captures_goes_too() {
    let w = world();
    // The second flush waits for whatever runs when the first is begun: here for this.
    let open = w.connect();
    open.sql("BEGIN; SELECT pg_current_xact_id()");
    w.fill(&["user:1"]);
    w.sql("SELECT nextval('pgevict.lost')");
    w.wait_gone(&["user:1"]);
    w.fill(&["user:1"]);
    w.drain();
    assert!(w.missing().is_empty(), "the second flush did not wait");
    open.sql("COMMIT");
    w.wait_gone(&["user:1"]);
    goes(&w, "user:1");
}

/// A capture that was lost in a transaction that is still open when the daemon starts for the first time: the first
/// flush cannot answer it.
#[test]
fn a_capture_lost_before_the_first_start_is_answered_after_its_commit() {
    let w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.apply();
    let writer = w.connect();
    // What the trigger's last layer leaves: no journal row, and the counter has moved.
    writer.sql("SET session_replication_role = replica; BEGIN; UPDATE users SET name = 'x' WHERE id = 1");
    writer.sql("SELECT nextval('pgevict.lost')");
    w.start();
    settled(&w, 1);
    w.fill(&["user:1"]);
    writer.sql("COMMIT");
    w.wait_gone(&["user:1"]);
}

/// R9: a cursor means nothing to a server that was restarted. The pass is long enough to be cut in its middle.
#[test]
fn a_pass_that_lost_its_server_begins_again() {
    let config = "[cache.users]\npattern = \"users:{id}:*\"\nindex = false\n[table.users]\nevict = [\"users\"]\n";
    let w = World::running(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    let fill = "for n = 1, 150000 do redis.call('SET', 'other:' .. n, n) end \
                for n = 1, 2000 do redis.call('SET', 'users:1:' .. n, n) end";
    redis::cmd("EVAL").arg(fill).arg(0).exec(&mut w.redis()).unwrap();
    redis::cmd("SAVE").exec(&mut w.redis()).unwrap();
    let left = |redis: &mut redis::Connection| -> usize {
        let script = "local n = 0 for i = 1, 2000 do n = n + redis.call('EXISTS', 'users:1:' .. i) end return n";
        redis::cmd("EVAL").arg(script).arg(0).query(redis).unwrap_or(2000)
    };
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    // The pass is under way when its first keys are gone.
    w.wait_keys("a pass to begin", |redis| left(redis) < 2000);
    let mut server = w.redis.borrow_mut();
    server.kill();
    server.up().unwrap();
    drop(server);
    w.wait_keys("every key to go", |redis| left(redis) == 0);
}

/// Ready is what the daemon says about now: a trigger that came back while no session was there is no reason any more.
#[test]
fn a_trigger_that_is_mended_while_no_session_lives_is_forgotten() {
    let w = world();
    w.sql("ALTER TABLE users DISABLE TRIGGER USER");
    let mark = w.mark();
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["not_ready", "user is not live"]);
    w.redis.borrow_mut().kill();
    w.wait_line(mark, &["disconnected", "Redis"]);
    w.sql("ALTER TABLE users ENABLE TRIGGER USER");
    w.redis.borrow_mut().up().unwrap();
    w.wait_ready();
}

/// A reload drains first; a session that dies meanwhile takes the request along, not the new configuration.
#[test]
fn a_reload_is_not_forgotten_when_its_drain_fails() {
    let config =
        CONFIG.replace("evict = [\"user\"]", "debounce = \"50m\"\nevict = [\"user\"]").replace("\"3s\"", "\"10ms\"");
    let w = World::running(&Setup { config: &config, schema: SCHEMA, ..Setup::default() });
    settled(&w, 1);
    // The second change owes a delete at the window's end, or when the daemon drains; Redis refuses it then.
    w.fill(&["user:1"]);
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    w.wait_gone(&["user:1"]);
    w.sql("UPDATE users SET name = 'y' WHERE id = 1");
    w.drain();
    let scripts = |rule: &str| redis::cmd("ACL").arg(&["SETUSER", "default", rule]).exec(&mut w.redis()).unwrap();
    let mark = w.mark();
    scripts("-@scripting");
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["NOPERM"]);
    scripts("+@scripting");
    w.wait_line(mark, &["\"event\":\"reloaded\""]);
}

/// A reload may keep the session; the sessions after it go on with the new configuration all the same.
#[test]
fn a_reload_outlives_the_session_that_it_kept() {
    let w = world();
    let mark = w.mark();
    w.write_config(&CONFIG.replace("user:{id}", "person:{id}"));
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["\"event\":\"reloaded\""]);
    w.wait_line(mark, &["once more after"]);
    let mark = w.mark();
    w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgevict%' AND datname = current_database()");
    w.wait_line(mark, &["\"event\":\"resumed\""]);
    w.fill(&["person:1", "user:1"]);
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    w.wait_gone(&["person:1"]);
    assert_eq!(w.missing(), ["person:1".to_owned()].into());
}

/// A leader that freezes in the middle of a flush: the other one flushes, and when the first leads again there is nothing
/// left to be waited for.
#[test]
fn a_flush_that_another_daemon_has_finished_keeps_nobody_unready() {
    let config = "[cache.users]\npattern = \"users:{id}:*\"\nindex = false\n[table.users]\nevict = [\"users\"]\n";
    let mut w = World::new(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    let fill = "for n = 1, 300000 do redis.call('SET', 'other:' .. n, n) end";
    redis::cmd("EVAL").arg(fill).arg(0).exec(&mut w.redis()).unwrap();
    // A thousand steps of the walk on a slow link: it is not over before the daemon is frozen.
    let url = w.redis.borrow().url(0);
    let link = Proxy::before(&url);
    w.set_env("PGEVICT_REDIS__URL", &link.url(&url));
    link.inflict(Fault::Slow(Duration::from_millis(10)));
    w.start_unready(&[]);
    w.wait_line(0, &["flush_begun"]);
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGSTOP));
    link.heal();
    let socket = w.config_path().with_file_name("second.sock");
    let second = w.spawn(&[], &[("PGEVICT_ADMIN__SOCKET", socket.to_str().unwrap()), ("PGEVICT_REDIS__URL", &url)]);
    second.wait_line(0, &["flush_done"]);
    w.wait_position();
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGCONT));
    w.wait_line(0, &["another pgevict leads"]);
    drop(second);
    w.wait_ready();
    let said = w.daemon(|d| d.log().since(0).join("\n"));
    assert!(!said.contains("flush_done"), "the flush was over before the daemon froze\n{said}");
}
