//! When to try again after a session ended.
//!
//! The only place that uses the `backoff` crate, and of it only the policy (it is unmaintained, see deny.toml).

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait before jitter; jitter may add half (FACTS), so 7.5 s: a server that is back is noticed soon.
const LONGEST: Duration = Duration::from_secs(5);
/// A session that lived this long was healthy: the next failure starts from the first wait again. Resetting on connect
/// would hammer a server that accepts and then fails.
const HEALTHY: Duration = Duration::from_secs(30);

/// The series 100 ms, 200 ms, 400 ms … 5 s, each ± 50 %, for ever.
#[derive(Debug)]
pub struct Retry(ExponentialBackoff);

impl Default for Retry {
    fn default() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(FIRST)
                .with_multiplier(2.0)
                .with_randomization_factor(0.5)
                .with_max_interval(LONGEST)
                // The default gives up after 15 minutes.
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl Retry {
    /// How long to wait after a session that lived `lived`.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.0.reset();
        }
        self.0.next_backoff().unwrap_or(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_end() {
        let mut retry = Retry::default();
        let waits: Vec<_> = (0..200).map(|_| retry.after(Duration::ZERO)).collect();
        assert!(waits[0] <= FIRST * 3 / 2 && waits[0] >= FIRST / 2);
        assert!(waits.iter().all(|w| *w <= LONGEST * 3 / 2));
        assert!(waits[150..].iter().all(|w| *w >= LONGEST / 2));
    }

    #[test]
    fn only_a_healthy_session_starts_the_series_again() {
        let mut retry = Retry::default();
        for _ in 0..20 {
            retry.after(Duration::from_secs(1));
        }
        assert!(retry.after(Duration::from_secs(29)) > FIRST * 2);
        assert!(retry.after(HEALTHY) <= FIRST * 3 / 2);
    }
}
