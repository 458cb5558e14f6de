//! What a machine that others use takes from a test: a bound that is a promise holds for the time in which there was a core to keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A sleep of this length that lasts longer was waiting for a core.
const STEP: Duration = Duration::from_millis(5);

/// Watches how late a thread is that sleeps in small steps, until it is dropped. On a quiet machine that is a few hundredths of the time.
pub(crate) struct Pace {
    began: Instant,
    late: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Pace {
    pub(crate) fn watch() -> Self {
        let (late, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (adds, stops) = (late.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(STEP);
                let late = before.elapsed().saturating_sub(STEP);
                adds.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { began: Instant::now(), late, stop }
    }

    /// For how long the machine gave no core to who wanted one, since the beginning.
    pub(crate) fn late(&self) -> Duration {
        Duration::from_micros(self.late.load(Ordering::Relaxed))
    }

    /// Whether it did so for a quarter of the time: nothing can be said then of who seemed to stand still.
    pub(crate) fn is_poor(&self) -> bool {
        self.late() * 4 > self.began.elapsed()
    }

    /// What a promise of `bound` is here and now.
    pub(crate) fn allows(&self, bound: Duration) -> Duration {
        // One way of many steps, each of which may have waited as long as this thread.
        bound + self.late() * 2
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
