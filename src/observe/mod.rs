//! Floor 1: the one place that words logs and metrics.
//!
//! The rest of the program reports values ([`event::Observation`], [`event::Condition`]) to an [`Observer`]; what a
//! line says, at which level, how often, and which series of the metrics moves is decided here and nowhere else.
//!
//! - [`redact`]: how keys and values may appear; [`words`]: the log line of a statement; [`notices`]: all other lines
//! - [`limit`]: repeats fold into a count, floods into one summary a table and second
//! - [`status`], [`window`]: what `pgevict status` knows, [`warming`] of warming; [`metrics`]: Prometheus; [`tail`]: the stream of `pgevict tail`
//! - [`log`]: text, JSON or journald
//!
//! Cached values never come here, so they cannot be logged.

pub mod clock;
pub mod event;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod notices;
pub mod observer;
pub mod redact;
pub mod status;
pub mod tail;
pub mod warming;
pub mod window;
pub mod words;

pub use log::{LogHandle, init};
pub use observer::Observer;
pub use status::{EdgeId, StatusReport};
pub use tail::TailLine;
