//! What the network between the daemon and its servers can do: each named fault, on either side.

use super::{CHANGE, GONE, fill, setup};
use crate::support::pace::Pace;
use crate::support::proxy::{Dice, Fault, Proxy};
use crate::support::{Ran, World};
use std::time::{Duration, Instant};

/// A dead peer is noticed within this (README).
const NOTICED: Duration = Duration::from_secs(15);

/// Which side breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Postgres,
    Redis,
}

/// A world whose daemon reaches both servers through a proxy each; the test itself reaches them directly.
struct Net {
    w: World,
    postgres: Proxy,
    redis: Proxy,
}

impl Net {
    fn new() -> Self {
        let mut w = World::new(&setup());
        w.apply();
        let urls = (w.pg.url(&w.database), w.redis.borrow().url(0));
        let (postgres, redis) = (Proxy::before(&urls.0), Proxy::before(&urls.1));
        w.set_env("PGEVICT_POSTGRES__URL", &postgres.url(&urls.0));
        w.set_env("PGEVICT_REDIS__URL", &redis.url(&urls.1));
        w.start();
        w.wait_position();
        fill(&w);
        Self { w, postgres, redis }
    }

    fn proxy(&self, side: Side) -> &Proxy {
        match side {
            Side::Postgres => &self.postgres,
            Side::Redis => &self.redis,
        }
    }

    /// Waits until the log names the server that is down, and returns the line.
    #[track_caller]
    fn noticed(&self, side: Side, mark: usize) -> String {
        let (before, pace) = (Instant::now(), Pace::watch());
        let line =
            self.w.wait_line(mark, &[&format!("{side:?} down").replace("Postgres", "PostgreSQL"), "next try in"]);
        let port = self.proxy(side).url("127.0.0.1:1");
        assert!(line.contains(&port), "where is not said ({port}): {line}");
        let (took, bound) = (before.elapsed(), pace.allows(NOTICED));
        assert!(took <= bound, "noticed after {took:?}, more than {bound:?}");
        line
    }
}

/// A change while the fault lasts goes as soon as it is over, and nothing else does.
fn heals(side: Side, fault: Fault) {
    let n = Net::new();
    let proxy = n.proxy(side);
    n.w.check_after(&format!("{fault:?} on the side of {side:?}"), &GONE, || {
        let mark = n.w.mark();
        proxy.inflict(fault);
        n.w.sql(CHANGE);
        let line = n.noticed(side, mark);
        println!("{fault:?} on the side of {side:?}: {line}");
        proxy.heal();
    });
    n.w.wait_ready();
    n.w.check(CHANGE, &GONE);
}

macro_rules! on_both_sides {
    ($($name:ident: $test:expr;)*) => {
        mod postgres { use super::*; $( #[test] fn $name() { ($test)(Side::Postgres); } )* }
        mod redis { use super::*; $( #[test] fn $name() { ($test)(Side::Redis); } )* }
    };
}

on_both_sides! {
    a_cut_is_noticed_and_healed: |side| heals(side, Fault::Cut);
    a_silent_peer_is_noticed_and_healed: |side| heals(side, Fault::Silent);
    a_peer_that_hears_but_is_not_heard_is_noticed_and_healed: |side| heals(side, Fault::Deaf);
    a_peer_that_does_not_hear_is_noticed_and_healed: |side| heals(side, Fault::Mute);
    replies_that_are_held_for_too_long_count_as_a_dead_peer: |side| heals(side, Fault::Held);
    lost_replies_are_healed_by_replay: |side| heals(side, Fault::ReplyLost);
    torn_requests_are_healed_by_replay: |side| heals(side, Fault::TornRequest);
    torn_replies_are_healed_by_replay: |side| heals(side, Fault::TornReply);
    a_connect_that_hangs_is_given_up_and_tried_again: connect_hangs;
    commands_with_a_hanging_server_end_in_bounded_time_with_exit_4: commands_end;
    ready_and_status_answer_at_once_while_a_server_hangs: ready_answers;
}

#[test]
fn a_delete_whose_reply_is_lost_or_torn_or_that_breaks_in_its_middle_is_done_again() {
    let n = Net::new();
    for fault in [Fault::ReplyLost, Fault::TornReply, Fault::TornRequest] {
        n.w.check_after(&format!("{fault:?} of the delete"), &GONE, || {
            let (mark, hits) = (n.w.mark(), n.redis.hits());
            n.redis.inflict_once(fault, "user:1");
            n.w.sql(CHANGE);
            n.redis.wait_hit(hits);
            n.noticed(Side::Redis, mark);
        });
    }
}

#[test]
fn short_pauses_and_slow_links_end_no_session() {
    let n = Net::new();
    let mark = n.w.mark();
    for side in [Side::Postgres, Side::Redis] {
        for fault in [Fault::Trickle, Fault::Slow(Duration::from_millis(30)), Fault::Held] {
            let proxy = n.proxy(side);
            n.w.check_after(&format!("{fault:?} on the side of {side:?}"), &GONE, || {
                let hits = proxy.hits();
                proxy.inflict(fault);
                n.w.sql(CHANGE);
                if fault == Fault::Held {
                    // Nothing tells that replies wait; long enough for the change to meet it, short of every limit.
                    std::thread::sleep(Duration::from_secs(2));
                    proxy.heal();
                } else {
                    proxy.wait_hit(hits);
                }
                n.w.wait_gone(&GONE);
                proxy.heal();
            });
        }
    }
    let log = n.w.daemon(|d| d.log().tail(10_000));
    assert!(!log.contains(" down"), "{mark}: {log}");
}

fn connect_hangs(side: Side) {
    let n = Net::new();
    let proxy = n.proxy(side);
    for fault in [Fault::ConnectHangs, Fault::HangsAfterAccept] {
        n.w.check_after(&format!("{fault:?} on the side of {side:?}"), &GONE, || {
            let hits = proxy.hits();
            proxy.inflict(fault);
            if fault == Fault::ConnectHangs {
                proxy.wait_hit(hits);
            }
            let mark = n.w.mark();
            proxy.cut();
            n.w.sql(CHANGE);
            n.noticed(side, mark);
            let line = n.w.wait_line(mark, &[" down: ", "no answer within 5s"]);
            assert!(line.contains("firewall") || line.contains("is the address right"), "no remedy: {line}");
            proxy.heal();
        });
    }
    n.w.wait_ready();
}

/// The session hears and reads; beacons, the audit and retention get no answer.
#[test]
fn side_connections_that_hang_delay_the_position_but_no_delete() {
    let n = Net::new();
    let mark = n.w.mark();
    // Every side connection is cut and dialed anew; the session's own was there before and goes on.
    n.postgres.inflict(Fault::HangsAfterAccept);
    n.w.sql(
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
         WHERE datname = current_database() AND application_name LIKE 'pgevict%'
           AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory')",
    );
    for _ in 0..3 {
        n.w.check(CHANGE, &GONE);
    }
    n.w.wait_line(mark, &["the position waits for a beacon", "side connection"]);
    n.w.check(CHANGE, &GONE);
    n.postgres.heal();
    n.w.wait_ready();
    // The position follows once there are beacons again: a restart replays nothing then.
    n.w.check(CHANGE, &GONE);
    n.w.wait_settled();
    n.w.check_after("a restart", &[], || n.w.restart());
}

fn commands_end(side: Side) {
    let n = Net::new();
    n.w.stop();
    let config = n.w.config_path().display().to_string();
    for fault in [Fault::Silent, Fault::ConnectHangs, Fault::HangsAfterAccept] {
        n.proxy(side).inflict(fault);
        let other: &[&str] = match side {
            Side::Postgres => &["sql", "diff"],
            Side::Redis => &["evict", "--key", "user:1", "--yes"],
        };
        std::thread::scope(|threads| {
            for command in [&["check"][..], other] {
                let (config, env) = (config.as_str(), n.w.env.as_slice());
                threads.spawn(move || {
                    let (before, pace) = (Instant::now(), Pace::watch());
                    let ran = Ran::of(&[command, &["-c", config]].concat(), env);
                    assert_eq!(ran.code, Some(4), "{command:?} under {fault:?} of {side:?}: {ran:?}");
                    let words = format!("{}{}", ran.out, ran.err);
                    assert!(words.contains("no answer within 5s"), "{words}");
                    let (took, bound) = (before.elapsed(), pace.allows(NOTICED));
                    assert!(took < bound, "{command:?} took {took:?}, more than {bound:?}");
                });
            }
        });
    }
}

/// They talk to the daemon only, so that they tell what is wrong while a server hangs.
fn ready_answers(side: Side) {
    let n = Net::new();
    let mark = n.w.mark();
    n.proxy(side).inflict(Fault::Silent);
    n.w.sql(CHANGE);
    n.noticed(side, mark);
    let took = (0..3).map(|_| {
        let before = Instant::now();
        let ready = n.w.pgevict(&["ready"]).exits(1);
        let name = format!("{side:?}").replace("Postgres", "PostgreSQL");
        assert!(ready.out.contains(&name), "{ready:?}");
        n.w.pgevict(&["status"]).exits(0);
        before.elapsed()
    });
    // The quickest counts: what waits for a server waits every time.
    let quickest = took.min().unwrap();
    assert!(quickest < Duration::from_secs(4), "{quickest:?}");
    n.proxy(side).heal();
    n.w.wait_gone(&GONE);
}

#[test]
fn faults_drawn_at_random_on_both_sides_leave_no_stale_key() {
    let n = Net::new();
    let mut dice = Dice::new();
    for round in 0..6 {
        let (left, right) = (dice.fault(), dice.fault());
        println!("round {round}: PostgreSQL {left:?}, Redis {right:?}");
        n.w.check_after(&format!("{left:?} and {right:?}"), &GONE, || {
            n.postgres.inflict(left);
            n.redis.inflict(right);
            n.w.sql(CHANGE);
            std::thread::sleep(dice.between(Duration::from_millis(50), Duration::from_millis(1500)));
            n.postgres.heal();
            n.redis.heal();
        });
    }
    n.w.wait_ready();
}
