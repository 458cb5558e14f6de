//! pgevict deletes the right Redis keys a few milliseconds after PostgreSQL rows change.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod flow;
pub mod observe;
pub mod rules;
pub mod sink;
pub mod source;
