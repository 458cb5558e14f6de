use super::*;
use crate::rules::template::{Fill, Kind, Template};
use proptest::prelude::*;

const LIMITS: Limits = Limits { concurrency: 2, per_second: 100, queue: 4 };

fn want(cache: usize, key: &str, heat: u32) -> Want {
    let template = Template::parse("k", Kind::Key).unwrap();
    Want::new(cache, key.into(), Binding::new(&template, |_| Fill::Unknown).unwrap(), heat)
}

fn warming(limits: Limits, lanes: &[LaneLimits]) -> Warming {
    Warming::new(limits, lanes.iter().copied())
}

fn keys(job: &Job) -> Vec<String> {
    job.wants.iter().map(|w| String::from_utf8(w.key.clone()).unwrap()).collect()
}

#[track_caller]
fn started(w: &mut Warming, now: Instant) -> Job {
    match w.next(now) {
        Next::Start(job) => job,
        Next::Wait(until) => panic!("waits until {until:?}"),
    }
}

#[track_caller]
fn waits(w: &mut Warming, now: Instant) -> Option<Instant> {
    match w.next(now) {
        Next::Start(job) => panic!("starts {:?}", keys(&job)),
        Next::Wait(until) => until,
    }
}

fn end(w: &mut Warming, job: Job, end: End, now: Instant) -> bool {
    let ends = vec![end; job.wants.len()];
    w.ended(job, &ends, end != End::Failed, now)[0]
}

#[test]
fn the_hottest_goes_first_and_among_equals_the_one_that_waits_longest() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default(); 2]), Instant::now());
    for (cache, key, heat) in [(0, "cold", 1), (1, "first", 5), (0, "second", 5)] {
        assert_eq!(w.offer(want(cache, key, heat)), None);
    }
    assert_eq!(keys(&started(&mut w, now)), ["first"]);
    assert_eq!(keys(&started(&mut w, now)), ["second"]);
    assert_eq!(waits(&mut w, now), None, "two at the same time");
}

#[test]
fn a_full_queue_drops_the_coldest_and_says_which() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    for (key, heat) in [("a", 3), ("b", 1), ("c", 2), ("d", 3)] {
        w.offer(want(0, key, heat));
    }
    assert_eq!(w.offer(want(0, "hot", 9)).unwrap().key, b"b");
    assert_eq!(w.offer(want(0, "frozen", 0)).unwrap().key, b"frozen");
    assert_eq!(w.offer(want(0, "a", 9)), None, "it waits already, and is hotter now");
    assert_eq!(w.waiting(), 4);
    assert_eq!(keys(&started(&mut w, now)), ["a"]);
}

#[test]
fn a_key_is_asked_for_once_and_again_only_if_it_was_evicted_meanwhile() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    for _ in 0..3 {
        w.offer(want(0, "a", 1));
    }
    let job = started(&mut w, now);
    assert_eq!(waits(&mut w, now), None);
    w.offer(want(0, "a", 1));
    w.offer(want(0, "a", 1));
    assert_eq!(waits(&mut w, now), None, "never two of the same key");
    assert!(end(&mut w, job, End::Done, now));
    let job = started(&mut w, now);
    assert!(end(&mut w, job, End::Done, now));
    assert_eq!((waits(&mut w, now), w.waiting()), (None, 0));
}

#[test]
fn what_somebody_has_filled_meanwhile_is_spared_and_costs_nothing_of_the_limits() {
    let limits = LaneLimits { batched: true, per_second: Some(1), ..LaneLimits::default() };
    let (mut w, now) = (warming(Limits { per_second: 1, ..LIMITS }, &[limits]), Instant::now());
    for key in ["a", "b"] {
        w.offer(want(0, key, 1).if_absent());
    }
    let job = started(&mut w, now);
    let (left, spared) = w.spare(job, &[true, true], now);
    assert_eq!((left, spared.len(), w.waiting()), (None, 2, 0));
    for key in ["c", "d"] {
        w.offer(want(0, key, 1).if_absent());
    }
    // At once: the first one has asked nothing.
    let job = started(&mut w, now);
    w.offer(want(0, "c", 1));
    let (left, spared) = w.spare(job, &[true, false], now);
    assert_eq!((keys(left.as_ref().unwrap()), spared[0].key.as_slice()), (vec!["d".to_owned()], b"c".as_slice()));
    assert!(end(&mut w, left.unwrap(), End::Done, now));
    // It was evicted while its existence was asked for, so it is asked for again.
    assert!(waits(&mut w, now).is_some(), "one a second");
    assert_eq!(keys(&started(&mut w, now + Duration::from_secs(1))), ["c"]);
}

#[test]
fn a_key_that_a_change_evicts_is_asked_for_even_if_it_waited_only_in_case_it_is_absent() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    w.offer(want(0, "a", 1).if_absent());
    w.offer(want(0, "a", 1));
    w.offer(want(0, "a", 2).if_absent());
    let job = started(&mut w, now);
    assert!(!job.wants[0].if_absent);
}

#[test]
fn an_absent_key_is_asked_for_only_where_it_is_being_asked_for() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    w.offer_if_running(want(0, "a", 1));
    assert_eq!(waits(&mut w, now), None);
    w.offer(want(0, "a", 1));
    let job = started(&mut w, now);
    w.offer_if_running(want(0, "a", 1));
    assert!(end(&mut w, job, End::Done, now));
    assert_eq!(keys(&started(&mut w, now)), ["a"]);
}

#[test]
fn a_value_that_was_overtaken_is_read_again_soon_and_not_for_ever() {
    let (mut w, mut now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    w.offer(want(0, "a", 1));
    for n in 1..=MOST_TRIES {
        let job = started(&mut w, now);
        assert_eq!(job.wants[0].tries(), n - 1);
        let last = end(&mut w, job, End::Overtaken, now);
        assert_eq!(last, n == MOST_TRIES);
        if !last {
            let due = waits(&mut w, now).unwrap();
            assert_eq!(due, now + RACE_PAUSE * (1 << (n - 1)));
            now = due;
        }
    }
    assert_eq!(waits(&mut w, now), None);
    assert!(!w.is_broken(0), "a lost race says nothing against the database");
}

#[test]
fn what_cannot_work_is_not_tried_again() {
    let (mut w, now) = (warming(LIMITS, &[LaneLimits::default()]), Instant::now());
    w.offer(want(0, "a", 1));
    let job = started(&mut w, now);
    assert_eq!(w.ended(job, &[End::Hopeless], false, now), [true]);
    assert_eq!(waits(&mut w, now), None);
}

#[test]
fn a_cache_that_fails_is_left_alone_longer_and_longer_and_the_others_go_on() {
    let limits = Limits { queue: 100, ..LIMITS };
    let (mut w, mut now) = (warming(limits, &[LaneLimits::default(); 2]), Instant::now());
    let fail = |w: &mut Warming, n: u32, now: Instant| {
        w.offer(want(0, &format!("a{n}"), 9));
        let job = started(w, now);
        assert_eq!(w.ended(job, &[End::Hopeless], false, now), [true]);
    };
    for n in 0..BREAKS_AT {
        assert!(!w.is_broken(0));
        fail(&mut w, n, now);
    }
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        w.offer(want(0, "next", 9));
        assert!(w.is_broken(0) && !w.is_broken(1));
        let until = now + Duration::from_secs(seconds);
        assert_eq!(waits(&mut w, now), Some(until));
        w.offer(want(1, "other", 1));
        let other = started(&mut w, now);
        assert_eq!(keys(&other), ["other"]);
        end(&mut w, other, End::Done, now);
        now = until;
        w.offer(want(0, "more", 9));
        let probe = started(&mut w, now);
        assert_eq!(waits(&mut w, now), None, "one query decides");
        assert_eq!(w.ended(probe, &[End::Hopeless], false, now), [true]);
    }
    now += Duration::from_secs(30);
    let probe = started(&mut w, now);
    end(&mut w, probe, End::Done, now);
    assert!(!w.is_broken(0));
}

#[test]
fn a_batched_query_takes_what_waits_for_it() {
    let lanes = [LaneLimits { batched: true, ..LaneLimits::default() }, LaneLimits::default()];
    let (mut w, now) = (warming(Limits { queue: 1000, ..LIMITS }, &lanes), Instant::now());
    for n in 0..150 {
        w.offer(want(0, &format!("a{n}"), 1));
    }
    w.offer(want(1, "other", 0));
    let job = started(&mut w, now);
    assert_eq!(job.wants.len(), BATCH);
    assert_eq!(started(&mut w, now).wants.len(), 50);
    let mut ends = vec![End::Done; BATCH];
    ends[3] = End::Overtaken;
    let last = w.ended(job, &ends, true, now);
    assert!(!last[3] && last.iter().filter(|l| !**l).count() == 1);
    assert_eq!(w.waiting(), 2);
}

proptest! {
    /// Whatever is offered and however it ends: never more at once, never more in a second, never two of the same key.
    #[test]
    fn the_limits_hold_whatever_comes(
        steps in proptest::collection::vec((0..3usize, 0..12u8, 0..4u32, 0..60u64, 0..4u8), 1..300),
    ) {
        let lanes = [
            LaneLimits { concurrency: Some(1), ..LaneLimits::default() },
            LaneLimits { per_second: Some(2), ..LaneLimits::default() },
            LaneLimits { batched: true, ..LaneLimits::default() },
        ];
        let limits = Limits { concurrency: 3, per_second: 5, queue: 6 };
        let mut w = warming(limits, &lanes);
        let mut now = Instant::now();
        let mut running: Vec<Job> = Vec::new();
        let mut begun: Vec<(Instant, usize)> = Vec::new();
        for (cache, key, heat, pause, how) in steps {
            now += Duration::from_millis(pause * 5);
            w.offer(want(cache, &format!("{cache}:{key}"), heat));
            prop_assert!(w.waiting() <= limits.queue + limits.concurrency * BATCH);
            prop_assert_eq!((0..3).map(|c| w.lane(c, now).waiting).sum::<usize>(), w.waiting());
            while let Next::Start(job) = w.next(now) {
                begun.push((now, job.cache));
                running.push(job);
            }
            let mut names: Vec<_> = running.iter().flat_map(keys).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), all);
            prop_assert!(running.len() <= 3 && running.iter().filter(|j| j.cache == 0).count() <= 1);
            let lately = begun.iter().filter(|(at, _)| now.duration_since(*at) < Duration::from_secs(1));
            prop_assert!(lately.clone().count() <= 5 && lately.filter(|(_, c)| *c == 1).count() <= 2);
            if how > 0 && !running.is_empty() {
                let job = running.remove(0);
                let end = [End::Done, End::Overtaken, End::Failed][usize::from(how - 1)];
                let ends = vec![end; job.wants.len()];
                w.ended(job, &ends, end != End::Failed, now);
            }
        }
        // Nothing is lost on the way: what was taken ends.
        for _ in 0..10_000 {
            match w.next(now) {
                Next::Start(job) => running.push(job),
                Next::Wait(until) => match running.pop() {
                    Some(job) => {
                        let ends = vec![End::Done; job.wants.len()];
                        w.ended(job, &ends, true, now);
                    }
                    None => match until {
                        Some(until) => now = until,
                        None => break,
                    },
                },
            }
        }
        prop_assert_eq!((w.waiting(), w.places.len()), (0, 0));
    }
}
