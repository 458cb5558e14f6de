//! Exit codes, as one enum.

/// What the process says when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done; also: nothing was there to delete.
    Done = 0,
    /// It worked, and the answer is no: drift, failed test, not ready, servers that do not fit.
    No = 1,
    /// Usage: unknown command, table, cache or hole on the command line.
    Usage = 2,
    /// Refused: `never_delete`, missing confirmation, foreign identity.
    Refused = 3,
    /// PostgreSQL, Redis or the daemon cannot be reached.
    Unreachable = 4,
    /// A bug of pgevict.
    Bug = 70,
    /// The configuration file is invalid.
    Config = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
