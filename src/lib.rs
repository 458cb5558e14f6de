//! pgevict deletes the right Redis keys a few milliseconds after PostgreSQL rows change.
//!
//! An application keeps *caches* in Redis: a template of a key or a pattern, with holes. Changes of *tables* make them
//! stale; an *edge* leads from a table to a cache. Both nouns stand in one file ([`config`]).
//!
//! From the file alone follows a [`rules::layout`]: what the trigger of each table must write down for the edges that
//! start there. [`rules::capture`] turns it into SQL. A statement of the application then leaves one row in the *journal*, in
//! its own transaction, with the values that fill the holes; if the daemon sleeps, it *rings*.
//!
//! The daemon reads the journal in *batches*: what one snapshot of PostgreSQL sees and an earlier one did not ([`source`]). It maps
//! them to keys ([`rules::mapping`]) and deletes these ([`sink`]) in scripts that compare the *position* first. The position is such a
//! snapshot, it lives in Redis, and it moves only behind what is deleted and proven ([`flow`]). So recovery, from
//! whatever, is always the same: connect anew, read the position, go on from there ([`daemon`]). Where nothing can be
//! proven, the caches are *flushed* whole.
//!
//! What a cache wants *warmed* is read anew beside all this ([`warm`]) and stored like a careful application would: not if a change has
//! been evicted since.
//!
//! Nobody but [`observe`] words what happens; [`admin`] serves it; [`cli`] is what people type.
//!
//! Begin with `src/ARCHITECTURE.md`, then read [`rules::layout`], `sql/capture.sql`, and the loop in `daemon/live.rs`.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod flow;
pub mod observe;
mod planted;
pub mod rules;
pub mod sink;
pub mod source;
pub mod warm;
