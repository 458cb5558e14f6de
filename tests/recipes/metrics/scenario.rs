//! metrics: every row of the recipe's table.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
use crate::warm_http::{App, redis_of};
use redis::Commands as _;

fn world(delivery: Delivery) -> World {
    let w = World::running(&Setup {
        delivery,
        config: include_str!("config.toml"),
        schema: include_str!("schema.sql"),
        ..Setup::default()
    });
    w.sql("INSERT INTO clients SELECT n, 'client ' || n FROM generate_series(1, 20) n");
    w.sql("INSERT INTO sync_runs (id, client_id) VALUES (1, 3), (2, 4)");
    w.drain();
    w.fill(&["admin:overview", "metrics:3:daily", "metrics:3:by:workflow", "metrics:4:daily", "metrics:33:daily"]);
    w
}

/// The recipe with what it says about warming, and an application that fills the clients' figures.
fn warming() -> (World, App) {
    let w = World::new(&Setup { schema: include_str!("schema.sql"), ..Setup::default() });
    let app = App::start(redis_of(&w), 1, None);
    let config = include_str!("config.toml").replace("# warm.", "warm.");
    assert_eq!(config.matches("\nwarm.").count(), 3);
    w.write_config(&config.replace("localhost:8000/internal/metrics/", &format!("127.0.0.1:{}/ok/", app.port)));
    w.sql("INSERT INTO clients SELECT n, 'client ' || n FROM generate_series(1, 20) n");
    w.sql("INSERT INTO sync_runs (id, client_id) VALUES (1, 3), (2, 4)");
    w.apply();
    w.start();
    w.wait_position();
    w.drain();
    let _: () = w.redis().mset(&[("admin:overview", "cached"), ("metrics:3:daily", "cached")]).unwrap();
    (w, app)
}

#[test]
fn after_a_successful_run_the_clients_figures_and_then_the_overview_are_warmed_at_once() {
    let (w, app) = warming();
    let mark = w.mark();
    w.sql("UPDATE sync_runs SET status = 'succeeded', finished_at = now() WHERE client_id = 3");
    w.wait_line(mark, &["warm metrics:3:*: asked"]);
    w.wait_line(mark, &["warm admin:overview: stored"]);
    assert_eq!(w.redis().get::<_, String>("admin:overview").unwrap(), r#"{"clients":20,"executions":0}"#);
    let asked: Vec<String> = app.asked().into_iter().map(|a| a.line).collect();
    assert_eq!(asked, ["POST /ok/3 HTTP/1.1"]);
    let lines = w.daemon(|d| d.log().since(mark));
    let at = |part: &str| lines.iter().position(|l| l.contains(part)).unwrap();
    assert!(at("warm metrics:3:*") < at("warm admin:overview"), "{lines:#?}");
}

#[test]
fn after_a_failed_run_nothing_is_warmed() {
    let (w, app) = warming();
    let mark = w.mark();
    w.sql("UPDATE sync_runs SET status = 'failed', finished_at = now() WHERE client_id = 4");
    w.drain();
    // What comes behind it is warmed, so that this one would have been by now.
    w.sql("UPDATE sync_runs SET status = 'succeeded', finished_at = now() WHERE client_id = 3");
    w.wait_line(mark, &["warm admin:overview: stored"]);
    assert_eq!(app.asked().len(), 1);
}

over_both_deliveries! {
    a_successful_run_evicts_the_client_and_the_overview
    a_failed_run_evicts_nothing
    a_bulk_load_is_one_change_and_one_eviction_per_client
}

fn a_successful_run_evicts_the_client_and_the_overview(delivery: Delivery) {
    let w = world(delivery);
    let gone = ["metrics:3:daily", "metrics:3:by:workflow", "admin:overview"];
    w.check("UPDATE sync_runs SET status = 'succeeded', finished_at = now() WHERE client_id = 3", &gone);
    w.check("UPDATE sync_runs SET finished_at = now() WHERE client_id = 3", &[]);
    w.check("INSERT INTO sync_runs (id, client_id, status) VALUES (9, 3, 'succeeded')", &gone);
}

fn a_failed_run_evicts_nothing(delivery: Delivery) {
    let w = world(delivery);
    w.check("UPDATE sync_runs SET status = 'failed', finished_at = now() WHERE client_id = 4", &[]);
    w.check("INSERT INTO sync_runs (id, client_id, status) VALUES (8, 4, 'running'), (9, 4, 'failed')", &[]);
}

fn a_bulk_load_is_one_change_and_one_eviction_per_client(delivery: Delivery) {
    let w = world(delivery);
    let keys: Vec<String> = (1..=20).map(|n| format!("metrics:{n}:daily")).collect();
    w.fill(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let gone: Vec<&str> = keys.iter().map(String::as_str).chain(["metrics:3:by:workflow"]).collect();
    let mark = w.mark();
    w.check(
        "INSERT INTO executions (client_id, workflow, succeeded, duration_ms)
           SELECT 1 + n % 20, 'w', n % 7 > 0, n % 1000 FROM generate_series(1, 100000) n",
        &gone,
    );
    w.wait_line(mark, &["executions", "insert"]);
    let lines = w.daemon(|d| d.log().since(mark));
    let of_executions = lines.iter().filter(|l| l.contains("executions") && l.contains("insert")).count();
    assert_eq!(of_executions, 1, "{lines:#?}");
    if delivery == Delivery::Journal {
        let written = w.sql(
            "SELECT count(*), sum(octet_length(tuples::text)) < 4096 FROM pgevict.journal WHERE tbl = 'executions'",
        );
        assert_eq!(written, [[Some("1".to_owned()), Some("t".to_owned())]]);
    }
}
