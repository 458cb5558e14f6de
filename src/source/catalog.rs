//! shim
use crate::config::model::{Config, TableName};
use std::collections::BTreeMap;
/// shim
#[derive(Debug, Clone)]
pub struct TableState {
    /// t
    pub table: TableName,
    /// f
    pub files: BTreeMap<u32, u32>,
}
impl TableState {
    /// p
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        None
    }
}
/// shim
pub async fn inspect(_c: &tokio_postgres::Client, config: &Config) -> Result<Vec<TableState>, tokio_postgres::Error> {
    Ok(crate::rules::layout::layouts(config)
        .into_iter()
        .map(|l| TableState { table: l.table, files: BTreeMap::new() })
        .collect())
}
