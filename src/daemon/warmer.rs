//! Warming beside the session: evictions hand over what they deleted, and never wait.
//!
//! Its connections are its own. What it cannot do is counted and left to the next reader: a key that is absent is never wrong.
//! The database and the applications have a queue and limits each: a dead endpoint must not keep queries waiting.

pub mod hand;
mod refresh;
mod store;

use super::live::Live;
use crate::config::model::{Cache, CacheWarm, Config, PgHost, Refill};
use crate::flow::warm::{End, Job, LaneLimits, Limits, Next, Want, Warming};
use crate::observe::Observer;
use crate::observe::event::{Observation, Outcome, WarmOutcome};
use crate::warm::http::Client;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::{Store, Word};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// A key that was there a moment ago, and is gone because what it says has changed.
const EVICTED: u32 = 1_000;

/// A key that is read, and will expire soon.
const REFRESH: u32 = 100;
/// What nobody has asked for yet: behind everything else.
const STARTUP: u32 = 1;

/// The session's warmers; they end with it.
pub(super) struct Warmer {
    engines: Vec<Engine>,
    /// Where `warm.startup.sql` is asked.
    store: Option<Arc<Store>>,
    startup: Option<Task>,
    refresh: Option<Task>,
}

/// One queue with its limits, and who works it off.
struct Engine {
    shared: Arc<Shared>,
    _task: Task,
}

/// Ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    config: Arc<Config>,
    observer: Observer,
    warming: Mutex<Warming>,
    /// Something was offered.
    offered: Notify,
    by: By,
    /// Who is told instead of the log.
    heard: Option<mpsc::UnboundedSender<hand::Told>>,
}

/// Who makes the values.
enum By {
    Sql(Arc<Store>),
    Http(Client),
}

impl By {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::Http(_) => "http",
        }
    }

    fn makes(&self, warm: &CacheWarm) -> bool {
        matches!((self, &warm.refill), (Self::Sql(_), Refill::Sql { .. }) | (Self::Http(_), Refill::Http(_)))
    }
}

/// The newest version, and what stands in front of its keys.
fn newest(config: &Config) -> (Option<&str>, &str) {
    config.namespace.prefixes.last().map_or((None, ""), |(version, prefix)| (version.as_deref(), prefix.as_str()))
}

impl Warmer {
    /// Begins to warm what the configuration wants warmed. `host` is the session's.
    pub(super) fn start(config: &Arc<Config>, host: &PgHost, observer: &Observer) -> Self {
        let warms: Vec<&CacheWarm> = config.caches.iter().filter_map(|c| c.warm.as_ref()).collect();
        let report = |detail: String| observer.report(Observation::Warning { what: "nothing is warmed", detail });
        let (mut engines, mut store) = (Vec::new(), None);
        if warms.iter().any(|w| w.query().is_some() || w.startup.is_some() || w.refresh.is_some()) {
            match Store::new(config, std::slice::from_ref(host)) {
                Ok(made) => store = Some(Arc::new(made)),
                Err(why) => report(why),
            }
        }
        if let Some(store) = store.clone().filter(|_| warms.iter().any(|w| w.query().is_some())) {
            engines.push(Engine::start(config, observer, By::Sql(store), None));
        }
        let mut http = warms.iter().filter_map(|w| if let Refill::Http(http) = &w.refill { Some(http) } else { None });
        if let Some(first) = http.next() {
            match Client::new(first.url.tls || http.any(|h| h.url.tls)) {
                Ok(client) => engines.push(Engine::start(config, observer, By::Http(client), None)),
                Err(why) => report(why),
            }
        }
        let mut warmer = Self { engines, store, startup: None, refresh: None };
        warmer.begin_refresh();
        warmer
    }

    fn engine(&self, warm: &CacheWarm) -> Option<&Engine> {
        self.engines.iter().find(|e| e.shared.by.makes(warm))
    }
}

impl Engine {
    fn start(
        config: &Arc<Config>,
        observer: &Observer,
        by: By,
        heard: Option<mpsc::UnboundedSender<hand::Told>>,
    ) -> Self {
        let limits = &config.warm;
        let half = match by {
            By::Sql(_) => None,
            // One dead endpoint must leave room for another.
            By::Http(_) => Some(limits.concurrency.div_ceil(2)),
        };
        let lane = |cache: &Cache| {
            cache.warm.as_ref().map_or_else(LaneLimits::default, |warm| LaneLimits {
                concurrency: warm.concurrency.or(half),
                per_second: warm.max_per_second,
                batched: warm.query().is_some_and(|q| q.batch.is_some()),
            })
        };
        let warming = Warming::new(
            Limits { concurrency: limits.concurrency, per_second: limits.max_per_second, queue: limits.queue },
            config.caches.iter().map(lane),
        );
        let shared = Arc::new(Shared {
            config: config.clone(),
            observer: observer.clone(),
            warming: Mutex::new(warming),
            offered: Notify::new(),
            by,
            heard,
        });
        let task = Task(tokio::spawn(run(shared.clone())));
        Self { shared, _task: task }
    }

    /// A key is to be filled again. Returns at once.
    fn offer(&self, want: Want) {
        Self::offer_to(&self.shared, want);
    }

    fn offer_to(shared: &Shared, want: Want) {
        let (dropped, waiting) = {
            let mut warming = shared.warming();
            let dropped = warming.offer(want);
            (dropped, warming.waiting())
        };
        shared.observer.set_warm_queue(shared.by.as_str(), waiting);
        if let Some(dropped) = dropped {
            let why = "the queue is full (warm.queue)".to_owned();
            shared.report(&dropped, WarmOutcome::Dropped, Some(why), Duration::ZERO);
        }
        shared.offered.notify_one();
    }
}

impl Live<'_> {
    /// What a statement named is gone: if it was there, or its cache wants it anyway, it is warmed.
    pub(super) fn warm(&mut self, id: u64, slot: usize, outcome: Outcome) {
        let Some((cache, key, values)) = self.statements.take_want(id, slot) else { return };
        let Some(warm) = self.config.caches.get(cache).and_then(|c| c.warm.as_ref()) else { return };
        let Some(engine) = self.warmer.engine(warm) else { return };
        let want = Want::new(cache, key, values, EVICTED);
        match outcome {
            _ if !warm.at_evict => {}
            Outcome::Deleted(1..) => engine.offer(want),
            Outcome::Absent if warm.always => engine.offer(want),
            // An application that is being asked may have read before this change, and nobody compares snapshots for it.
            Outcome::Absent if matches!(warm.refill, Refill::Http(_)) => engine.shared.warming().offer_if_running(want),
            _ => {}
        }
    }
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

async fn work(shared: Arc<Shared>, job: Job) {
    let began = Instant::now();
    let (words, well) = shared.fill(&job).await;
    let now = Instant::now();
    let ends: Vec<End> = words.iter().map(|w| w.end).collect();
    let (cache, wants) = (job.cache, job.wants.clone());
    let (last, waiting, resting) = {
        let mut warming = shared.warming();
        (warming.ended(job, &ends, well, now), warming.waiting(), warming.is_broken(cache))
    };
    shared.observer.set_warm_queue(shared.by.as_str(), waiting);
    if let Some(cache) = shared.config.caches.get(cache) {
        shared.observer.set_warm_resting(&cache.name, resting);
        let why = words.iter().find_map(|w| w.why.clone().filter(|_| w.outcome == WarmOutcome::Failed));
        if let Some(why) = why.filter(|_| resting && !well) {
            shared.observer.report(Observation::WarmRests { cache: cache.name.clone(), why });
        }
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
        if let Some(heard) = &self.heard {
            // Whoever listened may have left.
            let _ = heard.send((key, outcome, why));
            return;
        }
        self.observer.report(Observation::Warmed { cache: cache.name.clone(), key, outcome, why, took });
    }

    /// Fills the keys of a job; also says whether what answers works.
    async fn fill(&self, job: &Job) -> (Vec<Word>, bool) {
        let Some(cache) = self.config.caches.get(job.cache) else { return (Vec::new(), true) };
        match &self.by {
            By::Sql(store) => store.fill(cache, &job.wants).await,
            By::Http(client) => {
                let mut words = Vec::with_capacity(job.wants.len());
                for want in &job.wants {
                    words.push(self.ask(client, cache, want).await);
                }
                // One that refuses a request works; one that does not answer does not.
                let well = words.iter().all(|w| w.end != End::Failed);
                (words, well)
            }
        }
    }

    async fn ask(&self, client: &Client, cache: &Cache, want: &Want) -> Word {
        let Some(Refill::Http(http)) = cache.warm.as_ref().map(|w| &w.refill) else {
            return Word { end: End::Hopeless, outcome: WarmOutcome::Failed, why: None };
        };
        match client.ask(http, &want.values, newest(&self.config).0).await {
            Ok(()) => Word { end: End::Done, outcome: WarmOutcome::Asked, why: None },
            Err(failure) => Word {
                end: if failure.hopeless { End::Hopeless } else { End::Failed },
                outcome: WarmOutcome::Failed,
                why: Some(format!("warm.http: {}", failure.why)),
            },
        }
    }
}
