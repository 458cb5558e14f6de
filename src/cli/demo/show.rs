//! The acts: changes one by one, changes under load, a crash, and the proof.

use super::Failure;
use super::screen::{Screen, Tone};
use super::shop::{self, Shop};
use super::stage::{Stage, all_keys};
use crate::cli::client;
use rand::Rng as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long one eviction may take before the show is broken off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that change rows, and connections that read and fill.
const WRITERS: u32 = 4;
const READERS: u32 = 4;
/// Between two changes of one writer and two requests of one reader: some hundred changes and a thousand requests a
/// second, which leaves a small machine time to show them.
const WRITE_EVERY: Duration = Duration::from_millis(15);
const READ_EVERY: Duration = Duration::from_millis(4);
/// How long the readers go on when all is delivered.
const REFILL: Duration = Duration::from_millis(700);
/// Changes while the daemon is dead.
const CHANGES_WHILE_DEAD: u32 = 100;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Figures {
    changes: u64,
    statements: u64,
    deleted: u64,
    absent: u64,
    reads: u64,
    hits: u64,
    /// Of the statements before the crash: what waited for a dead daemon says nothing about a living one.
    lag_ms: Vec<f64>,
    crashed: bool,
    caught_up_ms: f64,
    compared: usize,
    /// Keys whose value is not what the database says. Empty, or pgevict has failed.
    pub(super) stale: Vec<String>,
    seconds: f64,
}

impl Figures {
    /// For `-o json`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "changes": self.changes,
            "statements": self.statements,
            "deleted": self.deleted,
            "absent": self.absent,
            "reads": self.reads,
            "hits": self.hits,
            "lag_ms": { "p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": self.quantile(1.0) },
            "caught_up_ms": self.caught_up_ms,
            "compared": self.compared,
            "stale": self.stale,
            "seconds": self.seconds,
        })
    }

    /// Nearest rank; None without a statement.
    fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.lag_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }

    fn count(&mut self, event: &Value) {
        if event["event"] != "evict" {
            return;
        }
        // Second deletes have no lag: they are late by design.
        let Some(lag) = event["lag_ms"].as_f64() else { return };
        self.statements += 1;
        if !self.crashed {
            self.lag_ms.push(lag);
        }
        self.deleted += event["deleted"].as_u64().unwrap_or(0);
        self.absent += event["absent"].as_u64().unwrap_or(0);
    }
}

/// The daemon's stream of evictions.
struct Events(mpsc::UnboundedReceiver<Value>);

impl Events {
    async fn of(stage: &Stage) -> Result<Self, Failure> {
        let mut stream = client::stream(&stage.socket(), "/tail")
            .await
            .map_err(|_| Failure::Broken("the daemon's stream of evictions cannot be opened".into()))?;
        let (sender, receiver) = mpsc::unbounded_channel();
        // Ends with the stream or with its reader. The demo makes some thousand events at most.
        tokio::spawn(async move {
            while let Ok(line) = stream.line().await {
                let event = serde_json::from_str(&line).unwrap_or(Value::Null);
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The next event that `wanted` accepts; all that come by are counted.
    async fn next(&mut self, figures: &mut Figures, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let found = async {
            while let Some(event) = self.0.recv().await {
                figures.count(&event);
                if wanted(&event) {
                    return Ok(event);
                }
            }
            Err(Failure::Broken("the daemon has ended its stream of evictions".into()))
        };
        let late = || Failure::Broken(format!("an eviction did not come within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| Err(late()))
    }

    fn drain(&mut self, figures: &mut Figures) {
        while let Ok(event) = self.0.try_recv() {
            figures.count(&event);
        }
    }
}

fn is(event: &Value, table: &str, op: &str) -> bool {
    event["event"] == "evict" && event["table"] == table && event["op"] == op && !event["lag_ms"].is_null()
}

/// Plays all acts.
pub(super) async fn play(stage: &mut Stage, screen: &Screen, seconds: u64) -> Result<Figures, Failure> {
    let begun = Instant::now();
    let mut figures = Figures::default();
    let mut shop = stage.shop().await?;
    let mut events = Events::of(stage).await?;
    one_by_one(&mut shop, &mut events, screen, &mut figures).await?;
    let crowd = Crowd::gather(stage).await?;
    under_load(&mut events, screen, &mut figures, &crowd, seconds).await?;
    events.drain(&mut figures);
    let mut events = crash(stage, &mut shop, screen, &mut figures).await?;
    settle(&shop, &mut events, &mut figures).await?;
    // What the second deletes took is asked for again; what is stale would stay.
    tokio::time::sleep(REFILL).await;
    crowd.dismiss(&mut figures).await?;
    prove(&mut shop, screen, &mut figures).await?;
    figures.seconds = begun.elapsed().as_secs_f64();
    summary(screen, &figures);
    Ok(figures)
}

/// A change that is told: what happens, the statement, and the event to wait for (None: nothing may go).
struct Step(&'static str, &'static str, Option<(&'static str, &'static str)>);

const STEPS: [Step; 8] = [
    Step("User 7 calls agent 3.", "INSERT INTO calls (user_id, agent_id) VALUES (7, 3)", Some(("calls", "insert"))),
    Step(
        "The call ends.",
        "UPDATE calls SET status = 'done', duration_seconds = 184, cost_cents = 37 WHERE id = (SELECT max(id) FROM calls)",
        Some(("calls", "update")),
    ),
    Step(
        "The lead is scored. The row knows only the call; the user is found through it.",
        "INSERT INTO lead_analytics (call_id, score) SELECT max(id), 87 FROM calls",
        Some(("lead_analytics", "insert")),
    ),
    Step("User 7 is seen. No cache shows that.", "UPDATE users SET last_seen_at = now() WHERE id = 7", None),
    Step("User 7 buys credits.", "UPDATE users SET credits = credits + 500 WHERE id = 7", Some(("users", "update"))),
    Step(
        "Agent 3 moves to user 8: the old owner's list goes, and the new one's.",
        "UPDATE agents SET user_id = 8 WHERE id = 3",
        Some(("agents", "update")),
    ),
    Step("A mistake, rolled back in time.", "BEGIN; DELETE FROM calls; ROLLBACK", None),
    Step(
        "The analytics are emptied. Every key they can have fed goes.",
        "TRUNCATE agent_analytics",
        Some(("agent_analytics", "truncate")),
    ),
];

async fn one_by_one(
    shop: &mut Shop,
    events: &mut Events,
    screen: &Screen,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let keys = shop::keys();
    screen.act("1. One change at a time", &format!("{} keys are cached; watch which go", keys.len()));
    let mut silent: Vec<&Step> = Vec::new();
    for step in &STEPS {
        for key in &keys {
            shop.read(key).await?;
        }
        let Step(story, sql, expected) = step;
        shop.sql(sql).await?;
        figures.changes += 1;
        let Some((table, op)) = expected else {
            silent.push(step);
            continue;
        };
        // Changes arrive in the order of their commits: what the silent ones evicted would come before this one.
        let before = figures.statements;
        let event = events.next(figures, |e| is(e, table, op)).await?;
        let unexpected = figures.statements - before - 1;
        for Step(story, sql, _) in silent.drain(..) {
            if unexpected > 0 {
                return Err(Failure::Broken(format!("a change that shows in no cache evicted something: {sql}")));
            }
            screen.change(story, sql, None);
            screen.pause().await;
        }
        screen.change(story, sql, Some(&event));
        screen.pause().await;
    }
    Ok(())
}

/// Writers and readers that run beside the show.
struct Crowd {
    writers: CancellationToken,
    readers: CancellationToken,
    tasks: TaskTracker,
    counts: Arc<Counts>,
    failures: mpsc::UnboundedReceiver<Failure>,
}

#[derive(Default)]
struct Counts {
    changes: AtomicU64,
    reads: AtomicU64,
    hits: AtomicU64,
}

impl Crowd {
    async fn gather(stage: &Stage) -> Result<Self, Failure> {
        let (writers, readers) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, counts) = (TaskTracker::new(), Arc::new(Counts::default()));
        let (sender, failures) = mpsc::unbounded_channel();
        for n in 0..WRITERS + READERS {
            let (mut shop, counts, sender) = (stage.shop().await?, Arc::clone(&counts), sender.clone());
            let (stop, writes) = if n < WRITERS { (writers.clone(), true) } else { (readers.clone(), false) };
            tasks.spawn(async move {
                let mut pace = tokio::time::interval(if writes { WRITE_EVERY } else { READ_EVERY });
                let keys = shop::keys();
                while stop.run_until_cancelled(pace.tick()).await.is_some() {
                    let done = if writes {
                        shop.change().await.map(|()| {
                            counts.changes.fetch_add(1, Ordering::Relaxed);
                        })
                    } else {
                        let key = &keys[rand::rng().random_range(0..keys.len())];
                        shop.read(key).await.map(|hit| {
                            counts.reads.fetch_add(1, Ordering::Relaxed);
                            counts.hits.fetch_add(u64::from(hit), Ordering::Relaxed);
                        })
                    };
                    if let Err(failure) = done {
                        let _ = sender.send(failure);
                        return;
                    }
                }
            });
        }
        tasks.close();
        Ok(Self { writers, readers, tasks, counts, failures })
    }

    /// Ends all of it; a statement that failed in between is the show's failure.
    async fn dismiss(mut self, figures: &mut Figures) -> Result<(), Failure> {
        self.writers.cancel();
        self.readers.cancel();
        self.tasks.wait().await;
        figures.changes += self.counts.changes.load(Ordering::Relaxed);
        figures.reads = self.counts.reads.load(Ordering::Relaxed);
        figures.hits = self.counts.hits.load(Ordering::Relaxed);
        self.failures.try_recv().map_or(Ok(()), Err)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // An interrupted show leaves nobody behind who complains about servers that end.
        self.writers.cancel();
        self.readers.cancel();
    }
}

async fn under_load(
    events: &mut Events,
    screen: &Screen,
    figures: &mut Figures,
    crowd: &Crowd,
    seconds: u64,
) -> Result<(), Failure> {
    screen.act("2. Under load", &format!("{WRITERS} writers change rows, {READERS} readers fill what they miss"));
    screen.line("");
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let mut last = (0, 0, figures.deleted);
    for second in 1..=seconds {
        tick.tick().await;
        events.drain(figures);
        let now =
            (crowd.counts.changes.load(Ordering::Relaxed), crowd.counts.reads.load(Ordering::Relaxed), figures.deleted);
        screen.line(&format!(
            "  second {second}: {:>4} changes, {:>4} keys deleted, {:>5} requests",
            now.0 - last.0,
            now.2 - last.2,
            now.1 - last.1
        ));
        last = now;
    }
    // The rest of the show needs quiet changes, but no quiet readers.
    crowd.writers.cancel();
    Ok(())
}

async fn crash(stage: &mut Stage, shop: &mut Shop, screen: &Screen, figures: &mut Figures) -> Result<Events, Failure> {
    screen.act("3. A crash", "the daemon is killed, rows change meanwhile, the daemon comes back");
    stage.kill_daemon();
    figures.crashed = true;
    let key = "user_credits:1:balance";
    shop.read(key).await?;
    for _ in 0..CHANGES_WHILE_DEAD {
        shop.change().await?;
    }
    shop.sql("UPDATE users SET credits = credits + 1 WHERE id = 1").await?;
    figures.changes += u64::from(CHANGES_WHILE_DEAD) + 1;
    let old = shop.cached(key).await?;
    let begun = Instant::now();
    stage.start_daemon(&["run"]).await?;
    let events = Events::of(stage).await?;
    // A reader may have filled it again already: what counts is that the old value is gone.
    while old.is_some() && shop.cached(key).await? == old {
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!("{key} is still stale after the restart")));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    figures.caught_up_ms = begun.elapsed().as_secs_f64() * 1000.0;
    screen.line("");
    screen.line(&format!(
        "  {} changes while it was dead; caught up {:.0} ms after it was started again",
        CHANGES_WHILE_DEAD + 1,
        figures.caught_up_ms
    ));
    Ok(events)
}

/// Waits until everything has been delivered, second deletes included: those of a last change come last.
async fn settle(shop: &Shop, events: &mut Events, figures: &mut Figures) -> Result<(), Failure> {
    shop.sql("UPDATE users SET credits = credits + 1 WHERE id = 2").await?;
    figures.changes += 1;
    let key = Value::from(format!("{}user_credits:2:*", shop.prefix));
    let names = |e: &Value| e["keys"].as_array().is_some_and(|keys| keys.iter().any(|k| k["key"] == key));
    events.next(figures, |e| is(e, "users", "update") && names(e)).await?;
    events.next(figures, |e| e["event"] == "evict" && e["lag_ms"].is_null() && names(e)).await?;
    Ok(())
}

async fn prove(shop: &mut Shop, screen: &Screen, figures: &mut Figures) -> Result<(), Failure> {
    screen.act("4. The proof", "every cached value against what the database says now");
    let prefix = shop.prefix.clone();
    let found =
        all_keys(&mut shop.redis, &prefix).await.map_err(|e| Failure::Broken(crate::sink::connect::describe(&e)))?;
    for key in found {
        let full = String::from_utf8_lossy(&key).into_owned();
        let key = full.strip_prefix(&prefix).unwrap_or(&full);
        let Some(truth) = shop.truth(key).await? else { continue };
        let Some(cached) = shop.cached(key).await? else { continue };
        figures.compared += 1;
        if cached != truth {
            figures.stale.push(full.clone());
        }
    }
    screen.line("");
    if figures.stale.is_empty() {
        let text = format!("{} cached values compared, none is stale", figures.compared);
        screen.line(&format!("  {}", screen.paint(Tone::Good, &text)));
    } else {
        let text = format!(
            "{} of {} cached values are STALE: {}",
            figures.stale.len(),
            figures.compared,
            figures.stale.join(", ")
        );
        screen.line(&format!("  {}", screen.paint(Tone::Bad, &text)));
    }
    Ok(())
}

fn summary(screen: &Screen, figures: &Figures) {
    let ms = |q| figures.quantile(q).map_or_else(|| "-".to_owned(), |v| format!("{v:.1} ms"));
    let hit_rate = (100 * figures.hits).checked_div(figures.reads).unwrap_or(0);
    screen.line(&format!(
        "  {} changes, {} keys deleted, {} requests ({hit_rate} % from the cache)",
        figures.changes, figures.deleted, figures.reads
    ));
    screen.line(&format!(
        "  from the row's change to its keys gone: p50 {}, p99 {}, at most {}",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    ));
    if cfg!(debug_assertions) {
        screen.line("  (an unoptimised build on servers that share this machine; `make build` makes the real one)");
    }
    screen.line("");
    screen.line(
        &screen
            .paint(Tone::Dim, "Everything that was started is removed. Next: README.md, config.toml, `pgevict help`."),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let figures = |lag_ms: Vec<f64>| Figures { lag_ms, ..Figures::default() };
        assert_eq!(figures(vec![]).quantile(0.5), None);
        assert_eq!(figures(vec![3.0]).quantile(0.99), Some(3.0));
        let hundred = figures((1..=100).rev().map(f64::from).collect());
        assert_eq!([0.5, 0.99, 1.0].map(|q| hundred.quantile(q)), [Some(50.0), Some(99.0), Some(100.0)]);
    }

    #[test]
    fn second_deletes_have_no_lag_and_notices_are_no_statements() {
        let mut figures = Figures::default();
        figures.count(&json!({ "event": "evict", "lag_ms": 4.0, "deleted": 2, "absent": 1 }));
        figures.count(&json!({ "event": "evict", "lag_ms": null, "deleted": 9, "absent": 9 }));
        figures.count(&json!({ "event": "reloaded", "lag_ms": 1.0 }));
        assert_eq!((figures.statements, figures.deleted, figures.absent), (1, 2, 1));
    }
}
