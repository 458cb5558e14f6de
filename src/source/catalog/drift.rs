//! What `sql diff` reports: where the database differs from what the configuration wants.

use super::Captured;
use super::inspect::states;
use crate::config::model::{Config, Delivery};
use crate::rules::capture::{Level, function_name};
use crate::rules::layout::layouts;
use crate::rules::probe;
use crate::rules::sql::ident;
use tokio_postgres::{Client, Error};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The object, as SQL names it.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// Everything in which the database differs; empty: nothing does. The session's `search_path` must be `pg_catalog`.
///
/// # Errors
/// The database's.
pub async fn drift(client: &Client, config: &Config) -> Result<Vec<Drift>, Error> {
    let schema = ident(&config.postgres.schema);
    // The probe's table is watched like the configured ones.
    let mut layouts = layouts(config);
    layouts.push(probe::layout(&config.postgres.schema));
    let (installed, states) = states(client, config, &layouts).await?;
    let mut out = Vec::new();
    let mut report = |object: String, what: &str| out.push(Drift { object, what: what.to_owned() });
    let relations = installed.relations.as_deref().unwrap_or_default();
    let journal: &[&str] = &["layout", "lost", "journal", "beacon", "floor", "sentinel", "history", "poison"];
    let needed = if config.postgres.delivery == Delivery::Journal { journal } else { &journal[..2] };
    for name in needed {
        if !relations.iter().any(|r| r == name) {
            report(format!("{schema}.{name}"), "is missing");
        }
    }
    if config.postgres.delivery == Delivery::Journal {
        use crate::rules::capture::{bury_source, relief_source, retire_source, token_source};
        let name = &config.postgres.schema;
        for (function, found, wanted) in [
            ("retire", &installed.retire, retire_source(name)),
            ("relieve", &installed.relieve, relief_source(name, config.postgres.journal_max_bytes)),
            ("bury", &installed.bury, bury_source(name)),
            ("token", &installed.token, token_source(name)),
        ] {
            match found {
                None => report(format!("function {schema}.{function}"), "is missing"),
                Some(source) if *source != wanted => {
                    report(format!("function {schema}.{function}"), "has another body");
                }
                Some(_) => {}
            }
        }
    }
    for state in &states {
        for (object, what) in &state.differences {
            report(object.clone(), what);
        }
    }
    if relations.iter().any(|r| r == "layout") {
        let rows = client.query(&format!("SELECT id FROM {schema}.layout"), &[]).await?;
        let known: Vec<i64> = rows.iter().map(|r| r.get(0)).collect();
        for state in states.iter().filter(|s| !known.contains(&s.wanted_layout)) {
            report(format!("layout {} of table {}", state.wanted_layout, state.table), "is missing");
        }
    }
    for capture in installed.captures.iter().flatten() {
        let owner = layouts.iter().find(|l| {
            let row = states.iter().any(|s| s.table == l.table && s.by_row);
            let level = if row { vec![Level::Statement, Level::Row] } else { vec![Level::Statement] };
            level.into_iter().any(|level| function_name(&l.table, level) == capture.name)
        });
        let Some(layout) = owner else {
            report(
                format!("function {schema}.{}", ident(&capture.name)),
                "is left over: no table of the configuration needs it",
            );
            for t in triggers(capture) {
                report(t, "is left over");
            }
            continue;
        };
        let state = states.iter().find(|s| s.table == layout.table);
        for t in capture.triggers.iter().flatten() {
            if !state.is_some_and(|s| s.relations.iter().any(|r| r.oid == t.oid)) {
                report(
                    format!("trigger {} on {}", t.name, t.relation),
                    "is left over: the relation does not belong to the table any more",
                );
            }
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

fn triggers(capture: &Captured) -> Vec<String> {
    capture.triggers.iter().flatten().map(|t| format!("trigger {} on {}", t.name, t.relation)).collect()
}
