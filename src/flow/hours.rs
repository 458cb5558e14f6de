//! How far the filling of a window has come. The clock is an argument: which round is open says `rules::schedule`.

use crate::rules::schedule::Round;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: no window is open, or all of it is done.
    Rest,
    /// The window closed before all was done: what is left is forgotten.
    Closed,
    /// Ask which keys.
    Name,
    /// Go on with them.
    Fill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Unasked,
    Asked,
    Done,
}

/// The hours of one cache.
#[derive(Debug, Default)]
pub struct Hours {
    /// The round that is open, or was last.
    round: Option<Round>,
    stage: Stage,
}

impl Hours {
    /// What to do while this round is open.
    pub fn turn(&mut self, open: Option<Round>) -> Turn {
        let cut = self.stage == Stage::Asked;
        match (open, self.stage) {
            // Where the clock is set back the same round may open again: it is begun anew, unless all of it was done.
            (None, _) if cut => {
                *self = Self::default();
                Turn::Closed
            }
            (None, _) => Turn::Rest,
            (Some(_), _) if open != self.round => {
                *self = Self { round: open, stage: Stage::Unasked };
                if cut { Turn::Closed } else { Turn::Name }
            }
            (_, Stage::Unasked) => Turn::Name,
            (_, Stage::Asked) => Turn::Fill,
            (_, Stage::Done) => Turn::Rest,
        }
    }

    /// The keys are known.
    pub fn asked(&mut self) {
        self.stage = Stage::Asked;
    }

    /// All of them have been looked at.
    pub fn done(&mut self) {
        self.stage = Stage::Done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::schedule::{Schedule, Window};
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan as _};
    use proptest::prelude::*;

    fn berlin(windows: &[&str]) -> Schedule {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        Schedule { windows: windows.iter().map(|w| Window::parse(w).unwrap()).collect(), days: Vec::new(), zone }
    }

    /// Looks every minute; a round takes `work` minutes. Returns when something else happened than before.
    fn played(s: &Schedule, from: &str, minutes: i64, work: usize) -> Vec<(String, Turn)> {
        let from: Timestamp = from.parse().unwrap();
        let (mut hours, mut left, mut out) = (Hours::default(), 0, Vec::<(String, Turn)>::new());
        for minute in 0..minutes {
            let now = from + minute.minutes();
            let turn = hours.turn(s.at(now));
            match turn {
                Turn::Name => {
                    left = work;
                    hours.asked();
                }
                Turn::Fill => {
                    left -= 1;
                    if left == 0 {
                        hours.done();
                    }
                }
                Turn::Rest | Turn::Closed => {}
            }
            if out.last().is_none_or(|(_, last)| *last != turn) {
                out.push((now.strftime("%d. %H:%M").to_string(), turn));
            }
        }
        out
    }

    #[track_caller]
    fn check(windows: &[&str], from: &str, minutes: i64, work: usize, expected: &[(&str, Turn)]) {
        let found = played(&berlin(windows), from, minutes, work);
        let found: Vec<(&str, Turn)> = found.iter().map(|(at, turn)| (at.as_str(), *turn)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_round_is_done_once_a_window_and_what_the_window_cuts_off_begins_anew_in_the_next() {
        use Turn::{Closed, Fill, Name, Rest};
        let day = 24 * 60;
        check(
            &["02:00-03:00"],
            "2026-07-01T22:00Z",
            day,
            5,
            &[("01. 22:00", Rest), ("02. 00:00", Name), ("02. 00:01", Fill), ("02. 00:06", Rest)],
        );
        check(
            &["02:00-02:10", "12:00-12:05"],
            "2026-07-01T22:00Z",
            day,
            50,
            &[
                ("01. 22:00", Rest),
                ("02. 00:00", Name),
                ("02. 00:01", Fill),
                ("02. 00:10", Closed),
                ("02. 00:11", Rest),
                ("02. 10:00", Name),
                ("02. 10:01", Fill),
                ("02. 10:05", Closed),
                ("02. 10:06", Rest),
            ],
        );
        // One window follows the other at once.
        check(
            &["00:00-24:00"],
            "2026-07-01T21:50Z",
            20,
            90,
            &[
                ("01. 21:50", Name),
                ("01. 21:51", Fill),
                ("01. 22:00", Closed),
                ("01. 22:01", Name),
                ("01. 22:02", Fill),
            ],
        );
    }

    #[test]
    fn an_hour_that_comes_twice_is_used_twice_only_for_what_was_not_done() {
        use Turn::{Closed, Fill, Name, Rest};
        // 02:15 to 02:45 comes at 00:15 and at 01:15 UTC.
        check(
            &["02:15-02:45"],
            "2026-10-25T00:00Z",
            120,
            5,
            &[("25. 00:00", Rest), ("25. 00:15", Name), ("25. 00:16", Fill), ("25. 00:21", Rest)],
        );
        check(
            &["02:15-02:45"],
            "2026-10-25T00:00Z",
            120,
            40,
            &[
                ("25. 00:00", Rest),
                ("25. 00:15", Name),
                ("25. 00:16", Fill),
                ("25. 00:45", Closed),
                ("25. 00:46", Rest),
                ("25. 01:15", Name),
                ("25. 01:16", Fill),
                ("25. 01:45", Closed),
                ("25. 01:46", Rest),
            ],
        );
    }

    proptest! {
        /// However often somebody looks, and whatever fails: nothing is done outside a window, and nothing twice.
        #[test]
        fn nothing_is_done_outside_a_window_and_no_round_twice(
            looks in prop::collection::vec((1i64..400, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let s = berlin(&["22:30-02:45", "12:00-13:00"]);
            let mut now: Timestamp = "2026-10-20T00:00Z".parse().unwrap();
            let (mut hours, mut done) = (Hours::default(), Vec::<Round>::new());
            for (minutes, works, ends) in looks {
                now += minutes.minutes();
                let open = s.at(now);
                let turn = hours.turn(open);
                if matches!(turn, Turn::Name | Turn::Fill) {
                    let round = open.unwrap();
                    prop_assert!(!done.contains(&round));
                    match turn {
                        Turn::Name if works => hours.asked(),
                        Turn::Fill if ends => {
                            hours.done();
                            done.push(round);
                        }
                        _ => {}
                    }
                } else if turn == Turn::Rest {
                    prop_assert!(open.is_none_or(|round| done.contains(&round)));
                }
            }
        }
    }
}
