//! Whether PostgreSQL would answer the queries by which caches are warmed, asked as the role that will run them.

use crate::config::model::{Cache, Config, Refill};
use crate::config::{Place, Problem, codes};
use crate::rules::query::Query;
use crate::source;
use crate::warm::trial::{self, Fault};
use std::ops::Range;
use std::time::Duration;

/// Planning takes milliseconds; one that does not end is the operator's to know.
const LIMIT: Duration = Duration::from_secs(5);

/// What does not fit. `text` is the file as it stands, in which the queries are looked up again to point at them.
pub(super) async fn check(config: &Config, text: &str) -> Vec<Problem> {
    let warmed: Vec<&Cache> = config.caches.iter().filter(|c| queries(c).next().is_some()).collect();
    if warmed.is_empty() {
        return Vec::new();
    }
    let url = config.warm.url.as_ref().unwrap_or(&config.postgres.url);
    let lost = |why: String| vec![Problem::error(codes::NO_POSTGRES, Place::None, format!("warming: {why}"))];
    // Not by `source::connect`: it may be a standby.
    let client = match source::pool::pool(url, &url.hosts, 1, crate::warm::sql::settings(LIMIT)) {
        Ok((pool, _)) => pool.get().await.map_err(|e| crate::warm::sql::unreachable_pool(&e).why),
        Err(why) => Err(why),
    };
    let client = match client {
        Ok(client) => client,
        Err(why) => return lost(why),
    };
    let mut out = Vec::new();
    let asking = async {
        let schema = &config.postgres.schema;
        let token = format!("{}.token()", crate::rules::sql::ident(schema));
        let installed = "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL";
        // Whoever may not use the schema is told that it is not there.
        let may = "SELECT coalesce((SELECT NOT pg_catalog.has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace \
                   WHERE nspname = $1), false)";
        let there = client.query_one(may, &[schema]).await?.get::<_, bool>(0)
            || client.query_one(installed, &[&token]).await?.get::<_, bool>(0);
        for cache in &warmed {
            for (name, query) in queries(cache) {
                let fault = match (name, cache.warm.as_ref().map(|w| &w.refill)) {
                    ("warm.sql", Some(Refill::Sql { format, .. })) => {
                        trial::value(&client, query, *format, there.then_some(schema.as_str())).await?
                    }
                    _ => trial::names(&client, query, &cache.template.holes()).await?,
                };
                out.extend(fault.map(|fault| problem(cache, name, query, fault, text)));
            }
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    match asking.await {
        Ok(()) => out,
        Err(e) => lost(source::connect::describe(&e)),
    }
}

fn queries(cache: &Cache) -> impl Iterator<Item = (&'static str, &Query)> {
    let warm = cache.warm.as_ref();
    let value = warm.and_then(|w| w.query()).map(|q| ("warm.sql", q));
    let startup = warm.and_then(|w| w.startup.as_ref());
    // A schedule without a query of its own has that of the start.
    let quiet = warm.and_then(|w| w.schedule.as_ref()).map(|q| &q.query).filter(|q| Some(*q) != startup);
    let names = startup.map(|q| ("warm.startup.sql", q)).into_iter().chain(quiet.map(|q| ("warm.schedule.sql", q)));
    value.into_iter().chain(names)
}

fn problem(cache: &Cache, name: &str, query: &Query, fault: Fault, text: &str) -> Problem {
    let inside = match fault.at {
        Some(at) => at..at + word(&query.source[at..]),
        None => 0..query.source.len(),
    };
    let message = format!("`{name}` of `{}`: {}", cache.name, fault.why);
    let problem = Problem::error(codes::WARM_QUERY, place(text, &cache.name, &query.source, inside), message);
    if fault.help.is_empty() { problem } else { problem.help(fault.help) }
}

/// The bytes of the name or sign that the text begins with.
fn word(text: &str) -> usize {
    let name = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == ':')).unwrap_or(text.len());
    name.max(text.chars().next().map_or(0, char::len_utf8))
}

/// Where the query stands in the file: the first such text behind the cache's heading. None where it is written with escapes, or comes
/// from somewhere else.
fn place(text: &str, cache: &str, query: &str, inside: Range<usize>) -> Place {
    let heading = text.find(&format!("[cache.{cache}")).or_else(|| text.find(cache)).unwrap_or(0);
    let found = text[heading..].find(query).map(|i| heading + i).or_else(|| text.find(query));
    found.map_or(Place::None, |start| Place::Span(start + inside.start..start + inside.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_found_behind_the_heading_of_its_cache() {
        let text = "[cache.a]\nwarm.sql = \"SELECT x\"\n[cache.b]\nwarm.sql = \"SELECT x\"\n";
        let Place::Span(span) = place(text, "b", "SELECT x", 7..8) else { panic!("not found") };
        assert_eq!((span.start, &text[span]), (text.rfind('x').unwrap(), "x"));
        assert_eq!(place(text, "b", "SELECT y", 0..1), Place::None);
    }

    #[test]
    fn a_mark_is_as_long_as_the_name_it_marks() {
        assert_eq!(["u.nam FROM", ":id::int)", ")", "ä", ""].map(word), [5, 8, 1, 2, 0]);
    }
}
