//! `pgevict sql`: print, apply or compare what is installed in the database.

use super::client::block_on;
use super::{Common, Output, exit::Exit, load, out};
use crate::config::model::{Config, Delivery, PgUrl};
use crate::config::{self, Environment};
use crate::rules::capture::{self, Settings, Step};
use crate::rules::layout::layouts;
use crate::source::catalog::{self, Drift};
use crate::source::connect::{Connected, connect_patiently, describe};
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How often a statement is tried whose lock somebody else holds; each try waits 2 s for it.
const LOCK_TRIES: u32 = 5;

/// Between two tries, so that those who queued behind us get their turn.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `pgevict sql`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Connect with this URL, such as that of the tables' owner; postgres.url still says whom the daemon is
    #[arg(long = "as", global = true, value_name = "URL")]
    owner: Option<String>,
}

/// What to do with the SQL.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Action {
    /// Print the migration that installs everything; safe to run again
    Up,
    /// Print the migration that removes everything
    Down,
    /// Install what is missing or differs
    Apply {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show how the database differs from what the configuration wants; exit 1 if it does
    Diff,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let config = match load::load(common) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let output = common.output;
    let url = match args.owner.map(|text| config::connection(&text, &Environment::from_process())) {
        None => config.postgres.url.clone(),
        Some(Ok(url)) => url,
        Some(Err(why)) => {
            eprintln!("error: --as: {why}");
            return Exit::Usage;
        }
    };
    block_on(async move {
        let result = match args.action {
            Action::Up => up(&config, &url, output).await,
            Action::Down => Ok(print(&capture::down(&Settings::of(&config)), "removes everything", output)),
            Action::Apply { yes } => apply(&config, &url, yes, output).await,
            Action::Diff => diff(&config, &url, output).await,
        };
        result.unwrap_or_else(|exit| exit)
    })
}

async fn up(config: &Config, url: &PgUrl, output: Output) -> Result<Exit, Exit> {
    let layouts = layouts(config);
    let facts = match connect_patiently(url).await {
        Ok(connected) => {
            prepare(&connected.client).await?;
            catalog::facts(&connected.client, capture::tables(&layouts)).await.map_err(|e| lost(&e))?
        }
        Err(e) if capture::needs_catalog(&layouts) => {
            eprintln!("error: {e}");
            eprintln!("  help: a lookup without `by` goes by its parent's primary key, which only the database knows");
            return Err(Exit::Unreachable);
        }
        Err(e) => {
            eprintln!("note: {e}");
            eprintln!("note: printed without looking at the tables; virtual generated columns would be missed");
            capture::Facts::default()
        }
    };
    let steps = steps(config, &facts)?;
    Ok(print(&steps, "installs or mends everything; safe to run again", output))
}

fn steps(config: &Config, facts: &capture::Facts) -> Result<Vec<Step>, Exit> {
    capture::up(&layouts(config), &Settings::of(config), facts).map_err(|e| {
        eprintln!("error: {e}");
        Exit::No
    })
}

fn print(steps: &[Step], what: &str, output: Output) -> Exit {
    match output {
        Output::Text => out::text(&capture::script(steps, what)),
        Output::Json => {
            let statements: Vec<_> = steps.iter().map(|s| json!({ "title": s.title, "sql": s.sql })).collect();
            out::text(&json!({ "statements": statements }).to_string());
        }
    }
    Exit::Done
}

async fn diff(config: &Config, url: &PgUrl, output: Output) -> Result<Exit, Exit> {
    let connected = reach(url).await?;
    let drift = drift(&connected.client, config).await?;
    match output {
        Output::Text if drift.is_empty() => {
            out::text("no drift: the database has everything, as the configuration wants it")
        }
        Output::Text => out::text(&lines(&drift)),
        Output::Json => out::text(&json!({ "drift": as_json(&drift) }).to_string()),
    }
    if drift.is_empty() { Ok(Exit::Done) } else { Ok(Exit::No) }
}

async fn apply(config: &Config, url: &PgUrl, yes: bool, output: Output) -> Result<Exit, Exit> {
    let connected = reach(url).await?;
    let client = &connected.client;
    refuse_publications(client, config).await?;
    let drift = drift(client, config).await?;
    let facts = catalog::facts(client, capture::tables(&layouts(config))).await.map_err(|e| lost(&e))?;
    let steps = steps(config, &facts)?;
    let mut applied = Vec::new();
    if !drift.is_empty() || yes {
        if !drift.is_empty() {
            eprint!("{}", lines(&drift));
        }
        if !yes && !confirmed(&connected) {
            return Ok(Exit::Refused);
        }
        for step in &steps {
            execute(client, step).await?;
            applied.push(step.title.clone());
        }
    }
    match output {
        Output::Text if drift.is_empty() => out::text("nothing to do: the database has everything"),
        Output::Text => out::text(&format!("done: {} differences mended", drift.len())),
        Output::Json => out::text(&json!({ "applied": applied, "drift": as_json(&drift) }).to_string()),
    }
    Ok(Exit::Done)
}

fn confirmed(connected: &Connected) -> bool {
    if !std::io::stdin().is_terminal() {
        eprintln!("error: refused: nobody to ask, because stdin is no terminal\n  help: --yes applies without asking");
        return false;
    }
    eprint!("Mend this at {}:{}? [y/N] ", connected.host.host, connected.host.port);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let agreed = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        eprintln!("refused: nothing was changed");
    }
    agreed
}

/// Every step is one transaction; a lock that somebody holds is waited for a few times and never queued for long,
/// because every writer of the table would queue behind us.
async fn execute(client: &Client, step: &Step) -> Result<(), Exit> {
    for attempt in 1.. {
        let Err(e) = client.batch_execute(&step.sql).await else { return Ok(()) };
        if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && attempt < LOCK_TRIES {
            eprintln!("note: {}: another session holds a lock, try {attempt} of {LOCK_TRIES}", step.title);
            tokio::time::sleep(LOCK_PAUSE).await;
            continue;
        }
        if e.as_db_error().is_none() {
            return Err(lost(&e));
        }
        eprintln!("error: {}: {}", step.title, describe(&e));
        if let Some(hint) = e.as_db_error().and_then(|d| d.hint()) {
            eprintln!("  help: {hint}");
        }
        if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            eprintln!(
                "  help: apply as the owner of the tables: pgevict sql apply --as postgresql://OWNER@…, \
                 or pipe `pgevict sql up` into your migration tool"
            );
        }
        return Err(Exit::No);
    }
    Ok(())
}

/// A publication FOR ALL TABLES would send the journal to its subscribers, where it means nothing, and a subscriber
/// without the table would stop.
async fn refuse_publications(client: &Client, config: &Config) -> Result<(), Exit> {
    if config.postgres.delivery == Delivery::Notify {
        return Ok(());
    }
    let sql = "SELECT pubname FROM pg_publication WHERE puballtables ORDER BY 1";
    let rows = client.query(sql, &[]).await.map_err(|e| lost(&e))?;
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    eprintln!("error: refused: the publication {} is FOR ALL TABLES and would replicate the journal", names.join(", "));
    eprintln!(
        "  help: publish by name or schema instead: CREATE PUBLICATION … FOR TABLES IN SCHEMA public (PostgreSQL 15), or FOR TABLE …"
    );
    Err(Exit::Refused)
}

async fn reach(url: &PgUrl) -> Result<Connected, Exit> {
    let connected = connect_patiently(url).await.map_err(|e| {
        eprintln!("error: {e}");
        Exit::Unreachable
    })?;
    prepare(&connected.client).await?;
    Ok(connected)
}

/// Expressions of the catalog come qualified only under this path; and no statement may hang for ever.
async fn prepare(client: &Client) -> Result<(), Exit> {
    let sql = "SET search_path = pg_catalog; SET statement_timeout = '60s'";
    client.batch_execute(sql).await.map_err(|e| lost(&e))
}

async fn drift(client: &Client, config: &Config) -> Result<Vec<Drift>, Exit> {
    catalog::drift(client, config).await.map_err(|e| lost(&e))
}

fn lost(e: &tokio_postgres::Error) -> Exit {
    eprintln!("error: PostgreSQL: {}", describe(e));
    if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        eprintln!(
            "  help: the migration grants the role of postgres.url what it reads, where that role exists: apply it again \
             as its owner; --as URL connects as somebody else"
        );
    }
    if e.as_db_error().is_some() { Exit::No } else { Exit::Unreachable }
}

fn lines(drift: &[Drift]) -> String {
    drift.iter().map(|d| format!("{} {}\n", d.object, d.what)).collect()
}

fn as_json(drift: &[Drift]) -> Vec<serde_json::Value> {
    drift.iter().map(|d| json!({ "object": d.object, "what": d.what })).collect()
}
