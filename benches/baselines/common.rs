//! The common design: a row trigger notifies, and a daemon works off one event after the other: DEL where the key is
//! known, SCAN … MATCH and DEL where it is a pattern.

use serde_json::Value;

pub(super) async fn run(postgres: &str, redis: &str, way: &str, template: &str) {
    let (_client, mut heard) = super::listen(postgres, "changes").await;
    let mut redis = super::connect(redis).await;
    while let Some(notification) = heard.recv().await {
        let Ok(Value::Object(event)) = serde_json::from_str(notification.payload()) else { continue };
        let mut key = template.to_owned();
        for (column, value) in &event {
            key = key.replace(&format!("{{{column}}}"), value.to_string().trim_matches('"'));
        }
        if way == "del" {
            redis::cmd("DEL").arg(&key).query_async::<()>(&mut redis).await.expect("Redis");
            continue;
        }
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&key).arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<String>) = scan.query_async(&mut redis).await.expect("Redis");
            for key in found {
                redis::cmd("DEL").arg(key).query_async::<()>(&mut redis).await.expect("Redis");
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
}
