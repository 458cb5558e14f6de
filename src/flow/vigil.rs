//! Is the leading daemon still at work? A waiting one watches its record in Redis, which the leader replaces at least
//! once a second while it works (HAZARDS B12): a frozen or vanished leader keeps its connections, but writes nothing.

use std::time::{Duration, Instant};

/// A record that stands still for this long is a leader's that does not work: it misses two of its heartbeats.
/// Takeover within 5 s needs this, a second for the looks, and the start of a session.
pub const SILENCE: Duration = Duration::from_millis(2500);
/// A look that took longer, or came later after the one before, proves nothing: Redis was busy, and the leader's writes
/// waited as well, or the watcher itself was frozen, and the leader perhaps with it.
pub const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// What the watcher has seen.
#[derive(Debug, Default)]
pub struct Vigil(Option<Seen>);

#[derive(Debug)]
struct Seen {
    record: String,
    since: Instant,
    last: Instant,
}

impl Vigil {
    /// A look from `asked` to `now` found `record`. Returns whether the leader is silent.
    pub fn saw(&mut self, record: &str, asked: Instant, now: Instant) -> bool {
        let slow = now.saturating_duration_since(asked) > LOOK_LIMIT;
        match &mut self.0 {
            Some(seen)
                if seen.record == record && !slow && asked.saturating_duration_since(seen.last) <= LOOK_LIMIT =>
            {
                seen.last = now;
                now.saturating_duration_since(seen.since) >= SILENCE
            }
            seen => {
                *seen = Some(Seen { record: record.to_owned(), since: now, last: now });
                false
            }
        }
    }

    /// A look brought nothing: what was seen before counts no more.
    pub fn blind(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these milliseconds, each taking `took`, and says when the leader was called silent.
    fn silent_at(looks: &[(u64, &str)], took: u64) -> Option<u64> {
        let (mut vigil, start) = (Vigil::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        looks.iter().find(|(ms, record)| vigil.saw(record, at(*ms), at(ms + took))).map(|(ms, _)| *ms)
    }

    #[test]
    fn a_record_that_moves_is_a_leader_that_works() {
        let records: Vec<String> = (0..40).map(|n| format!("r{}", n / 4)).collect();
        let looks: Vec<(u64, &str)> = (0..).step_by(500).zip(records.iter().map(String::as_str)).collect();
        assert_eq!(silent_at(&looks, 2), None);
    }

    #[test]
    fn a_record_that_stands_still_is_silence_within_three_seconds() {
        let looks: Vec<(u64, &str)> = (0..20).map(|n| (n * 500, "r")).collect();
        assert_eq!(silent_at(&looks, 2), Some(2500));
    }

    #[test]
    fn slow_answers_and_a_watcher_that_was_frozen_prove_nothing() {
        let looks: Vec<(u64, &str)> = (0..9).map(|n| (n * 2000, "r")).collect();
        assert_eq!(silent_at(&looks, 1500), None, "Redis is busy for everybody");
        assert_eq!(silent_at(&[(0, "r"), (500, "r"), (60_000, "r"), (60_500, "r")], 2), None, "frozen together");
        let mut vigil = Vigil::default();
        let start = Instant::now();
        assert!(!vigil.saw("r", start, start));
        vigil.blind();
        let later = start + SILENCE;
        assert!(!vigil.saw("r", later, later), "nothing was seen in between");
    }
}
