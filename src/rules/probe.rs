//! The probe's table, captured like any other: what comes back from it proves the way that every change takes.

use super::layout::{Class, Layout, LayoutEdge, Source};
use crate::config::model::{OnError, Ops, TableName};
use std::collections::BTreeMap;

/// The column that the daemon changes.
const NONCE: &str = "nonce";

/// The table, in the schema of pgevict.
#[must_use]
pub fn table(schema: &str) -> TableName {
    TableName { schema: schema.into(), name: "probe".into() }
}

/// Its layout. An error of its trigger is raised, not degraded: the daemon itself makes the change and wants to know, and a capture
/// that is merely counted would flush every cache.
#[must_use]
pub fn layout(schema: &str) -> Layout {
    let edge = LayoutEdge { cache: "probe".to_owned(), holes: BTreeMap::from([(NONCE.into(), 0)]), via: None };
    let class = Class {
        ops: Ops { insert: false, update: true, delete: false },
        columns: None,
        when: Vec::new(),
        values: vec![Source::Column(NONCE.to_owned())],
        edges: vec![edge],
    };
    Layout { table: table(schema), classes: vec![class], always: false, on_error: OnError::Closed }
}
