//! Where lines go: text for people, one JSON object a line, or journald. All on stderr (or the journal's socket):
//! stdout belongs to the result of a command.

use super::clock::rfc3339;
use super::event::Statement;
use super::limit::deleted_and_absent;
use super::notices::Notice;
use crate::config::model::{Log, LogFormat, LogLevel};
use std::fmt;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{filter, reload};

/// Events of this target are printed, those of libraries are not: only this room knows what may be shown.
const TARGET: &str = "pgevict";

/// Changes the level while the program runs.
#[derive(Debug, Clone)]
pub struct LogHandle(reload::Handle<LevelFilter, Registry>);

impl LogHandle {
    /// Takes the level of a new configuration. A new format takes a restart; a new `keys` is the observer's.
    pub fn set(&self, log: &Log) {
        // Fails only when the subscriber is gone, and then nothing is printed anyway.
        let _ = self.0.reload(level_filter(log.level));
    }
}

/// Sends events to where `[log]` wants them, for the whole process.
///
/// Where journald is wanted and does not answer, lines go to stderr as JSON, and the first one says so.
///
/// # Errors
/// It was called before.
pub fn init(log: &Log) -> Result<LogHandle, String> {
    let (level, handle) = reload::Layer::new(level_filter(log.level));
    let ours = filter::filter_fn(|meta| meta.target() == TARGET);
    let registry = Registry::default().with(level);
    let stderr = std::io::stderr();
    let terminal = stderr.is_terminal();
    let format = choose(log.format, std::env::var("JOURNAL_STREAM").ok().as_deref(), stderr_id(), terminal);
    let (journal, missing) = match (format == LogFormat::Journald).then(tracing_journald::layer) {
        Some(Ok(layer)) => (Some(journald(layer)), None),
        Some(Err(e)) => (None, Some(e)),
        None => (None, None),
    };
    let result = match (format, journal) {
        (_, Some(layer)) => registry.with(layer.with_filter(ours)).try_init(),
        // A reader that has gone away (`2>&1 | head`) must not stop evictions: errors of writing are not reported.
        (LogFormat::Json | LogFormat::Journald, None) => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_target(false)
                    .with_writer(std::io::stderr)
                    .log_internal_errors(false)
                    .with_filter(ours),
            )
            .try_init(),
        (LogFormat::Text | LogFormat::Auto, None) => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .event_format(TextFormat)
                    .with_ansi(terminal && colour(std::env::var_os("NO_COLOR").as_deref()))
                    .with_writer(std::io::stderr)
                    .log_internal_errors(false)
                    .with_filter(ours),
            )
            .try_init(),
    };
    result.map_err(|e| e.to_string())?;
    if let Some(e) = missing {
        let text = format!(
            "journald does not answer ({e}), so lines go to stderr as JSON; set log.format where there is none"
        );
        notice(&Notice::warn("warning", text));
    }
    Ok(LogHandle(handle))
}

/// Writes a statement's line; its numbers are fields.
pub(super) fn statement(s: &Statement, text: &str) {
    let (deleted, absent) = deleted_and_absent(s);
    let keys = s.keys.len() as u64 + s.more_keys;
    let took_ms = u64::try_from(s.took.as_millis()).unwrap_or(u64::MAX);
    let lag_ms = (!s.again).then(|| u64::try_from(s.lag.as_millis()).unwrap_or(u64::MAX));
    let table = s.table.to_string();
    let op = s.op.as_str();
    tracing::info!(target: TARGET, event = "evict", table, op, keys, deleted, absent, lag_ms, took_ms, "{text}");
}

/// Writes a notice.
pub(super) fn notice(n: &Notice) {
    let (event, text) = (n.event, &n.text);
    match n.level {
        LogLevel::Error => tracing::error!(target: TARGET, event, "{text}"),
        LogLevel::Warn => tracing::warn!(target: TARGET, event, "{text}"),
        LogLevel::Info => tracing::info!(target: TARGET, event, "{text}"),
        LogLevel::Debug => tracing::debug!(target: TARGET, event, "{text}"),
    }
}

/// `auto` is journald where stderr is the journal's stream, text on a terminal, JSON otherwise. systemd names the
/// stream by device and inode, so that a redirected stderr is not mistaken for it.
fn choose(wanted: LogFormat, stream: Option<&str>, stderr: Option<(u64, u64)>, terminal: bool) -> LogFormat {
    let journal = || {
        let (device, inode) = stream?.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    };
    match wanted {
        LogFormat::Auto if stderr.is_some() && journal() == stderr => LogFormat::Journald,
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        other => other,
    }
}

fn stderr_id() -> Option<(u64, u64)> {
    let stat = nix::sys::stat::fstat(std::io::stderr().as_fd()).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// <https://no-color.org>: any value but the empty one.
fn colour(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Info is the journal's info (6), not its notice (5), which the crate would make of it: `journalctl -p notice` is to
/// show what an operator should look at. Fields are `PGEVICT_TABLE` and so on.
fn journald(layer: tracing_journald::Layer) -> tracing_journald::Layer {
    use tracing_journald::{Priority, PriorityMappings};
    layer
        .with_field_prefix(Some("PGEVICT".to_owned()))
        .with_syslog_identifier("pgevict".to_owned())
        .with_priority_mappings(PriorityMappings {
            error: Priority::Error,
            warn: Priority::Warning,
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
        })
}

/// `2026-11-20T12:00:00.123Z INFO  evict …`: time, level, message; the fields stand in the message already.
struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => ("WARN ", "33"),
            Level::INFO => ("INFO ", "32"),
            _ => ("DEBUG", "34"),
        };
        let time = rfc3339(SystemTime::now());
        if w.has_ansi_escapes() {
            writeln!(w, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{word}\x1b[0m {}", message.0)
        } else {
            writeln!(w, "{time} {word} {}", message.0)
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::words::tests::{k, update};
    use super::*;
    use crate::observe::event::Outcome;
    use std::sync::{Arc, Mutex};

    #[test]
    fn auto_looks_where_stderr_goes() {
        let check = |stream, stderr, terminal, expected| {
            assert_eq!(choose(LogFormat::Auto, stream, stderr, terminal), expected, "{stream:?} {stderr:?} {terminal}");
        };
        check(Some("8:42"), Some((8, 42)), false, LogFormat::Journald);
        check(Some("8:42"), Some((8, 43)), false, LogFormat::Json);
        check(Some("8:42"), Some((8, 43)), true, LogFormat::Text);
        check(Some("nonsense"), Some((8, 42)), false, LogFormat::Json);
        check(Some("8:42"), None, false, LogFormat::Json);
        check(None, None, false, LogFormat::Json);
        check(None, Some((8, 42)), true, LogFormat::Text);
        assert_eq!(choose(LogFormat::Json, Some("8:42"), Some((8, 42)), true), LogFormat::Json);
    }

    #[test]
    fn no_color_is_respected() {
        assert!(colour(None));
        assert!(colour(Some("".as_ref())));
        assert!(!colour(Some("1".as_ref())));
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn some_lines() {
        let mut s = update();
        s.keys = vec![k("a:7", Outcome::Deleted(1)), k("b:7:*", Outcome::Absent)];
        statement(&s, "evict calls.update user_id=7: a:7 deleted, b:7:* absent (lag=8ms took=3ms)");
        notice(&Notice::warn("disconnected", "Redis is away".into()));
        notice(&Notice::info("x", "fine".into()).at(LogLevel::Debug));
        tracing::error!(target: "somebody_else", "not ours");
    }

    /// What `work` logs at level info, as text without the time.
    pub(crate) fn logged(work: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(TextFormat)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(filter::filter_fn(|meta| meta.target() == TARGET));
        tracing::subscriber::with_default(Registry::default().with(LevelFilter::INFO).with(layer), work);
        sink.text().lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn text_is_time_level_and_message() {
        assert_eq!(
            logged(some_lines),
            ["INFO  evict calls.update user_id=7: a:7 deleted, b:7:* absent (lag=8ms took=3ms)", "WARN  Redis is away"]
        );
    }

    #[test]
    fn json_has_the_numbers_as_fields() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), some_lines);
        let text = sink.text();
        let v: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(v["timestamp"].is_string());
        assert_eq!((v["level"].as_str(), v["event"].as_str()), (Some("INFO"), Some("evict")));
        assert_eq!((v["table"].as_str(), v["op"].as_str()), (Some("calls"), Some("update")));
        let numbers = ["keys", "deleted", "absent", "lag_ms", "took_ms"].map(|f| v[f].as_u64());
        assert_eq!(numbers, [Some(2), Some(1), Some(1), Some(8), Some(3)]);
        assert!(v["message"].as_str().unwrap().starts_with("evict calls.update"));
    }

    #[test]
    fn the_level_can_change_while_it_runs() {
        let sink = Sink::default();
        let writer = sink.clone();
        let (level, handle) = reload::Layer::new(level_filter(LogLevel::Error));
        let layer = tracing_subscriber::fmt::layer()
            .event_format(TextFormat)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(level).with(layer), || {
            some_lines();
            assert!(!sink.text().contains("Redis is away"));
            let log =
                Log { format: LogFormat::Text, keys: crate::config::model::LogKeys::Full, level: LogLevel::Debug };
            LogHandle(handle).set(&log);
            some_lines();
        });
        assert!(sink.text().contains("DEBUG fine"));
    }
}
