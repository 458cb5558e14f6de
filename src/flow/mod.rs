//! Floor 1: decisions over time, without sockets. Instants and nonces are arguments.

pub mod after;
pub mod bell;
pub mod coverage;
pub mod debounce;
pub mod fork;
pub mod heat;
pub mod hours;
pub mod index;
pub mod ledger;
pub mod paging;
pub mod probe;
pub mod proof;
pub mod record;
pub mod retry;
pub mod tombstones;
pub mod vigil;
pub mod warm;
pub mod worth;
