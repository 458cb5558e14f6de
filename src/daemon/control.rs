//! What others may ask of the daemon while it runs.

use crate::admin::Asked;
use crate::config::model::Config;
use std::sync::Arc;

/// A request to the live session.
#[derive(Debug)]
pub enum Control {
    /// This configuration is live from now on.
    Reload(Arc<Config>),
    /// The operator has dealt with the refused edges of this cache.
    Dismiss(String),
    /// An entry is to be filled.
    Warm(Asked),
}
