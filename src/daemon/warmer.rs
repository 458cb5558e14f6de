//! Warming beside the session: evictions hand over what they deleted, and never wait.
//!
//! Its connections are its own. What it cannot do is counted and left to the next reader: a key that is absent is never wrong.

use super::live::Live;
use crate::config::model::{Cache, CacheWarm, Config, PgHost, WarmFormat};
use crate::flow::warm::{End, Job, LaneLimits, Limits, Next, Want, Warming};
use crate::observe::Observer;
use crate::observe::event::{Observation, Outcome, WarmOutcome};
use crate::rules::binding::{Binding, overlapping};
use crate::rules::template::{Kind, Template};
use crate::sink::connect as redis_connect;
use crate::sink::fill::{Fill, Filled, Filler, Refusal, Shape};
use crate::source::pool::pool;
use crate::warm::sql::{self, Database, Read};
use redis::aio::MultiplexedConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// A key that was there a moment ago, and is gone because what it says has changed.
const EVICTED: u32 = 1_000;

/// The session's warmer; it ends with it.
pub(super) struct Warmer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    config: Arc<Config>,
    observer: Observer,
    warming: Mutex<Warming>,
    /// Something was offered.
    offered: Notify,
    database: Database,
    filler: Filler,
    /// None until it is needed, and after it failed.
    redis: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// By cache: the patterns that delete its keys, with the names of their caches.
    over: Vec<Vec<(String, Template)>>,
}

impl Warmer {
    /// Begins to warm what the configuration wants warmed; None: nothing. `host` is the session's.
    pub(super) fn start(config: &Arc<Config>, host: &PgHost, observer: &Observer) -> Option<Self> {
        config.caches.iter().find(|c| c.warm.is_some())?;
        let limits = &config.warm;
        let (url, hosts) = match &limits.url {
            Some(url) => (url, url.hosts.as_slice()),
            None => (&config.postgres.url, std::slice::from_ref(host)),
        };
        let pool = match pool(url, hosts, limits.concurrency, sql::settings(limits.statement_timeout)) {
            Ok((pool, _)) => pool,
            Err(detail) => {
                observer.report(Observation::Warning { what: "nothing is warmed", detail });
                return None;
            }
        };
        let lane = |cache: &Cache| {
            cache.warm.as_ref().map_or_else(LaneLimits::default, |warm| LaneLimits {
                concurrency: warm.concurrency,
                per_second: warm.max_per_second,
                batched: warm.query.batch.is_some(),
            })
        };
        let warming = Warming::new(
            Limits { concurrency: limits.concurrency, per_second: limits.max_per_second, queue: limits.queue },
            config.caches.iter().map(lane),
        );
        let shared = Arc::new(Shared {
            database: Database::new(pool, &config.postgres.schema, limits.statement_timeout),
            filler: Filler::new(&config.redis.state),
            over: config.caches.iter().map(|c| patterns_over(config, c)).collect(),
            config: config.clone(),
            observer: observer.clone(),
            warming: Mutex::new(warming),
            offered: Notify::new(),
            redis: tokio::sync::Mutex::new(None),
        });
        let task = tokio::spawn(run(shared.clone()));
        Some(Self { shared, task })
    }

    /// A key is to be filled again. Returns at once.
    fn offer(&self, cache: usize, key: Vec<u8>, values: Binding) {
        let (dropped, waiting) = {
            let mut warming = self.shared.warming();
            let dropped = warming.offer(Want::new(cache, key, values, EVICTED));
            (dropped, warming.waiting())
        };
        self.shared.observer.set_warm_queue(waiting);
        if let Some(dropped) = dropped {
            let why = "the queue is full (warm.queue)".to_owned();
            self.shared.report(&dropped, WarmOutcome::Dropped, Some(why), Duration::ZERO);
        }
        self.shared.offered.notify_one();
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Live<'_> {
    /// A statement's key was evicted: if it was there, or its cache wants it anyway, it is warmed.
    pub(super) fn warm(&mut self, id: u64, slot: usize, outcome: Outcome) {
        let Some((cache, key, values)) = self.statements.take_want(id, slot) else { return };
        let Some(warmer) = &self.warmer else { return };
        let always = self.config.caches.get(cache).and_then(|c| c.warm.as_ref()).is_some_and(|w| w.always);
        if matches!(outcome, Outcome::Deleted(1..)) || (always && outcome == Outcome::Absent) {
            warmer.offer(cache, key, values);
        }
    }
}

/// The patterns of other caches that delete keys of this one.
fn patterns_over(config: &Config, cache: &Cache) -> Vec<(String, Template)> {
    if cache.warm.is_none() {
        return Vec::new();
    }
    let others = config.caches.iter().filter(|c| c.name != cache.name && c.template.kind == Kind::Pattern);
    others.filter(|c| overlapping(&c.template, &cache.template)).map(|c| (c.name.clone(), c.template.clone())).collect()
}

/// One after the other is begun as limits allow, until the session ends.
async fn run(shared: Arc<Shared>) {
    let mut jobs: JoinSet<()> = JoinSet::new();
    loop {
        let next = shared.warming().next(Instant::now());
        let until = match next {
            Next::Start(job) => {
                jobs.spawn(work(shared.clone(), job));
                continue;
            }
            Next::Wait(until) => until,
        };
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.offered.notified() => {}
            Some(_) = jobs.join_next() => {}
            () = timer => {}
        }
    }
}

/// What became of one key.
struct Word {
    end: End,
    outcome: WarmOutcome,
    why: Option<String>,
}

async fn work(shared: Arc<Shared>, job: Job) {
    let began = Instant::now();
    let (words, well) = shared.fill(&job).await;
    let now = Instant::now();
    let ends: Vec<End> = words.iter().map(|w| w.end).collect();
    let wants = job.wants.clone();
    let cache = job.cache;
    let (last, waiting, resting) = {
        let mut warming = shared.warming();
        (warming.ended(job, &ends, well, now), warming.waiting(), warming.is_broken(cache))
    };
    shared.observer.set_warm_queue(waiting);
    if let Some(cache) = shared.config.caches.get(cache) {
        shared.observer.set_warm_resting(&cache.name, resting);
    }
    for ((want, word), last) in wants.iter().zip(words).zip(last) {
        let outcome = if last { word.outcome } else { WarmOutcome::Retried };
        shared.report(want, outcome, word.why, now.saturating_duration_since(began));
    }
}

impl Shared {
    fn warming(&self) -> MutexGuard<'_, Warming> {
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, want: &Want, outcome: WarmOutcome, why: Option<String>, took: Duration) {
        let Some(cache) = self.config.caches.get(want.cache) else { return };
        let key = want.key.clone();
        self.observer.report(Observation::Warmed { cache: cache.name.clone(), key, outcome, why, took });
    }

    /// Reads the values of a job and stores them; also says whether what answers works.
    async fn fill(&self, job: &Job) -> (Vec<Word>, bool) {
        let all = |end: End, why: &str| {
            let word = || Word { end, outcome: WarmOutcome::Failed, why: Some(why.to_owned()) };
            (job.wants.iter().map(|_| word()).collect(), false)
        };
        let cache = self.config.caches.get(job.cache);
        let Some((cache, warm)) = cache.and_then(|c| Some((c, c.warm.as_ref()?))) else {
            return all(End::Hopeless, "its cache is gone");
        };
        let version = self.config.namespace.prefixes.last().and_then(|(version, _)| version.as_deref());
        let values: Vec<Binding> = job.wants.iter().map(|w| w.values.clone()).collect();
        let read = match self.database.read(&warm.query, warm.format, version, &values).await {
            Ok(read) => read,
            Err(failure) => {
                let end = if failure.hopeless { End::Hopeless } else { End::Failed };
                return all(end, &format!("warm.sql: {}", failure.why));
            }
        };
        let mut words = Vec::with_capacity(job.wants.len());
        for (want, read) in job.wants.iter().zip(read) {
            words.push(match read {
                None => Word { end: End::Done, outcome: WarmOutcome::Empty, why: None },
                Some(read) => match self.store(cache, warm, want, &read).await {
                    Ok(word) => word,
                    Err(why) => Word { end: End::Failed, outcome: WarmOutcome::Failed, why: Some(why) },
                },
            });
        }
        let well = words.iter().all(|w| w.outcome != WarmOutcome::Failed);
        (words, well)
    }

    async fn store(&self, cache: &Cache, warm: &CacheWarm, want: &Want, read: &Read) -> Result<Word, String> {
        let prefix = self.config.namespace.prefixes.last().map_or("", |(_, prefix)| prefix.as_str());
        let over: Vec<(&str, Vec<u8>)> = self.over[want.cache]
            .iter()
            .filter_map(|(name, t)| Some((name.as_str(), want.values.pattern_over(&want.key, t, prefix)?)))
            .collect();
        let own = std::iter::once((cache.name.as_str(), None));
        let caches: Vec<(&str, Option<&[u8]>)> =
            own.chain(over.iter().map(|(name, pattern)| (*name, Some(pattern.as_slice())))).collect();
        let fill = Fill {
            key: &want.key,
            value: read.value.as_bytes(),
            shape: if warm.format == WarmFormat::Hash { Shape::Hash } else { Shape::Text },
            ttl: jittered(cache.ttl.unwrap_or_default(), rand::random()),
            token: read.token.as_deref(),
            caches: &caches,
            lease: None,
        };
        let mut slot = self.redis.lock().await;
        let mut connection = match slot.as_ref() {
            Some(connection) => connection.clone(),
            None => {
                let made = redis_connect::connect(&self.config.redis).await.map_err(|e| e.to_string())?;
                slot.insert(made).clone()
            }
        };
        drop(slot);
        match self.filler.fill(&mut connection, &fill).await {
            Ok(Filled::Stored) => Ok(Word { end: End::Done, outcome: WarmOutcome::Stored, why: None }),
            Ok(Filled::Refused(refusal)) => {
                let end = match refusal {
                    r if r.is_a_race() => End::Overtaken,
                    // The guard is written when a session begins, and anew when Redis has lost it.
                    Refusal::NoToken | Refusal::Unguarded => End::Failed,
                    _ => End::Hopeless,
                };
                Ok(Word { end, outcome: WarmOutcome::Refused, why: Some(refusal.to_string()) })
            }
            Err(e) => {
                // A connection that failed once is not used again (sink/connect.rs).
                *self.redis.lock().await = None;
                Err(format!("Redis: {}", redis_connect::describe(&e)))
            }
        }
    }
}

/// The time to live, up to a tenth less: what was warmed together must not expire together. Never more, because the application has
/// promised itself that nothing is older than `ttl`.
fn jittered(ttl: Duration, random: u16) -> Duration {
    ttl - ttl.mul_f64(0.1 * f64::from(random) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_lives_longer_than_its_ttl_and_hardly_shorter() {
        let ttl = Duration::from_secs(600);
        assert_eq!(jittered(ttl, 0), ttl);
        assert_eq!(jittered(ttl, u16::MAX), Duration::from_secs(540));
        assert!(jittered(Duration::from_millis(1), u16::MAX) > Duration::ZERO);
    }
}
