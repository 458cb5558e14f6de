//! Values that pgevict reads and stores itself: the database's answer, through the fill contract.

use crate::config::model::{Cache, Config, PgHost, Refill, WarmFormat};
use crate::flow::fork::Lineage;
use crate::flow::heat::{Life, Used};
use crate::flow::warm::{End, Want};
use crate::observe::Observer;
use crate::observe::event::{Observation, WarmOutcome};
use crate::planted;
use crate::rules::binding::{Binding, overlapping};
use crate::rules::query::Query;
use crate::rules::snapshot::Snapshot;
use crate::rules::template::{Fill as Value, Kind, Template};
use crate::sink::connect as redis_connect;
use crate::sink::fill::{Fill, Filled, Filler, Refusal, Shape};
use crate::source::pool::pool;
use crate::source::session::{Identity, in_schema};
use crate::warm::Failure;
use crate::warm::replica::Replica;
use crate::warm::sql::{self, Database, Read};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What became of one key.
pub(super) struct Word {
    pub(super) end: End,
    pub(super) outcome: WarmOutcome,
    pub(super) why: Option<String>,
}

/// The connections, and what is known of the caches.
pub(super) struct Store {
    config: Arc<Config>,
    database: Database,
    filler: Filler,
    /// Asked in the database's place, with whom that is told.
    replica: Option<(Replica, Observer)>,
    /// None until it is needed, and after it failed.
    redis: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// Redis counts how often keys are used, not how long ago.
    often: AtomicBool,
    /// By cache: the patterns that delete its keys, with the names of their caches.
    over: Vec<Vec<(String, Template)>>,
}

impl Store {
    /// Connects when it is first asked. `hosts`: where, unless `[warm] url` says.
    pub(super) fn new(config: &Arc<Config>, hosts: &[PgHost]) -> Result<Self, String> {
        let limits = &config.warm;
        let (url, hosts) = match &limits.url {
            Some(url) => (url, url.hosts.as_slice()),
            None => (&config.postgres.url, hosts),
        };
        let (pool, _) = pool(url, hosts, limits.concurrency, sql::settings(limits.statement_timeout))?;
        Ok(Self {
            database: Database::new(pool, &config.postgres.schema, limits.statement_timeout),
            filler: Filler::new(&config.redis.state),
            replica: None,
            redis: tokio::sync::Mutex::new(None),
            often: AtomicBool::new(false),
            over: config.caches.iter().map(|c| patterns_over(config, c)).collect(),
            config: config.clone(),
        })
    }

    /// The same, with the standby that the configuration names. `ours`: the primary.
    pub(super) fn with_replica(mut self, ours: &Identity, observer: &Observer) -> Result<Self, String> {
        let limits = &self.config.warm;
        if let Some(url) = &limits.replica {
            let (pool, _) = pool(url, &url.hosts, limits.concurrency, sql::settings(limits.statement_timeout))?;
            let schema = &self.config.postgres.schema;
            let database = Database::new(pool, schema, limits.statement_timeout);
            let look = in_schema(include_str!("../../../sql/replica.sql"), schema);
            let ours = Lineage { db: ours.db.clone(), timeline: ours.timeline.clone() };
            self.replica = Some((Replica::new(database, look, ours), observer.clone()));
        }
        Ok(self)
    }

    /// The values, from the standby where it is good enough. What was refused once comes from the primary.
    async fn read(&self, query: &Query, format: WarmFormat, wants: &[Want]) -> Result<Vec<Option<Read>>, Failure> {
        let version = super::newest(&self.config).0;
        let values: Vec<Binding> = wants.iter().map(|w| w.values.clone()).collect();
        let Some((replica, observer)) = &self.replica else {
            return self.database.read(query, format, version, &values).await;
        };
        if wants.iter().all(|w| w.tries() == 0) {
            let since: Vec<&Snapshot> = wants.iter().filter_map(|w| w.since.as_ref()).collect();
            match replica.read(query, format, version, &values, &since).await {
                Ok(read) => {
                    observer.count_warm_read("replica");
                    return Ok(read);
                }
                Err(Some(why)) => {
                    let detail = format!("{why}; the primary is asked");
                    observer.report(Observation::Warning { what: "the replica is not asked", detail });
                }
                Err(None) => {}
            }
        }
        observer.count_warm_read("primary");
        self.database.read(query, format, version, &values).await
    }

    /// Reads the values of `wants`, all of one cache, and stores them; also says whether what answers works.
    pub(super) async fn fill(&self, cache: &Cache, wants: &[Want]) -> (Vec<Word>, bool) {
        let all = |end: End, why: &str| {
            let word = || Word { end, outcome: WarmOutcome::Failed, why: Some(why.to_owned()) };
            (wants.iter().map(|_| word()).collect(), false)
        };
        let Some((query, format)) = how(cache) else { return all(End::Hopeless, "it has no warm.sql") };
        let read = match self.read(query, format, wants).await {
            Ok(read) => read,
            Err(failure) => {
                let end = if failure.hopeless { End::Hopeless } else { End::Failed };
                return all(end, &format!("warm.sql: {}", failure.why));
            }
        };
        let mut words = Vec::with_capacity(wants.len());
        for (want, read) in wants.iter().zip(read) {
            words.push(match read {
                None => Word { end: End::Done, outcome: WarmOutcome::Empty, why: None },
                Some(read) => match self.store(cache, format, want, &read).await {
                    Ok(word) => word,
                    Err(why) => Word { end: End::Failed, outcome: WarmOutcome::Failed, why: Some(why) },
                },
            });
        }
        let well = words.iter().all(|w| w.outcome != WarmOutcome::Failed);
        (words, well)
    }

    async fn store(&self, cache: &Cache, format: WarmFormat, want: &Want, read: &Read) -> Result<Word, String> {
        let prefix = super::newest(&self.config).1;
        let over: Vec<(&str, Vec<u8>)> = self.over[want.cache]
            .iter()
            .filter(|_| !planted::is("warm-own-name"))
            .filter_map(|(name, t)| Some((name.as_str(), want.values.pattern_over(&want.key, t, prefix)?)))
            .collect();
        let own = std::iter::once((cache.name.as_str(), None));
        let caches: Vec<(&str, Option<&[u8]>)> =
            own.chain(over.iter().map(|(name, pattern)| (*name, Some(pattern.as_slice())))).collect();
        let fill = Fill {
            key: &want.key,
            value: read.value.as_bytes(),
            shape: if format == WarmFormat::Hash { Shape::Hash } else { Shape::Text },
            ttl: jittered(cache.ttl.unwrap_or_default(), rand::random()),
            token: read.token.as_deref(),
            caches: &caches,
            lease: None,
        };
        let mut connection = self.redis().await?;
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

    /// Whether both servers answer.
    pub(super) async fn reach(&self) -> Result<(), String> {
        self.database.reach().await.map_err(|f| f.why)?;
        self.redis().await.map(drop)
    }

    /// The keys that `warm.startup.sql` names, with their values.
    pub(super) async fn named(&self, cache: &Cache) -> Result<Vec<(Vec<u8>, Binding)>, String> {
        let Some(query) = cache.warm.as_ref().and_then(|w| w.startup.as_ref()) else { return Ok(Vec::new()) };
        self.named_by(cache, query).await
    }

    /// The keys that a query names, with their values.
    pub(super) async fn named_by(&self, cache: &Cache, query: &Query) -> Result<Vec<(Vec<u8>, Binding)>, String> {
        let holes = cache.template.holes();
        let rows = self.database.named(query, &holes, super::newest(&self.config).0).await.map_err(|f| f.why)?;
        let key = |row: &Vec<String>| {
            super::hand::keyed(&self.config, cache, |hole| {
                let value = holes.iter().position(|h| *h == hole).and_then(|i| row.get(i));
                value.map_or(Value::Unknown, |v| Value::Value(v.as_bytes()))
            })
        };
        Ok(rows.iter().filter_map(key).collect())
    }

    /// How long each of these keys has left and how it is used; None: it is gone, or never expires.
    pub(super) async fn lives(&self, keys: &[&[u8]]) -> Result<Vec<Option<Life>>, String> {
        let often = self.often.load(Ordering::Relaxed);
        let mut pipeline = redis::Pipeline::with_capacity(2 * keys.len());
        for key in keys {
            pipeline.cmd("PTTL").arg(*key);
            pipeline.cmd("OBJECT").arg(if often { "FREQ" } else { "IDLETIME" }).arg(*key);
        }
        let mut connection = self.redis().await?;
        let answers: Vec<Option<i64>> = match pipeline.query_async(&mut connection).await {
            Ok(answers) => answers,
            Err(e) => {
                let why = redis_connect::describe(&e);
                // Under LFU Redis counts how often, not how long ago, and says so; the next walk asks for that.
                self.often.store(why.contains("LFU") != often, Ordering::Relaxed);
                return Err(why);
            }
        };
        let whole = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        Ok(answers
            .chunks(2)
            .map(|pair| {
                let (left, used) = (whole(pair[0])?, whole(*pair.get(1)?)?);
                let used = if often { Used::Often(used) } else { Used::Idle(Duration::from_secs(used)) };
                Some(Life { left: Duration::from_millis(left), used })
            })
            .collect())
    }

    /// How many commands Redis has done in a second lately, by its own account.
    pub(super) async fn ops_per_second(&self) -> Result<u64, String> {
        let mut connection = self.redis().await?;
        let info: String = match redis::cmd("INFO").arg("stats").query_async(&mut connection).await {
            Ok(info) => info,
            Err(e) => {
                *self.redis.lock().await = None;
                return Err(redis_connect::describe(&e));
            }
        };
        let field = info.lines().find_map(|l| l.strip_prefix("instantaneous_ops_per_sec:"));
        field.and_then(|n| n.trim().parse().ok()).ok_or_else(|| "INFO has no instantaneous_ops_per_sec".into())
    }

    /// Whether these keys are there.
    pub(super) async fn exist(&self, keys: &[&[u8]]) -> Result<Vec<bool>, String> {
        let mut pipeline = redis::Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.cmd("EXISTS").arg(*key);
        }
        let mut connection = self.redis().await?;
        pipeline.query_async(&mut connection).await.map_err(|e| redis_connect::describe(&e))
    }

    async fn redis(&self) -> Result<MultiplexedConnection, String> {
        let mut slot = self.redis.lock().await;
        if let Some(connection) = slot.as_ref() {
            return Ok(connection.clone());
        }
        let made = redis_connect::connect(&self.config.redis).await.map_err(|e| e.to_string())?;
        Ok(slot.insert(made).clone())
    }
}

fn how(cache: &Cache) -> Option<(&Query, WarmFormat)> {
    match &cache.warm.as_ref()?.refill {
        Refill::Sql { query, format } => Some((query, *format)),
        Refill::Http(_) => None,
    }
}

/// The patterns of other caches that delete keys of this one.
fn patterns_over(config: &Config, cache: &Cache) -> Vec<(String, Template)> {
    if how(cache).is_none() {
        return Vec::new();
    }
    let others = config.caches.iter().filter(|c| c.name != cache.name && c.template.kind == Kind::Pattern);
    others.filter(|c| overlapping(&c.template, &cache.template)).map(|c| (c.name.clone(), c.template.clone())).collect()
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
