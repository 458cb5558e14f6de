//! The harness: servers, a daemon and a cache as values, and one way to say "this statement evicts exactly these keys".

mod daemon;
pub(crate) mod pace;
pub(crate) mod proxy;
mod servers;
pub(crate) mod standby;
mod world;

pub(crate) use daemon::{Daemon, Ran, pgevict};
pub(crate) use servers::Db;
pub(crate) use world::{Setup, World};

use std::time::Duration;

/// Upper bound of every wait. What is waited for normally takes milliseconds; the bound is for a machine whose two
/// cores are shared by the whole suite, and turns a hang into a failure with logs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How changes travel; most tests run over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Journal,
    Notify,
}

impl Delivery {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Notify => "notify",
        }
    }
}

/// A configuration without its second deletes: they would fall into the next comparison of exact keys. What they do
/// has tests of its own.
pub(crate) fn without_repeats(config: &str) -> String {
    config.lines().filter(|l| !l.starts_with("repeat_after")).map(|l| format!("{l}\n")).collect()
}

/// Makes two tests out of each function that takes a [`Delivery`].
macro_rules! over_both_deliveries {
    ($($name:ident)*) => {
        mod journal { $( #[test] fn $name() { super::$name(crate::support::Delivery::Journal); } )* }
        mod notify { $( #[test] fn $name() { super::$name(crate::support::Delivery::Notify); } )* }
    };
}
pub(crate) use over_both_deliveries;
