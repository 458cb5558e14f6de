//! What is set as it changes, rather than reported.

use super::{Now, Observer};
use crate::config::model::TableName;
use crate::flow::warm::LaneState;

impl Observer {
    /// Where delivery stands: the snapshot as text.
    pub fn set_position(&self, position: &str) {
        self.state().position = Some(position.to_owned());
    }

    /// The live key index: how many keys, about how many bytes, whether it answers.
    pub fn set_index(&self, keys: usize, bytes: usize, live: bool) {
        self.0.metrics.index(keys, bytes, live);
    }

    /// Keys that wait to be warmed, by `sql` or by `http`.
    pub fn set_warm_queue(&self, by: &'static str, keys: usize) {
        self.0.metrics.warm_queue(by, keys);
    }

    /// What waits and runs of a cache of the configuration, and whether warming leaves it alone because it failed.
    pub fn set_warm_lane(&self, cache: &str, lane: LaneState) {
        self.0.metrics.warm_resting(cache, lane.rests.is_some());
        self.state().warming.lane(Now::read(), cache, lane);
    }

    /// A warming query was answered by the `primary`, or by the `replica`, where there is one.
    pub fn count_warm_read(&self, server: &'static str) {
        self.0.metrics.warm_read(server);
    }

    /// Whether so many warmed keys of a cache of the configuration had been read when a change took them.
    pub fn count_worth(&self, cache: &str, worth: &'static str, keys: u64) {
        self.0.metrics.warm_worth(cache, worth, keys);
        self.state().warming.worth(cache, worth, keys);
    }

    /// Rows in the journal, when it was counted or estimated.
    pub fn set_journal_rows(&self, rows: u64) {
        self.0.metrics.journal_rows(rows);
        self.state().journal_rows = Some(rows);
    }

    /// How many rows of a table changed without a capture, by the server's statistics; None: its captures work.
    pub fn set_suspected(&self, table: &TableName, rows: Option<u64>) {
        let mut state = self.state();
        match rows {
            Some(rows) => {
                let since = state.suspected.get(table).map_or_else(|| Now::read().wall, |(_, since)| *since);
                state.suspected.insert(table.clone(), (rows, since));
            }
            None => drop(state.suspected.remove(table)),
        }
    }

    /// How full the NOTIFY queue is, 0 to 1.
    pub fn set_notify_queue(&self, usage: f64) {
        self.0.metrics.notify_queue(usage);
    }
}
