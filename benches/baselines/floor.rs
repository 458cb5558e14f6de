//! The floor: as little as a daemon can do. The notification is the key; it goes, and nothing is promised.

/// The trigger that rings with the key.
pub(crate) const TRIGGER: &str = "CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       PERFORM pg_notify('floor', 'floor:' || NEW.id);
       RETURN NULL;
     END $$;
     CREATE TRIGGER ring AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION ring()";

pub(super) async fn run(postgres: &str, redis: &str) {
    let (_client, mut heard) = super::listen(postgres, "floor").await;
    let mut redis = super::connect(redis).await;
    while let Some(notification) = heard.recv().await {
        redis::cmd("UNLINK").arg(notification.payload()).query_async::<()>(&mut redis).await.expect("Redis");
    }
}
