//! Floor 2: where warmed values come from, the database or the application itself.

pub mod http;
pub mod replica;
pub mod sql;
pub mod trial;

/// Why a key was not filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, with its remedy.
    pub why: String,
    /// The question is wrong, not the moment.
    pub hopeless: bool,
}
