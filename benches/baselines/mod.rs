//! What pgevict is compared with, each a real program in a process of its own. The Rust ones are this program, started again.

mod common;
mod durable;
mod floor;
mod peer;

pub(crate) use durable::TRIGGER as DURABLE_TRIGGER;
pub(crate) use floor::TRIGGER as FLOOR_TRIGGER;
pub(crate) use peer::Peer;

use nix::sys::signal::Signal;
use pgevict::cli::demo::process::Process;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

/// The trigger of the common design, as tutorials have it: one notification a row, which says what happened to which row.
pub(crate) fn row_trigger(table: &str, columns: &[&str]) -> String {
    let fields: Vec<String> = columns.iter().map(|c| format!("'{c}', NEW.{c}")).collect();
    format!(
        "CREATE FUNCTION notify_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM pg_notify('changes', json_build_object('table', TG_TABLE_NAME, 'op', TG_OP, {})::text);
           RETURN NEW;
         END $$;
         CREATE TRIGGER notify AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION notify_{table}()",
        fields.join(", ")
    )
}

/// A baseline's program, ended when dropped.
pub(crate) struct Baseline(#[expect(dead_code, reason = "held for its Drop")] Process);

impl Baseline {
    /// Starts one of the Rust ones and waits until it listens.
    pub(crate) fn start(name: &str, words: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["baseline", name]).args(words);
        Self::spawn(name, command)
    }

    fn spawn(name: &str, command: Command) -> Self {
        let process = Process::spawn(name, command, Signal::SIGKILL, None).expect("the baseline starts");
        let heard = process.log().wait_for(0, Duration::from_secs(20), |l| l == "listening");
        assert!(heard.is_ok(), "{name} does not listen\n{}", process.log().tail(20));
        Self(process)
    }
}

pub(crate) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match words.as_slice() {
        ["floor", postgres, redis] => runtime.block_on(floor::run(postgres, redis)),
        ["durable", postgres, redis, name, way] => {
            runtime.block_on(durable::run(postgres, redis, name, *way == "script"));
        }
        ["common", postgres, redis, way, template] => runtime.block_on(common::run(postgres, redis, way, template)),
        _ => {
            eprintln!(
                "baseline floor PG REDIS | baseline durable PG REDIS NAME page|script | baseline common PG REDIS del|scan TEMPLATE"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Listens, says so, and hands over the client (which must live) and what is heard.
async fn listen(url: &str, channel: &str) -> (Client, tokio::sync::mpsc::UnboundedReceiver<Notification>) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL");
    let (sender, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        // Only poll_message yields notifications.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification);
            }
        }
    });
    client.batch_execute(&format!("LISTEN {channel}")).await.expect("LISTEN");
    println!("listening");
    (client, heard)
}

async fn connect(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).expect("a Redis URL");
    client.get_multiplexed_async_connection().await.expect("Redis")
}
