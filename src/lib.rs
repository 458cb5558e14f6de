//! pgevict deletes the right Redis keys a few milliseconds after PostgreSQL rows change.

pub mod config;
pub mod observe;
pub mod rules;
pub mod cli {
    //! Floor 4: words in, words out.
    pub mod exit;
}
