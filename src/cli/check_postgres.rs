//! Whether PostgreSQL has the tables and columns that the configuration names, and lets lookups work.

use crate::config::model::{Config, Delivery, Table, TableName};
use crate::config::scalar::nearest;
use crate::config::{Place, Problem, codes};
use crate::rules::layout::{Layout, layouts};
use crate::rules::sql;
use crate::source::connect::describe;
use std::collections::BTreeMap;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What the database says of pgevict itself.
struct Installed {
    /// Whoever owns pgevict's functions, or would if the one who asks applied the migration.
    owner: String,
    /// The migration has been applied.
    already: bool,
}

/// What the catalog says of a relation.
struct Relation {
    kind: String,
    /// Row security can hide rows from the owner of pgevict's functions.
    rows_hidden: bool,
    /// The owner of pgevict's functions may read it.
    readable: bool,
    columns: Vec<String>,
    /// Of each column, as SQL names it.
    types: Vec<String>,
    primary_key: Vec<String>,
}

impl Relation {
    fn type_of(&self, column: &str) -> Option<&str> {
        self.columns.iter().zip(&self.types).find(|(c, _)| *c == column).map(|(_, t)| t.as_str())
    }
}

type Catalog = BTreeMap<TableName, Relation>;

/// Everything about the database that does not fit.
pub(super) async fn check(client: &Client, config: &Config) -> Vec<Problem> {
    let mut out = Vec::new();
    let broken = |e: &tokio_postgres::Error| {
        vec![error(codes::NO_POSTGRES, format!("PostgreSQL was lost during the check: {}", describe(e)))]
    };
    let installed = match server(client, config, &mut out).await {
        Ok(installed) => installed,
        Err(e) => return broken(&e),
    };
    let catalog = match catalog(client, config).await {
        Ok(catalog) => catalog,
        Err(e) => return broken(&e),
    };
    for layout in layouts(config) {
        table(&catalog, config, &layout, &mut out);
    }
    for table in &config.tables {
        if let Err(e) = lookups(client, &catalog, &installed, table, &mut out).await {
            return broken(&e);
        }
    }
    out
}

fn error(code: codes::Code, message: String) -> Problem {
    Problem::error(code, Place::None, message)
}

/// A file of `sql/` for another schema than `pgevict`.
fn for_schema(text: &str, schema: &str) -> String {
    text.replace("'pgevict'", &sql::literal(schema))
}

async fn server(client: &Client, config: &Config, out: &mut Vec<Problem>) -> Result<Installed, tokio_postgres::Error> {
    let postgres = &config.postgres;
    let text = for_schema(include_str!("../../sql/check_server.sql"), &postgres.schema);
    let row = client.query_one(text.as_str(), &[]).await?;
    let role: String = row.get("role");
    if row.get("read_only") {
        let message = format!("sessions of role `{role}` are read-only");
        out.push(error(codes::NOT_PRIMARY, message).help("ALTER ROLE … SET default_transaction_read_only = off"));
    }
    if postgres.delivery == Delivery::Notify {
        if row.get("prepared_transactions") {
            let message = "`delivery = \"notify\"`, but `max_prepared_transactions` is above 0".to_owned();
            let help = "PREPARE TRANSACTION after NOTIFY fails: use delivery = \"journal\"";
            out.push(error(codes::NOTIFY_PREPARED, message).help(help));
        }
        let message = "with `delivery = \"notify\"`, changes are lost while the daemon or its connection is down";
        let problem = Problem::warning(codes::NOTIFY_PROMISES, Place::None, message);
        out.push(problem.help("delivery = \"journal\" loses nothing and never blocks a writer"));
    }
    let schema = &postgres.schema;
    if !row.get::<_, bool>("has_schema") {
        let message = format!("the schema `{schema}` does not exist yet: nothing is captured");
        let problem = Problem::warning(codes::NO_SCHEMA, Place::None, message);
        out.push(problem.help("apply the migration: `pgevict sql apply`, or `pgevict sql up | psql`"));
    } else if !row.get::<_, bool>("may_use") || !row.get::<_, bool>("may_read") {
        let message = format!("role `{role}` may not read the schema `{schema}`");
        out.push(
            error(codes::PG_RIGHTS, message).help("apply the migration again as its owner: it grants what is needed"),
        );
    }
    Ok(Installed { owner: row.get("owner"), already: row.get("has_schema") })
}

async fn catalog(client: &Client, config: &Config) -> Result<Catalog, tokio_postgres::Error> {
    let text = for_schema(include_str!("../../sql/check_tables.sql"), &config.postgres.schema);
    let rows = client.query(text.as_str(), &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let name =
                TableName { schema: row.get::<_, &str>("schema").into(), name: row.get::<_, &str>("name").into() };
            let relation = Relation {
                kind: row.get("kind"),
                rows_hidden: row.get("rows_hidden"),
                readable: row.get("readable"),
                columns: row.get("columns"),
                types: row.get("types"),
                primary_key: row.get("primary_key"),
            };
            (name, relation)
        })
        .collect())
}

/// The table of a layout and the columns that its capture reads.
fn table(catalog: &Catalog, config: &Config, layout: &Layout, out: &mut Vec<Problem>) {
    let name = &layout.table;
    let Some(relation) = catalog.get(name) else {
        let names: Vec<String> = catalog.keys().map(ToString::to_string).collect();
        let text = name.to_string();
        // The right name in another schema is nearer than any spelling.
        let elsewhere = catalog.keys().find(|k| k.name == name.name).map(ToString::to_string);
        let near = elsewhere.or_else(|| nearest(&text, names.iter().map(String::as_str)).map(str::to_owned));
        let problem =
            error(codes::NO_TABLE, format!("the database `{}` has no table `{name}`", config.postgres.url.dbname));
        out.push(problem.did_you_mean(near.as_deref()));
        return;
    };
    let what = match relation.kind.as_str() {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        _ => "",
    };
    if !what.is_empty() {
        let problem = error(codes::NO_TABLE, format!("`{name}` is {what}, whose changes no trigger sees"));
        out.push(problem.help("watch the tables behind it"));
    }
    for column in layout.columns().into_iter().filter(|c| !relation.columns.iter().any(|r| r == c)) {
        let near = nearest(column, relation.columns.iter().map(String::as_str));
        let mut problem =
            error(codes::NO_COLUMN, format!("table `{name}` has no column `{column}`")).did_you_mean(near);
        let asking = config.table(name).into_iter().flat_map(|t| t.edges.iter().map(move |e| (t, e))).find(|(t, e)| {
            let holes = config.cache(&e.cache).map(|c| c.template.holes()).unwrap_or_default();
            holes.contains(&column) && !e.with.contains_key(column) && !t.lookups.iter().any(|l| l.hole == column)
        });
        if let Some((_, edge)) = asking {
            problem = problem.help(format!(
                "the hole {{{column}}} of cache `{}` takes it; another column is named with {{ cache = \"{}\", with = {{ {column} = \"…\" }} }}",
                edge.cache, edge.cache
            ));
        }
        out.push(problem);
    }
}

async fn lookups(
    client: &Client,
    catalog: &Catalog,
    installed: &Installed,
    table: &Table,
    out: &mut Vec<Problem>,
) -> Result<(), tokio_postgres::Error> {
    for lookup in &table.lookups {
        let (Some(child), Some(parent)) = (catalog.get(&table.name), catalog.get(&lookup.to)) else { continue };
        let place = format!("lookup.{} of `{}`", lookup.hole, table.name);
        if parent.rows_hidden {
            let owner = &installed.owner;
            let message = format!("{place}: row security of `{}` can hide rows from role `{owner}`", lookup.to);
            let mut problem = error(codes::ROW_SECURITY, message);
            if !installed.already {
                problem = problem
                    .help("the triggers run as whoever applies the migration; this check assumes who it runs as");
            }
            out.push(problem.help(format!("ALTER ROLE {} BYPASSRLS", sql::ident(owner))));
        }
        // Before the migration nobody knows who will own the functions.
        if !parent.readable && installed.already {
            let owner = &installed.owner;
            let message = format!("{place}: role `{owner}`, who owns pgevict's schema, may not read `{}`", lookup.to);
            let grant = format!("GRANT SELECT ON {} TO {}", lookup.to.sql(), sql::ident(owner));
            out.push(error(codes::PG_RIGHTS, message).help(grant));
        }
        let by = match (&lookup.by, parent.primary_key.as_slice()) {
            (Some(by), _) => by,
            (None, [only]) => only,
            (None, keys) => {
                let why = if keys.is_empty() { "no primary key" } else { "a primary key of several columns" };
                let message = format!("{place}: `{}` has {why}", lookup.to);
                out.push(error(codes::LOOKUP_KEY, message).help("name the column that is joined to: by = \"…\""));
                continue;
            }
        };
        if lookup.by.is_some() && !parent.columns.contains(by) {
            let near = nearest(by, parent.columns.iter().map(String::as_str));
            let message = format!("{place}: `{}` has no column `{by}`", lookup.to);
            // A change of `by` is watched, so that the layout of the parent has reported it already.
            if !out.iter().any(|p| p.code == codes::NO_COLUMN && p.message.contains(&format!("`{by}`"))) {
                out.push(error(codes::NO_COLUMN, message).did_you_mean(near));
            }
            continue;
        }
        let (Some(key), Some(follow)) = (parent.type_of(by), child.type_of(&lookup.follow)) else { continue };
        // Only parsed, never run: the parser knows whether the two types can be compared. The tables are not named,
        // because whoever checks needs no right on their schemas; where one of the types is out of reach, too, the
        // migration's owner finds out.
        let join = format!("SELECT NULL::{key} = NULL::{follow}");
        match client.prepare(&join).await {
            Ok(_) => {}
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(e) if e.as_db_error().is_some() => {
                let message = format!("{place}: `{}` cannot be joined to `{by}`: {}", lookup.follow, describe(&e));
                out.push(error(codes::LOOKUP_KEY, message));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
