//! The application of the demo: the dashboard of an AI call-agent service, the reference recipe.
//!
//! It caches the way most applications do: look into Redis, and on a miss ask PostgreSQL and store the answer, blindly.

use crate::sink::connect::describe as redis_words;
use crate::source::connect::{Connected, describe as postgres_words};
use rand::Rng as _;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

use super::Failure;

const USERS: i64 = 40;
const AGENTS: i64 = 20;

/// The tables of the recipe, from the recipe itself.
pub(super) const SCHEMA: &str = include_str!("../../../tests/recipes/calls/schema.sql");

/// Rows to begin with.
pub(super) const ROWS: &str = "
INSERT INTO users (id, email, credits) SELECT n, 'user' || n || '@example.org', 100 FROM generate_series(1, 40) n;
INSERT INTO agents SELECT n, 1 + n % 40, 'Agent ' || n, 'alto' FROM generate_series(1, 20) n;
INSERT INTO calls (user_id, agent_id, status) SELECT 1 + n % 40, 1 + n % 20, 'done' FROM generate_series(1, 2000) n;
INSERT INTO lead_analytics (call_id, score) SELECT id, id % 100 FROM calls;
INSERT INTO agent_analytics (agent_id, calls) SELECT n, 0 FROM generate_series(1, 20) n;
";

/// Every key the application can ask for, without prefix.
pub(super) fn keys() -> Vec<String> {
    let users = (1..=USERS).flat_map(|u| {
        [
            format!("user_dashboard:{u}"),
            format!("lead_analytics:{u}"),
            format!("agent_list:{u}"),
            format!("user_credits:{u}:balance"),
        ]
    });
    let agents = (1..=AGENTS).flat_map(|a| {
        [format!("agent_performance:{a}:calls"), format!("agent_performance:{a}:days"), format!("agent:{a}:profile")]
    });
    users.chain(agents).collect()
}

/// The statement that computes what a key should hold, and its id; None for a key of somebody else.
fn question(key: &str) -> Option<(&'static str, i64)> {
    let mut parts = key.splitn(3, ':');
    let (cache, id, rest) = (parts.next()?, parts.next()?.parse().ok()?, parts.next().unwrap_or_default());
    let sql = match (cache, rest) {
        ("user_dashboard", "") => {
            "SELECT count(*) || ' calls, ' || coalesce(sum(duration_seconds), 0) || ' s, ' || coalesce(sum(cost_cents), 0) \
             || ' cents, ' || count(*) FILTER (WHERE status = 'done') || ' done' FROM calls WHERE user_id = $1"
        }
        ("lead_analytics", "") => {
            "SELECT count(*) || ' leads, score ' || coalesce(sum(score), 0) \
             FROM lead_analytics l JOIN calls c ON c.id = l.call_id WHERE c.user_id = $1"
        }
        ("agent_list", "") => "SELECT coalesce(string_agg(name, ', ' ORDER BY id), '') FROM agents WHERE user_id = $1",
        ("user_credits", "balance") => "SELECT credits || ' credits, ' || plan FROM users WHERE id = $1",
        ("agent_performance", "calls") => {
            "SELECT count(*) || ' calls, ' || coalesce(sum(duration_seconds), 0) || ' s' FROM calls WHERE agent_id = $1"
        }
        ("agent_performance", "days") => {
            "SELECT coalesce(sum(calls), 0) || ' calls counted' FROM agent_analytics WHERE agent_id = $1"
        }
        ("agent", "profile") => "SELECT name || ', ' || coalesce(voice, '') FROM agents WHERE id = $1",
        _ => return None,
    };
    Some((sql, id))
}

/// One connection pair of the application.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) postgres: Connected,
    pub(super) redis: MultiplexedConnection,
    pub(super) prefix: String,
}

impl Shop {
    /// What PostgreSQL says a key should hold.
    pub(super) async fn truth(&self, key: &str) -> Result<Option<String>, Failure> {
        let Some((sql, id)) = question(key) else { return Ok(None) };
        let row = self.postgres.client.query_opt(sql, &[&id]).await.map_err(|e| failed(&e))?;
        Ok(row.and_then(|r| r.get(0)))
    }

    /// A request: true when the cache had the answer.
    pub(super) async fn read(&mut self, key: &str) -> Result<bool, Failure> {
        let full = format!("{}{key}", self.prefix);
        if self.redis.get::<_, Option<String>>(&full).await.map_err(|e| lost(&e))?.is_some() {
            return Ok(true);
        }
        if let Some(value) = self.truth(key).await? {
            // The recipe's longest TTL; no key outlives the demo anyway.
            self.redis.set_ex::<_, _, ()>(&full, value, 900).await.map_err(|e| lost(&e))?;
        }
        Ok(false)
    }

    /// The cached value, for the proof.
    pub(super) async fn cached(&mut self, key: &str) -> Result<Option<String>, Failure> {
        self.redis.get(format!("{}{key}", self.prefix)).await.map_err(|e| lost(&e))
    }

    /// Statements of the application; that they fail would be news.
    pub(super) async fn sql(&self, sql: &str) -> Result<(), Failure> {
        self.postgres.client.batch_execute(sql).await.map_err(|e| failed(&e))
    }

    /// One of the changes that such a service makes all day.
    pub(super) async fn change(&self) -> Result<(), Failure> {
        let (what, user, agent, n) = {
            let mut rng = rand::rng();
            (
                rng.random_range(0..9),
                rng.random_range(1..=USERS),
                rng.random_range(1..=AGENTS),
                rng.random_range(1..300),
            )
        };
        let sql = match what {
            0 => format!("INSERT INTO calls (user_id, agent_id) VALUES ({user}, {agent})"),
            1 => format!(
                "UPDATE calls SET status = 'done', duration_seconds = {n}, cost_cents = {n} / 7 WHERE id = (SELECT max(id) FROM calls)"
            ),
            2 => "DELETE FROM calls WHERE id = (SELECT min(id) FROM calls)".to_owned(),
            3 => format!("INSERT INTO lead_analytics (call_id, score) SELECT max(id), {n} FROM calls"),
            4 => format!("UPDATE users SET credits = credits - 1 WHERE id = {user}"),
            5 => format!("UPDATE users SET last_seen_at = now() WHERE id = {user}"),
            6 => format!("UPDATE agents SET user_id = {user} WHERE id = {agent}"),
            7 => format!("UPDATE agent_analytics SET calls = calls + 1 WHERE agent_id = {agent}"),
            _ => format!("BEGIN; UPDATE users SET credits = 0 WHERE id = {user}; ROLLBACK"),
        };
        self.sql(&sql).await
    }
}

fn failed(e: &tokio_postgres::Error) -> Failure {
    Failure::Broken(format!("a statement of the application failed: {}", postgres_words(e)))
}

fn lost(e: &redis::RedisError) -> Failure {
    Failure::Broken(format!("Redis failed the application: {}", redis_words(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_question_and_foreign_keys_have_none() {
        for key in keys() {
            assert!(question(&key).is_some(), "{key}");
        }
        for key in ["session:7", "user_dashboard:x", "user_dashboard", "agent:1:other"] {
            assert!(question(key).is_none(), "{key}");
        }
    }
}
