//! How many journal rows a page asks for: sized by time, because what a row costs differs a thousandfold.

use std::time::Duration;

/// At the beginning of a session.
const FIRST: i64 = 512;
/// No fewer: below, the round trips cost more than the rows.
const FEWEST: i64 = 64;
/// No more: at some 60 bytes a row it is what a page may hold in bytes anyway (`source/journal.rs`).
const MOST: i64 = 4_096;
/// A turn that took less than this may be twice as long. Half of what an idle daemon adds to a change's latency at most.
const SHORT: Duration = Duration::from_millis(8);
/// A turn that took longer is halved: everything else that is due waits for it.
const LONG: Duration = Duration::from_millis(25);

/// The size of pages, by how long the last full ones took from their reading to the last of their deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    rows: i64,
}

impl Default for Paging {
    fn default() -> Self {
        Self { rows: FIRST }
    }
}

impl Paging {
    /// How many rows the next page may have.
    #[must_use]
    pub fn rows(self) -> i64 {
        self.rows
    }

    /// A page that was not the last of its batch took this long.
    pub fn full(&mut self, took: Duration) {
        if took < SHORT {
            self.rows = (self.rows * 2).min(MOST);
        } else if took > LONG {
            self.rows = (self.rows / 2).max(FEWEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_while_they_are_quick_and_shrink_while_they_are_slow_within_bounds() {
        let mut paging = Paging::default();
        let turns = |paging: &mut Paging, ms: u64| {
            (0..10).for_each(|_| paging.full(Duration::from_millis(ms)));
            paging.rows()
        };
        assert_eq!(turns(&mut paging, 1), MOST);
        assert_eq!(turns(&mut paging, 15), MOST, "neither quick nor slow");
        assert_eq!(turns(&mut paging, 100), FEWEST);
        paging.full(Duration::from_millis(1));
        assert_eq!(paging.rows(), 2 * FEWEST);
    }
}
