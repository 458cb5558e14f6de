//! Warming beside the session: evictions hand over what they deleted, and never wait.
//!
//! Its connections are its own. What it cannot do is counted and left to the next reader: a key that is absent is never wrong.
//! The database and the applications have a queue and limits each: a dead endpoint must not keep queries waiting.

mod asked;
mod found;
pub mod hand;
mod order;
mod refresh;
mod schedule;
mod store;

use super::Context;
use super::live::Live;
use crate::config::model::{Cache, CacheWarm, Config, Refill};
use crate::flow::heat::EVICTED;
use crate::flow::warm::{End, Job, LaneLimits, Limits, Next, Want, Warming};
use crate::flow::worth::Worths;
use crate::observe::Observer;
use crate::observe::event::{Observation, Outcome, WarmOutcome};
use crate::source::session::Session;
use crate::warm::http::Client;
use order::Ordered;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::{Store, Word};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// The session's warmers; they end with it.
pub(super) struct Warmer {
    engines: Vec<Engine>,
    /// Where `warm.startup.sql` is asked.
    store: Option<Arc<Store>>,
    startup: Option<Task>,
    refresh: Option<Task>,
    /// Takes what patterns have deleted.
    gone: Option<found::Gone>,
    order: Arc<Ordered>,
    relay: Option<Task>,
    /// What heat is counted from.
    begun: Instant,
    schedule: Option<Task>,
    /// What was warmed, shared with whoever deletes it.
    worths: Arc<Mutex<Worths>>,
}

/// What all queues share.
struct Beside {
    order: Arc<Ordered>,
    worths: Arc<Mutex<Worths>>,
    paused: watch::Receiver<bool>,
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
    worths: Arc<Mutex<Worths>>,
    /// An operator has paused it.
    paused: watch::Receiver<bool>,
    /// Something was offered.
    offered: Notify,
    by: By,
    order: Arc<Ordered>,
    /// Who is told instead of the log.
    heard: Option<mpsc::UnboundedSender<hand::Told>>,
}

/// Who makes the values.
enum By {
    Sql(Arc<Store>),
    /// The store says what is there already.
    Http(Client, Arc<Store>),
}

impl By {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::Http(..) => "http",
        }
    }

    fn makes(&self, warm: &CacheWarm) -> bool {
        matches!((self, &warm.refill), (Self::Sql(_), Refill::Sql { .. }) | (Self::Http(..), Refill::Http(_)))
    }
}

/// The newest version, and what stands in front of its keys.
fn newest(config: &Config) -> (Option<&str>, &str) {
    config.namespace.prefixes.last().map_or((None, ""), |(version, prefix)| (version.as_deref(), prefix.as_str()))
}

impl Warmer {
    /// Begins to warm what the configuration wants warmed, at the session's server.
    pub(super) fn start(config: &Arc<Config>, session: &Session, context: &Context) -> Self {
        let (observer, paused) = (&context.observer, context.pause.warming());
        let warms: Vec<&CacheWarm> = config.caches.iter().filter_map(|c| c.warm.as_ref()).collect();
        let report = |detail: String| observer.report(Observation::Warning { what: "nothing is warmed", detail });
        let (mut engines, mut store) = (Vec::new(), None);
        let (order, frees) = Ordered::new(config);
        let beside = Beside { order, worths: Arc::default(), paused };
        if !warms.is_empty() {
            let host = std::slice::from_ref(&session.connected.host);
            match Store::new(config, host).and_then(|s| s.with_replica(&session.identity, observer)) {
                Ok(made) => store = Some(Arc::new(made)),
                Err(why) => report(why),
            }
        }
        if let Some(store) = store.clone().filter(|_| warms.iter().any(|w| w.query().is_some())) {
            engines.push(Engine::start(config, observer, By::Sql(store), &beside, None));
        }
        let mut http = warms.iter().filter_map(|w| if let Refill::Http(http) = &w.refill { Some(http) } else { None });
        if let (Some(first), Some(store)) = (http.next(), &store) {
            match Client::new(first.url.tls || http.any(|h| h.url.tls)) {
                Ok(client) => {
                    engines.push(Engine::start(config, observer, By::Http(client, store.clone()), &beside, None))
                }
                Err(why) => report(why),
            }
        }
        let mut warmer = Self {
            engines,
            store,
            startup: None,
            refresh: None,
            schedule: None,
            gone: None,
            order: beside.order,
            relay: None,
            begun: Instant::now(),
            worths: beside.worths,
        };
        warmer.begin_order(frees);
        warmer.begin_refresh();
        warmer.begin_found();
        warmer
    }

    /// Every cache has been proven, so that what is filled now is not flushed: what the start and the clock want begins. `first`: of this
    /// process.
    pub(super) fn trusted(&mut self, first: bool) {
        if first {
            self.begin_startup();
        }
        if self.schedule.is_none() {
            self.begin_schedule();
        }
    }

    fn engine(&self, warm: &CacheWarm) -> Option<&Engine> {
        self.engines.iter().find(|e| e.shared.by.makes(warm))
    }

    /// What was warmed, for whoever deletes it; None where nothing is.
    pub(super) fn worths(&self) -> Option<Arc<Mutex<Worths>>> {
        (!self.engines.is_empty()).then(|| self.worths.clone())
    }

    /// Tells whether what was warmed had been read when it went.
    pub(super) fn tell(&self) {
        let Some(Shared { config, observer, .. }) = self.engines.first().map(|e| &*e.shared) else { return };
        let told = self.worths.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (cache, worth, keys) in told {
            if let Some(cache) = config.caches.get(cache) {
                observer.count_worth(&cache.name, worth.as_str(), keys);
            }
        }
    }
}

impl Engine {
    fn start(
        config: &Arc<Config>,
        observer: &Observer,
        by: By,
        beside: &Beside,
        heard: Option<mpsc::UnboundedSender<hand::Told>>,
    ) -> Self {
        let limits = &config.warm;
        let half = match by {
            By::Sql(_) => None,
            // One dead endpoint must leave room for another.
            By::Http(..) => Some(limits.concurrency.div_ceil(2)),
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
            worths: beside.worths.clone(),
            paused: beside.paused.clone(),
            offered: Notify::new(),
            by,
            order: beside.order.clone(),
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
        if shared.turns_away(&want) {
            return;
        }
        let cache = want.cache;
        let Some(want) = shared.order.admit(want) else { return };
        let (dropped, waiting) = {
            let mut warming = shared.warming();
            let dropped = warming.offer(want);
            (dropped, warming.waiting())
        };
        shared.observer.set_warm_queue(shared.by.as_str(), waiting);
        shared.show(cache);
        if let Some(dropped) = dropped {
            shared.order.over(&dropped.key);
            let why = "the queue is full (warm.queue)".to_owned();
            shared.report(&dropped, WarmOutcome::Dropped, Some(why), Duration::ZERO);
        }
        shared.offered.notify_one();
    }

    /// The key was not there: only what is under way for it is done once more.
    fn offer_if_running(&self, want: Want) {
        let key = want.key.clone();
        self.shared.warming().offer_if_running(want);
        self.shared.not_wanted(&key);
    }

    /// One of many keys: what the queue drops for it is only counted.
    fn offer_found(shared: &Shared, want: Want, dropped: &mut BTreeMap<usize, u64>) {
        if shared.turns_away(&want) {
            return;
        }
        let cache = want.cache;
        let Some(want) = shared.order.admit(want) else { return };
        let (gone, waiting) = {
            let mut warming = shared.warming();
            (warming.offer(want), warming.waiting())
        };
        shared.observer.set_warm_queue(shared.by.as_str(), waiting);
        if let Some(gone) = gone {
            shared.order.over(&gone.key);
            *dropped.entry(gone.cache).or_default() += 1;
        }
        shared.show(cache);
        shared.offered.notify_one();
    }
}

impl Live<'_> {
    /// What a statement named is gone: if it was there, or its cache wants it anyway, it is warmed.
    pub(super) fn warm(&mut self, id: u64, slot: usize, outcome: Outcome) {
        let Some((cache, key, values)) = self.statements.take_want(id, slot) else { return };
        let warm = self.config.caches.get(cache).and_then(|c| c.warm.as_ref()).filter(|w| w.at_evict);
        let Some((warm, engine)) = warm.and_then(|w| Some((w, self.warmer.engine(w)?))) else {
            self.warmer.order.over(&key);
            return;
        };
        // Where no standby is asked, nobody compares it.
        let since = self.config.warm.replica.as_ref().and_then(|_| self.position.tombstones.newest().cloned());
        let want = Want::new(cache, key, values, EVICTED).since(since);
        match outcome {
            Outcome::Deleted(1..) => engine.offer(want),
            Outcome::Absent if warm.always => engine.offer(want),
            // An application that is being asked may have read before this change, and nobody compares snapshots for it.
            Outcome::Absent if matches!(warm.refill, Refill::Http(_)) => engine.offer_if_running(want),
            _ => engine.shared.not_wanted(&want.key),
        }
    }
}

/// One after the other is begun as limits allow, until the session ends.
async fn run(shared: Arc<Shared>) {
    let mut jobs: JoinSet<()> = JoinSet::new();
    let mut paused = shared.paused.clone();
    loop {
        if *paused.borrow_and_update() {
            tokio::select! {
                Some(_) = jobs.join_next() => {}
                // Nobody is left who could go on: the process ends.
                changed = paused.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let next = shared.warming().next(Instant::now());
        let until = match next {
            Next::Start(job) => {
                shared.show(job.cache);
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
    let Some(job) = shared.only_absent(job).await else {
        // Where it was the last that might run, another one may begin now.
        shared.offered.notify_one();
        return;
    };
    let (words, well) = shared.fill(&job).await;
    let now = Instant::now();
    let ends: Vec<End> = words.iter().map(|w| w.end).collect();
    let (index, wants) = (job.cache, job.wants.clone());
    let (last, waiting, resting) = {
        let mut warming = shared.warming();
        (warming.ended(job, &ends, well, now), warming.waiting(), warming.is_broken(index))
    };
    shared.observer.set_warm_queue(shared.by.as_str(), waiting);
    shared.show(index);
    shared.remember(index, &wants, &words, now);
    if let Some(cache) = shared.config.caches.get(index) {
        let why = words.iter().find_map(|w| w.why.clone().filter(|_| w.outcome == WarmOutcome::Failed));
        if resting {
            shared.order.all_over(index);
        }
        if let Some(why) = why.filter(|_| resting && !well) {
            shared.observer.report(Observation::WarmRests { cache: cache.name.clone(), why });
        }
    }
    for ((want, word), last) in wants.iter().zip(words).zip(last) {
        if word.end == End::Failed {
            // It is tried again much later, if at all.
            shared.order.over(&want.key);
        } else if last {
            shared.not_wanted(&want.key);
        }
        let outcome = if last { word.outcome } else { WarmOutcome::Retried };
        shared.report(want, outcome, word.why, now.saturating_duration_since(began));
    }
}

impl Shared {
    fn warming(&self) -> MutexGuard<'_, Warming> {
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing waits for the key any more, unless it is still to be warmed.
    fn not_wanted(&self, key: &[u8]) {
        if !self.warming().holds(key) {
            self.order.over(key);
        }
    }

    fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Whether an operator has paused it: the next reader fills the key. What waited through an hour's pause would be asked for in vain.
    fn turns_away(&self, want: &Want) -> bool {
        let away = self.is_paused();
        if away {
            self.order.over(&want.key);
        }
        away
    }

    /// Waits while an operator has paused it.
    async fn unpaused(&self) {
        // Nobody can pause any more.
        let _ = self.paused.clone().wait_for(|paused| !paused).await;
    }

    /// Shows what waits and runs of a cache.
    fn show(&self, cache: usize) {
        if let (Some(named), None) = (self.config.caches.get(cache), &self.heard) {
            let lane = self.warming().lane(cache, Instant::now());
            self.observer.set_warm_lane(&named.name, lane);
        }
    }

    /// Takes down what is there now because of us.
    fn remember(&self, cache: usize, wants: &[Want], words: &[Word], now: Instant) {
        let mut worths = self.worths.lock().unwrap_or_else(PoisonError::into_inner);
        for (want, word) in wants.iter().zip(words) {
            if matches!(word.outcome, WarmOutcome::Stored | WarmOutcome::Asked) {
                worths.stored(cache, &want.key, now);
            }
        }
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

    /// The job without what is there already, though it is wanted only where it is absent. Where Redis does not say, all of it.
    async fn only_absent(&self, job: Job) -> Option<Job> {
        if !job.wants.iter().any(|w| w.if_absent) {
            return Some(job);
        }
        let (By::Sql(store) | By::Http(_, store)) = &self.by;
        let keys: Vec<&[u8]> = job.wants.iter().map(|w| w.key.as_slice()).collect();
        let mut there = store.exist(&keys).await.unwrap_or_default();
        there.iter_mut().zip(&job.wants).for_each(|(there, want)| *there &= want.if_absent);
        let cache = job.cache;
        let (left, spared) = self.warming().spare(job, &there, Instant::now());
        self.show(cache);
        for want in &spared {
            self.not_wanted(&want.key);
            self.report(want, WarmOutcome::Present, None, Duration::ZERO);
        }
        left
    }

    /// Fills the keys of a job; also says whether what answers works.
    async fn fill(&self, job: &Job) -> (Vec<Word>, bool) {
        let Some(cache) = self.config.caches.get(job.cache) else { return (Vec::new(), true) };
        match &self.by {
            By::Sql(store) => store.fill(cache, &job.wants).await,
            By::Http(client, _) => {
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
