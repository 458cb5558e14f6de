//! The floor with what durability needs, step by step: a change that nobody hears of must not be lost, so the ring carries nothing, and
//! the change is read from a journal; a delete that Redis forgets must be repeated, so it goes in the script that moves the position.

use redis::Script;
use tokio_postgres::types::Type;

/// The trigger that writes a journal row and rings.
pub(crate) const TRIGGER: &str = "
     CREATE TABLE journal (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq bigint GENERATED ALWAYS AS IDENTITY, id int NOT NULL, PRIMARY KEY (xid, seq));
     CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       INSERT INTO journal (id) VALUES (NEW.id);
       PERFORM pg_notify('durable', '');
       RETURN NULL;
     END $$;
     CREATE TRIGGER ring AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION ring()";

/// The least that pages can be: nothing of what makes them right while others write.
const PAGE: &str = "SELECT id, pg_current_snapshot()::text FROM journal WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) ORDER BY xid, seq";

/// `script`: whether the key goes in pgevict's own script, or by UNLINK.
pub(super) async fn run(postgres: &str, redis: &str, name: &str, script: bool) {
    let (client, mut heard) = super::listen(postgres, "durable").await;
    let page = client.prepare_typed(PAGE, &[Type::TEXT]).await.expect("a statement");
    let mut seen: String = client.query_one("SELECT pg_current_snapshot()::text", &[]).await.expect("a row").get(0);
    let mut redis = super::connect(redis).await;
    let apply = Script::new(include_str!("../../src/sink/apply.lua"));
    let state = ["position", "nothing", "alive"].map(|field| format!("{{{name}}}:{field}"));
    let (mut written, mut step) = (String::new(), 0_u64);
    while heard.recv().await.is_some() {
        let rows = client.query(&page, &[&seen]).await.expect("a page");
        let keys: Vec<String> = rows.iter().map(|row| format!("{name}:{}", row.get::<_, i32>(0))).collect();
        let Some(row) = rows.first() else { continue };
        seen = row.get(1);
        if !script {
            redis::cmd("UNLINK").arg(&keys).query_async::<()>(&mut redis).await.expect("Redis");
            continue;
        }
        step += 1;
        // As long as a position of pgevict's.
        let next = format!("{seen} {step:0>200}");
        let mut call = apply.prepare_invoke();
        for key in state.iter().chain(&keys) {
            call.key(key);
        }
        // As most of pgevict's calls: its word that it is alive is a second old at most.
        call.arg(&written).arg(&next).arg("-").arg(0).arg("");
        let _: redis::Value = call.invoke_async(&mut redis).await.expect("Redis");
        written = next;
    }
}
