//! When a schedule's window is open: a pure function of a moment and a time zone.
//!
//! What counts is the clock on the wall. An hour that is skipped in spring is in no window; one that comes twice in autumn is in it
//! both times, and still belongs to one round.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

/// A day has so many minutes on its clock, however long it is.
const DAY: u16 = 24 * 60;

/// From one time of day up to another; past midnight where the end is not after the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minutes since midnight: the first inside, and the first behind.
    from: u16,
    to: u16,
}

/// When a cache is warmed by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// At least one.
    pub windows: Vec<Window>,
    /// The days on which a window may begin; empty: all.
    pub days: Vec<Weekday>,
    /// Whose clock.
    pub zone: TimeZone,
}

/// One opening of a window: within it everything is filled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// The day on which it began.
    day: Date,
    /// Which window.
    window: usize,
}

impl Window {
    /// The whole day.
    pub const ALWAYS: Self = Self { from: 0, to: DAY };

    /// Reads `02:00-05:00`; the end may be `24:00`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((from, to)) = text.split_once('-') else {
            return Err("a window is a time, a hyphen and a time: `02:00-05:00`".into());
        };
        let (from, to) = (minutes(from)?, minutes(to)?);
        match (from, to) {
            (DAY, _) => Err("a day ends at 24:00, a window begins at 00:00".into()),
            _ if from == to => Err("it is empty; the whole day is `00:00-24:00`".into()),
            _ => Ok(Self { from, to }),
        }
    }

    /// Whether this minute is inside; None: no. Some: whether the window has begun the day before.
    fn holds(self, minute: u16) -> Option<bool> {
        if self.from < self.to {
            (self.from <= minute && minute < self.to).then_some(false)
        } else if minute >= self.from {
            Some(false)
        } else {
            (minute < self.to).then_some(true)
        }
    }
}

fn minutes(text: &str) -> Result<u16, String> {
    let text = text.trim();
    let wrong = || format!("`{text}` is no time of day, such as `02:00`");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| -> Option<u16> {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
    };
    let (Some(hours), Some(minutes)) = (number(hours), number(minutes)) else { return Err(wrong()) };
    let all = hours * 60 + minutes;
    if minutes < 60 && all <= DAY { Ok(all) } else { Err(wrong()) }
}

impl Schedule {
    /// Which round is open at this moment, if any.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Round> {
        self.on_the_wall(self.zone.to_datetime(now))
    }

    /// The same by what the clock shows.
    #[must_use]
    pub fn on_the_wall(&self, now: DateTime) -> Option<Round> {
        // The clock shows no negative numbers.
        let minute = u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).unwrap_or_default();
        self.windows.iter().enumerate().find_map(|(window, w)| {
            let day = match w.holds(minute)? {
                false => now.date(),
                true => now.date().yesterday().ok()?,
            };
            (self.days.is_empty() || self.days.contains(&day.weekday())).then_some(Round { day, window })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, ToSpan as _};
    use proptest::prelude::*;

    /// Central European rules as POSIX writes them: the test needs no tzdata.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn schedule(windows: &[&str], days: &[Weekday], zone: TimeZone) -> Schedule {
        let windows = windows.iter().map(|w| Window::parse(w).unwrap()).collect();
        Schedule { windows, days: days.to_vec(), zone }
    }

    /// When the rounds of a stretch of UTC begin and end, by the minute.
    fn rounds(s: &Schedule, from: &str, hours: i64) -> Vec<(String, String)> {
        let from: Timestamp = from.parse().unwrap();
        let mut out: Vec<(String, String)> = Vec::new();
        let mut last = None;
        for minute in 0..=hours * 60 {
            let at = from + minute.minutes();
            let (round, shown) = (s.at(at), at.strftime("%d. %H:%M").to_string());
            if round != last {
                if last.is_some() {
                    out.last_mut().unwrap().1.clone_from(&shown);
                }
                if round.is_some() {
                    out.push((shown, String::new()));
                }
                last = round;
            }
        }
        out
    }

    #[track_caller]
    fn check(s: &Schedule, from: &str, hours: i64, expected: &[(&str, &str)]) {
        let found = rounds(s, from, hours);
        let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_window_is_open_by_the_clock_of_its_zone() {
        let night = |zone| schedule(&["02:00-05:00"], &[], zone);
        check(&night(TimeZone::UTC), "2026-11-20T00:00Z", 24, &[("20. 02:00", "20. 05:00")]);
        check(&night(berlin()), "2026-11-20T00:00Z", 24, &[("20. 01:00", "20. 04:00")]);
        check(&night(berlin()), "2026-07-20T00:00Z", 23, &[("20. 00:00", "20. 03:00")]);
        let kathmandu = TimeZone::posix("<+0545>-5:45").unwrap();
        check(&night(kathmandu), "2026-11-19T12:00Z", 24, &[("19. 20:15", "19. 23:15")]);
    }

    #[test]
    fn past_midnight_the_window_belongs_to_the_day_on_which_it_began() {
        // The 20th is a Friday.
        let s = schedule(&["22:00-02:00", "12:00-12:30"], &[Weekday::Friday], TimeZone::UTC);
        check(&s, "2026-11-19T00:00Z", 72, &[("20. 12:00", "20. 12:30"), ("20. 22:00", "21. 02:00")]);
        check(
            &schedule(&["00:00-24:00"], &[], TimeZone::UTC),
            "2026-11-20T00:01Z",
            24,
            &[("20. 00:01", "21. 00:00"), ("21. 00:00", "")],
        );
    }

    #[test]
    fn the_hour_that_spring_skips_is_in_no_window() {
        // 02:00 to 03:00 does not exist on the 29th: 01:00 UTC is 03:00 there.
        check(&schedule(&["02:00-03:00"], &[], berlin()), "2026-03-28T12:00Z", 24, &[]);
        check(&schedule(&["01:30-03:30"], &[], berlin()), "2026-03-28T12:00Z", 24, &[("29. 00:30", "29. 01:30")]);
        check(&schedule(&["02:30-05:00"], &[], berlin()), "2026-03-28T12:00Z", 24, &[("29. 01:00", "29. 03:00")]);
    }

    #[test]
    fn the_hour_that_autumn_repeats_is_open_twice_and_one_round() {
        // 02:00 to 03:00 comes twice on the 25th: at 00:00 and at 01:00 UTC.
        check(&schedule(&["02:00-03:00"], &[], berlin()), "2026-10-24T12:00Z", 24, &[("25. 00:00", "25. 02:00")]);
        let s = schedule(&["02:15-02:45"], &[], berlin());
        check(&s, "2026-10-24T12:00Z", 24, &[("25. 00:15", "25. 00:45"), ("25. 01:15", "25. 01:45")]);
        let at = |text: &str| s.at(text.parse().unwrap());
        assert_eq!(at("2026-10-25T00:20Z"), at("2026-10-25T01:20Z"));
        assert_ne!(at("2026-10-25T00:20Z"), at("2026-10-26T01:20Z"));
    }

    proptest! {
        /// Whatever the zone does: open exactly while the clock shows a time inside, and one round for each day on which a window begins.
        #[test]
        fn open_means_that_the_clock_shows_a_time_inside(
            from in 0u16..1440, to in 0u16..=1440, second in 1_700_000_000i64..1_900_000_000, days in 0u8..128,
        ) {
            prop_assume!(from != to);
            let all = [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday, Weekday::Saturday, Weekday::Sunday];
            let days: Vec<Weekday> = all.into_iter().enumerate().filter(|(i, _)| days & (1 << i) != 0).map(|(_, d)| d).collect();
            let text = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
            let s = schedule(&[&text], &days, berlin());
            let now = Timestamp::from_second(second).unwrap();
            let wall = berlin().to_datetime(now);
            let minute = u16::try_from(wall.hour()).unwrap() * 60 + u16::try_from(wall.minute()).unwrap();
            let (inside, began) = if from < to {
                ((from..to).contains(&minute), wall.date())
            } else {
                (minute >= from || minute < to, if minute >= from { wall.date() } else { wall.date().yesterday().unwrap() })
            };
            let open = inside && (days.is_empty() || days.contains(&began.weekday()));
            prop_assert_eq!(s.at(now), open.then_some(Round { day: began, window: 0 }));
            // A whole day later another round, never the same one again.
            let later = now + SignedDuration::from_hours(26);
            prop_assert!(s.at(now).is_none() || s.at(later) != s.at(now));
        }

        #[test]
        fn reading_a_window_never_panics(text in "[0-9:. -]{0,14}") {
            let _ = Window::parse(&text);
        }
    }

    #[test]
    fn what_is_no_window_is_said() {
        for (text, says) in [
            ("02:00", "a hyphen"),
            ("2:00-05:00", "`2:00` is no time of day"),
            ("02:00-25:00", "`25:00` is no time"),
            ("02:60-03:00", "`02:60` is no time"),
            ("02:00-24:01", "`24:01` is no time"),
            ("24:00-02:00", "begins at 00:00"),
            ("02:00-02:00", "it is empty"),
        ] {
            let why = Window::parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        assert_eq!(Window::parse("00:00 - 24:00"), Ok(Window::ALWAYS));
    }
}
