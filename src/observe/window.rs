//! Quantiles of the last five minutes in bounded memory: one histogram a minute, each with 8 buckets a power of two,
//! so a quantile is at most 12.5 % too high.

use std::time::{Duration, Instant};

/// Minutes that are remembered.
pub const MINUTES: usize = 5;
/// Buckets for values from 0 µs to 2^32 µs (71 min); what is longer counts as that.
const BUCKETS: usize = 8 * 30;

/// Durations of the last [`MINUTES`] minutes.
#[derive(Debug)]
pub struct Window {
    begun: Instant,
    /// Number of the minute since `begun` that each slot holds.
    minutes: [Option<u64>; MINUTES],
    counts: Vec<[u32; BUCKETS]>,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { begun: now, minutes: [None; MINUTES], counts: vec![[0; BUCKETS]; MINUTES] }
    }

    /// Counts one duration.
    pub fn record(&mut self, now: Instant, d: Duration) {
        let minute = self.minute(now);
        let slot = (minute % MINUTES as u64) as usize;
        if self.minutes[slot] != Some(minute) {
            self.minutes[slot] = Some(minute);
            self.counts[slot] = [0; BUCKETS];
        }
        let count = &mut self.counts[slot][bucket(d)];
        *count = count.saturating_add(1);
    }

    /// How many were counted, and the upper bounds of the given quantiles; None while there are none.
    #[must_use]
    pub fn quantiles<const N: usize>(&self, now: Instant, of: [f64; N]) -> Option<(u64, [Duration; N])> {
        let minute = self.minute(now);
        let mut sum = [0u64; BUCKETS];
        for (slot, held) in self.minutes.iter().enumerate() {
            if held.is_some_and(|m| m + MINUTES as u64 > minute) {
                sum.iter_mut().zip(&self.counts[slot]).for_each(|(s, c)| *s += u64::from(*c));
            }
        }
        let total: u64 = sum.iter().sum();
        if total == 0 {
            return None;
        }
        let at = |q: f64| {
            // At least the first one, whatever the rounding.
            let rank = ((total as f64 * q).ceil() as u64).max(1);
            let mut seen = 0;
            let found = sum.iter().position(|c| {
                seen += c;
                seen >= rank
            });
            upper_bound(found.unwrap_or(BUCKETS - 1))
        };
        Some((total, of.map(at)))
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs() / 60
    }
}

/// Below 8 µs a bucket a microsecond; above, the three bits that follow the highest one choose among eight.
fn bucket(d: Duration) -> usize {
    let us = u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
    if us < 8 {
        return us as usize;
    }
    let power = us.ilog2();
    let eighth = (us >> (power - 3)) & 7;
    ((power as usize - 2) * 8 + eighth as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    if bucket < 8 {
        return Duration::from_micros(bucket as u64);
    }
    let (power, eighth) = (bucket / 8 + 2, bucket % 8);
    Duration::from_micros(((8 + eighth as u64 + 1) << (power - 3)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_an_eighth_too_high() {
        for us in (0..200_000u64).chain([1 << 20, 3_000_000, 60_000_000, u64::from(u32::MAX)]) {
            let bound = upper_bound(bucket(Duration::from_micros(us))).as_micros() as u64;
            assert!(bound >= us && bound <= us + us / 8, "{us} {bound}");
        }
        assert_eq!(bucket(Duration::from_secs(1_000_000)), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let t0 = Instant::now();
        let mut w = Window::new(t0);
        assert_eq!(w.quantiles(t0, [0.5]), None);
        (1..=1000u64).for_each(|ms| w.record(t0, Duration::from_millis(ms)));
        let (n, [p50, p99]) = w.quantiles(t0, [0.5, 0.99]).unwrap();
        assert_eq!(n, 1000);
        assert!((500..=563).contains(&p50.as_millis()), "{p50:?}");
        assert!((990..=1114).contains(&p99.as_millis()), "{p99:?}");
    }

    #[test]
    fn what_is_older_than_five_minutes_is_forgotten() {
        let t0 = Instant::now();
        let minute = Duration::from_secs(60);
        let mut w = Window::new(t0);
        w.record(t0, Duration::from_millis(900));
        w.record(t0 + minute * 2, Duration::from_millis(1));
        assert_eq!(w.quantiles(t0 + minute * 4, [1.0]).unwrap().0, 2);
        assert_eq!(w.quantiles(t0 + minute * 5, [1.0]).unwrap().0, 1);
        assert_eq!(w.quantiles(t0 + minute * 60, [1.0]), None);
        w.record(t0 + minute * 5, Duration::from_millis(1));
        assert_eq!(w.quantiles(t0 + minute * 5, [1.0]).unwrap().0, 2);
    }
}
