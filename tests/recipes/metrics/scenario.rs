//! metrics: every row of the recipe's table.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
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

/// The client's figures have a key for each of many arguments, so the application is the one to fill them; the overview is one query.
#[test]
fn after_a_successful_run_the_overview_is_warmed_at_once() {
    let config = include_str!("config.toml").replace("# warm.", "warm.");
    assert!(config.contains("\nwarm.sql"));
    let w = World::running(&Setup { config: &config, schema: include_str!("schema.sql"), ..Setup::default() });
    w.sql("INSERT INTO clients SELECT n, 'client ' || n FROM generate_series(1, 20) n");
    w.sql("INSERT INTO sync_runs (id, client_id) VALUES (1, 3)");
    w.wait_position();
    w.drain();
    let _: () = w.redis().set("admin:overview", "cached").unwrap();
    w.sql("UPDATE sync_runs SET status = 'succeeded', finished_at = now() WHERE client_id = 3");
    w.wait_keys("the overview to be back", |redis| {
        redis
            .get::<_, Option<String>>("admin:overview")
            .is_ok_and(|v| v.as_deref() == Some(r#"{"clients":20,"executions":0}"#))
    });
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
