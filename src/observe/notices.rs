//! Every log line that is not an eviction: level, words, and which of them are repeats of each other.

use super::event::{Condition, FlushReason, Observation, PROBE_UNDER_WAY, Scheduled, WarmOutcome};
use super::redact::{one_line, shown};
use super::words::millis;
use crate::config::model::{LogKeys, LogLevel};
use std::time::Duration;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// At which level.
    pub level: LogLevel,
    /// Its kind, constant: the field `event` in JSON and journald.
    pub event: &'static str,
    /// What it says.
    pub text: String,
    /// Notices with the same key are repeats of each other; None: always printed.
    pub repeat_key: Option<String>,
}

impl Notice {
    /// At level info.
    #[must_use]
    pub fn info(event: &'static str, text: String) -> Self {
        Self { level: LogLevel::Info, event, text, repeat_key: None }
    }

    /// At level warn.
    #[must_use]
    pub fn warn(event: &'static str, text: String) -> Self {
        Self { level: LogLevel::Warn, event, text, repeat_key: None }
    }

    /// At another level.
    #[must_use]
    pub fn at(self, level: LogLevel) -> Self {
        Self { level, ..self }
    }

    /// Rate-limited together with all notices of the same kind and subject.
    #[must_use]
    pub fn repeating(self, subject: &str) -> Self {
        let repeat_key = Some(format!("{}:{}", self.event, subject.chars().take(200).collect::<String>()));
        Self { repeat_key, ..self }
    }
}

/// The line of an observation; None for statements, which [`super::words`] writes.
#[must_use]
pub fn notice(o: &Observation, keys: LogKeys) -> Option<Notice> {
    Some(match o {
        // The first is routine; what the second sets is a condition, which has a line of its own.
        Observation::Statement(_) | Observation::ProbeArrived { .. } | Observation::ProbeLost { .. } => return None,
        Observation::Started { config, mode } => Notice::info(
            "started",
            format!("pgevict {} started: mode {}, configuration {}", crate_version(), mode.as_str(), one_line(config)),
        ),
        Observation::Stopping { why } => Notice::info("stopping", format!("stopping: {}", one_line(why))),
        Observation::Stopped => Notice::info("stopped", "stopped".into()),
        Observation::Connected { server, to, version } => Notice::info(
            "connected",
            format!("{} connected: {}, version {}", server.as_str(), one_line(to), one_line(version)),
        )
        .repeating(server.as_str()),
        Observation::Disconnected { server, why, retry_in } => Notice::warn(
            "disconnected",
            format!("{} down: {}; next try in {}", server.as_str(), one_line(why), millis(*retry_in)),
        )
        .repeating(&format!("{}:{why}", server.as_str())),
        Observation::Resumed { position } => {
            Notice::info("resumed", format!("delivery goes on from position {}", one_line(position))).repeating("")
        }
        Observation::PositionMoved { found } => Notice::warn(
            "position_moved",
            format!(
                "the position in Redis is not the one that was written here: {}; it is read again",
                one_line(found)
            ),
        )
        .repeating(""),
        Observation::FlushBegun { caches, reason } => {
            Notice::warn("flush_begun", format!("flush of {}: {}", names(caches), flush_reason(reason)))
        }
        Observation::FlushDone { caches, deleted, took } => {
            Notice::info("flush_done", format!("flushed {}: {deleted} deleted (took={})", names(caches), millis(*took)))
        }
        Observation::PassDone { patterns, scanned, deleted, took } => Notice::info(
            "pass_done",
            format!(
                "SCAN pass for {patterns} patterns: {scanned} keys looked at, {deleted} deleted (took={})",
                millis(*took)
            ),
        )
        .at(LogLevel::Debug),
        Observation::Index { state: "full", .. } => Notice::warn(
            "index",
            "the key index is full and was dropped: patterns are found by SCAN until the next session; raise \
             limits.index_memory, or say `index = false` on the caches with the most keys"
                .to_owned(),
        ),
        Observation::Index { state: "broken", .. } => Notice::info(
            "index",
            "the key index is filled again: Redis reported that any key may have changed; patterns are found by SCAN meanwhile"
                .to_owned(),
        )
        .at(LogLevel::Debug),
        Observation::Index { keys: count, bytes, took, .. } => Notice::info(
            "index",
            format!("the key index is live: {count} keys in {} kB (took={}); patterns need no SCAN now", bytes / 1000, millis(*took)),
        ),
        Observation::OverLimit { cache, pattern, matched, refused } => {
            let pattern = shown(pattern, keys).map(|p| format!("{p} of ")).unwrap_or_default();
            let then = if *refused {
                format!(
                    "it is refused (over_limit = \"refuse\"); `pgevict evict {0} --all` evicts it by hand",
                    one_line(cache)
                )
            } else {
                "deletes go on in slices".to_owned()
            };
            Notice::warn(
                "over_limit",
                format!(
                    "{pattern}cache {} matches {matched} keys, more than limits.max_keys_per_change: {then}",
                    one_line(cache)
                ),
            )
            .at(if *refused { LogLevel::Error } else { LogLevel::Warn })
            .repeating(cache)
        }
        Observation::UnknownCache { table, cache } => {
            let (table, cache) = (one_line(&table.to_string()), one_line(cache));
            Notice::warn(
                "unknown_cache",
                format!(
                    "a change of {table} names the cache {cache}, which the configuration does not have (any more): \
                     nothing is evicted for it; `pgevict sql apply` brings the triggers up to date"
                ),
            )
            .repeating(&format!("{table}:{cache}"))
        }
        Observation::Warmed { cache, key, outcome, why, took } => warmed(cache, key, *outcome, why.as_deref(), *took, keys),
        Observation::WarmsDropped { cache, keys } => {
            let cache = one_line(cache);
            let text = format!("warm {cache}: {keys} of the keys that went at once do not fit in the queue (warm.queue); the next readers fill them");
            Notice::warn("warms_dropped", text).repeating(&cache)
        }
        Observation::WarmRests { cache, why } => {
            let cache = one_line(cache);
            let text = format!("warming of {cache} rests, tried again within 30 s: {}", one_line(why));
            Notice::warn("warm_rests", text).repeating(&cache)
        }
        Observation::WarmSchedule { cache, what, keys } => {
            let cache = one_line(cache);
            let text = match what {
                Scheduled::Begun => format!("scheduled warming of {cache}: {keys} keys are named; those that are absent are filled"),
                Scheduled::Done => format!("scheduled warming of {cache}: done"),
                Scheduled::Closed => format!("scheduled warming of {cache}: the window has closed, {keys} keys were not looked at"),
            };
            Notice::info("warm_schedule", text)
        }
        Observation::WarmingPaused { paused: true } => {
            Notice::warn("warming_paused", "an operator paused warming; `pgevict resume --warming` goes on".into())
        }
        Observation::WarmingPaused { paused: false } => Notice::info("warming_paused", "warming goes on".into()),
        Observation::Retired { rows } => {
            Notice::info("retired", format!("retention deleted {rows} journal rows")).at(LogLevel::Debug)
        }
        Observation::QueueDrained => {
            Notice::info("queue_drained", "the NOTIFY queue has drained, writers may ring again".into())
        }
        Observation::Reloaded => Notice::info("reloaded", "the new configuration is live".into()),
        Observation::ReloadRefused { why } => Notice::warn(
            "reload_refused",
            format!("the new configuration is refused, the old one stays live: {}", lines(why)),
        )
        .at(LogLevel::Error),
        Observation::Warning { what, detail } => {
            Notice::warn("warning", format!("{what}: {}", one_line(detail))).repeating(what)
        }
    })
}

/// One line a key: warming is limited by `warm.max_per_second`, and so are its lines. What fails repeats.
fn warmed(cache: &str, key: &[u8], outcome: WarmOutcome, why: Option<&str>, took: Duration, keys: LogKeys) -> Notice {
    let key = shown(key, keys).unwrap_or_else(|| format!("a key of {}", one_line(cache)));
    let why = why.map(|w| format!(": {}", one_line(w))).unwrap_or_default();
    let text = format!("warm {key}: {}{why} (took={})", outcome.as_str(), millis(took));
    match outcome {
        WarmOutcome::Stored | WarmOutcome::Asked | WarmOutcome::Empty => Notice::info("warmed", text),
        WarmOutcome::Present => Notice::info("warmed", text).at(LogLevel::Debug),
        WarmOutcome::Retried => Notice::info("warm_retried", text).at(LogLevel::Debug),
        WarmOutcome::Refused | WarmOutcome::Failed | WarmOutcome::Dropped => {
            Notice::warn("not_warmed", format!("{text}; the next reader fills it")).repeating(cache)
        }
    }
}

/// A condition that was set, or whose text changed; None where a report of its own (`Started`, `Disconnected`,
/// `FlushBegun`) has said it already.
#[must_use]
pub fn not_ready(condition: &Condition, why: &str) -> Option<Notice> {
    let routine = matches!(condition, Condition::Starting | Condition::Down(_) | Condition::Flushing);
    if routine || (*condition == Condition::Probe && why == PROBE_UNDER_WAY) {
        return None;
    }
    let text = format!("not ready: {}: {}", condition_words(condition), one_line(why));
    Some(Notice::warn("not_ready", text.clone()).repeating(&text))
}

/// The last condition is cleared.
#[must_use]
pub fn ready() -> Notice {
    Notice::info("ready", "ready".into()).repeating("")
}

/// The trigger of a table failed, or a journal row could not be read.
#[must_use]
pub fn degraded(table: &str, note: Option<&str>, poison: bool) -> Notice {
    let (table, note) = (one_line(table), one_line(note.unwrap_or("no reason recorded")));
    let text = if poison {
        format!(
            "a journal row of {table} cannot be read ({note}): everything it could concern was evicted instead; \
             `pgevict sql diff` shows whether triggers and configuration fit"
        )
    } else {
        format!(
            "the trigger of {table} could not name the rows ({note}): the caches concerned were evicted whole instead; \
             `pgevict check` and `pgevict sql apply` mend it"
        )
    };
    Notice::warn(if poison { "poison" } else { "degraded" }, text).repeating(&table)
}

/// A condition for people.
#[must_use]
pub fn condition_words(c: &Condition) -> String {
    let edge = |table: &dyn std::fmt::Display, cache: &str| one_line(&format!("{table} → {cache}"));
    match c {
        Condition::Starting => "starting".into(),
        Condition::Down(server) => format!("{} down", server.as_str()),
        Condition::SchemaMissing => "pgevict's schema is missing".into(),
        Condition::NotLive { table, cache } => format!("{} is not live", edge(table, cache)),
        Condition::Standby => "standby".into(),
        Condition::Refused { table, cache } => format!("{} was refused", edge(table, cache)),
        Condition::Gap => "gap".into(),
        Condition::Flushing => "flushing".into(),
        Condition::Probe => "the last probe did not arrive".into(),
        Condition::Paused => "paused".into(),
    }
}

/// A condition for programs: the label of `pgevict_condition` and `condition` in JSON.
#[must_use]
pub fn condition_code(c: &Condition) -> &'static str {
    use super::event::Server;
    match c {
        Condition::Starting => "starting",
        Condition::Down(Server::Postgres) => "postgres_down",
        Condition::Down(Server::Redis) => "redis_down",
        Condition::SchemaMissing => "schema_missing",
        Condition::NotLive { .. } => "not_live",
        Condition::Standby => "standby",
        Condition::Refused { .. } => "refused",
        Condition::Gap => "gap",
        Condition::Flushing => "flushing",
        Condition::Probe => "probe",
        Condition::Paused => "paused",
    }
}

/// The reason that nobody sets: a loop that stands still cannot. [`super::Observer`] finds it by the missing beat.
pub const STUCK: &str = "stuck";

/// All that [`condition_code`] gives, and [`STUCK`].
pub const CONDITION_CODES: [&str; 12] = [
    "starting",
    "postgres_down",
    "redis_down",
    "schema_missing",
    "not_live",
    "standby",
    "refused",
    "gap",
    "flushing",
    "probe",
    "paused",
    STUCK,
];

/// Why caches are flushed, for people.
#[must_use]
pub fn flush_reason(r: &FlushReason) -> String {
    match r {
        FlushReason::NoPosition => {
            "Redis holds no position (first start, FLUSHALL, or Redis evicted or lost the key)".into()
        }
        FlushReason::PositionTooOld => "the position is older than what the journal still has".into(),
        FlushReason::Fork(found) => {
            format!("PostgreSQL's history forked or crashed, commits may be lost: {}", one_line(found))
        }
        FlushReason::Unproven => "edges that are new, changed, newly live or newly enforced".into(),
        FlushReason::Ddl(found) => format!("DDL that fires no trigger may have changed rows: {}", one_line(found)),
        FlushReason::LostCaptures(n) => format!("{n} captures could not be written to the journal"),
        FlushReason::Gap(why) => format!("changes may have been missed: {}", one_line(why)),
        FlushReason::Again => "once more after repeat_after, against fills that were under way".into(),
        FlushReason::Operator => "an operator asked".into(),
    }
}

/// Why caches are flushed, for programs.
#[must_use]
pub fn flush_code(r: &FlushReason) -> &'static str {
    match r {
        FlushReason::NoPosition => "no_position",
        FlushReason::PositionTooOld => "position_too_old",
        FlushReason::Fork(_) => "fork",
        FlushReason::Unproven => "unproven",
        FlushReason::Ddl(_) => "ddl",
        FlushReason::LostCaptures(_) => "lost_captures",
        FlushReason::Gap(_) => "gap",
        FlushReason::Again => "again",
        FlushReason::Operator => "operator",
    }
}

/// The version that logs, metrics and JSON name.
#[must_use]
pub fn crate_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn names(caches: &[String]) -> String {
    if caches.is_empty() { "all caches".to_owned() } else { one_line(&caches.join(", ")) }
}

/// A report of several lines: line breaks stay, the rest is escaped.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(one_line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::event::Server;
    use super::*;
    use crate::config::model::{Mode, TableName};
    use std::time::Duration;

    #[track_caller]
    fn check(o: Observation, level: LogLevel, expected: &str) {
        let n = notice(&o, LogKeys::Full).unwrap();
        assert_eq!((n.level, n.text.as_str()), (level, expected));
    }

    fn calls() -> TableName {
        TableName { schema: "public".into(), name: "calls".into() }
    }

    #[test]
    fn what_happens_to_the_daemon_is_info() {
        let started = Observation::Started { config: "/etc/pgevict/config.toml".into(), mode: Mode::Observe };
        let text = format!(
            "pgevict {} started: mode observe, configuration /etc/pgevict/config.toml",
            env!("CARGO_PKG_VERSION")
        );
        check(started, LogLevel::Info, &text);
        check(Observation::Stopping { why: "SIGTERM".into() }, LogLevel::Info, "stopping: SIGTERM");
        check(Observation::Stopped, LogLevel::Info, "stopped");
        check(Observation::Reloaded, LogLevel::Info, "the new configuration is live");
        check(
            Observation::Connected { server: Server::Redis, to: "redis://h:6379/0".into(), version: "7.0.15".into() },
            LogLevel::Info,
            "Redis connected: redis://h:6379/0, version 7.0.15",
        );
        check(
            Observation::Resumed { position: "5:9:7".into() },
            LogLevel::Info,
            "delivery goes on from position 5:9:7",
        );
    }

    #[test]
    fn failures_that_are_retried_are_warnings() {
        check(
            Observation::Disconnected {
                server: Server::Postgres,
                why: "connection refused\nIs it running?".into(),
                retry_in: Duration::from_millis(1500),
            },
            LogLevel::Warn,
            "PostgreSQL down: connection refused\\nIs it running?; next try in 1500ms",
        );
        check(
            Observation::Warning { what: "admin socket", detail: "taken".into() },
            LogLevel::Warn,
            "admin socket: taken",
        );
        check(
            Observation::FlushBegun { caches: vec![], reason: FlushReason::NoPosition },
            LogLevel::Warn,
            "flush of all caches: Redis holds no position (first start, FLUSHALL, or Redis evicted or lost the key)",
        );
        check(
            Observation::FlushDone { caches: vec!["a".into(), "b".into()], deleted: 12, took: Duration::from_secs(1) },
            LogLevel::Info,
            "flushed a, b: 12 deleted (took=1000ms)",
        );
    }

    #[test]
    fn what_was_given_up_is_an_error() {
        check(
            Observation::ReloadRefused { why: "error[PE001]: bad\n  --> config.toml:3\n".into() },
            LogLevel::Error,
            "the new configuration is refused, the old one stays live: error[PE001]: bad\n  --> config.toml:3",
        );
        let over = |refused| Observation::OverLimit {
            cache: "stats".into(),
            pattern: b"stats:*".to_vec(),
            matched: 100_001,
            refused,
        };
        let start = "stats:* of cache stats matches 100001 keys, more than limits.max_keys_per_change: ";
        check(over(false), LogLevel::Warn, &format!("{start}deletes go on in slices"));
        let refused = "it is refused (over_limit = \"refuse\"); `pgevict evict stats --all` evicts it by hand";
        check(over(true), LogLevel::Error, &format!("{start}{refused}"));
        let hidden = notice(&over(false), LogKeys::None).unwrap().text;
        assert!(hidden.starts_with("cache stats matches"), "{hidden}");
    }

    #[test]
    fn repeats_are_told_apart_by_what_they_are_about() {
        let lost = |why: &str| {
            let o = Observation::Disconnected { server: Server::Redis, why: why.into(), retry_in: Duration::ZERO };
            notice(&o, LogKeys::Full).unwrap().repeat_key
        };
        assert_eq!(lost("refused"), lost("refused"));
        assert_ne!(lost("refused"), lost("WRONGPASS"));
        let warning = |detail: &str| {
            notice(&Observation::Warning { what: "slow", detail: detail.into() }, LogKeys::Full).unwrap().repeat_key
        };
        assert_eq!(warning("1"), warning("2"));
        assert_eq!(notice(&Observation::Stopped, LogKeys::Full).unwrap().repeat_key, None);
    }

    #[test]
    fn conditions_and_reasons_have_words_and_codes() {
        let edge = Condition::NotLive { table: calls(), cache: "dash".into() };
        assert_eq!(
            not_ready(&edge, "no trigger; run `pgevict sql apply`").unwrap().text,
            "not ready: calls → dash is not live: no trigger; run `pgevict sql apply`"
        );
        assert_eq!(not_ready(&Condition::Down(Server::Redis), "refused"), None);
        let refused = Condition::Refused { table: calls(), cache: "dash".into() };
        let all = [
            Condition::Starting,
            Condition::Down(Server::Postgres),
            Condition::Down(Server::Redis),
            Condition::SchemaMissing,
            edge,
            Condition::Standby,
            refused,
            Condition::Gap,
            Condition::Flushing,
            Condition::Probe,
            Condition::Paused,
        ];
        assert_eq!(all.each_ref().map(condition_code)[..], CONDITION_CODES[..11]);
        assert_eq!(flush_code(&FlushReason::Fork("timeline 2".into())), "fork");
        assert_eq!(flush_reason(&FlushReason::LostCaptures(3)), "3 captures could not be written to the journal");
    }

    #[test]
    fn long_texts_are_cut_and_stay_on_their_line() {
        let n = not_ready(&Condition::Gap, &"é\n".repeat(5_000)).unwrap().text;
        assert!(n.ends_with('…') && n.chars().count() < 2_200 && !n.contains('\n'), "{}", n.len());
        assert_eq!(one_line(&"x".repeat(1_000)), "x".repeat(1_000));
    }
}
