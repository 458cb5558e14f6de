//! `pgevict explain`: which keys a change of a row evicts, and why, without servers.

use super::{Common, Output, exit::Exit, load};
use crate::config::model::{Config, Mode, Row, TableName};
use crate::config::scalar::nearest;
use crate::rules::evaluate::{self, Evaluation, Event, SkipReason};
use crate::rules::layout::layouts;
use crate::rules::template::Rendered;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Arguments of `pgevict explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The table, as the configuration names it
    pub table: String,
    /// The row before the change: a JSON object, column → value as PostgreSQL casts it to text; without --new: DELETE
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub old: Option<String>,
    /// The row after the change; without --old: INSERT
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub new: Option<String>,
    /// Explain TRUNCATE
    #[arg(long, conflicts_with_all = ["old", "new"])]
    pub truncate: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: Args, common: &Common) -> Exit {
    let loaded = match load::load(common) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = &loaded.config;
    let evaluation = table(config, &args.table).and_then(|table| {
        let image = |name, text: &Option<String>| text.as_deref().map(|t| row(name, t)).transpose();
        let (old, new) = (image("--old", &args.old)?, image("--new", &args.new)?);
        let event = Event::from_images(old.as_ref(), new.as_ref(), args.truncate)
            .ok_or_else(|| "give --old, --new or both, or --truncate".to_owned())?;
        let evaluation = evaluate::evaluate(config, &table, event).map_err(|e| e.to_string())?;
        Ok((table, evaluation))
    });
    let (table, evaluation) = match evaluation {
        Ok(found) => found,
        Err(why) => {
            eprintln!("error: {why}");
            return Exit::Usage;
        }
    };
    match common.output {
        Output::Json => load::print_line(&to_json(&evaluation).to_string()),
        Output::Text => print(&evaluation),
    }
    let mode = config.mode_of(&table);
    if mode != Mode::Enforce {
        eprintln!("note: the mode of {table} is {}: nothing is deleted", mode.as_str());
    }
    Exit::Done
}

/// The watched table of that name.
fn table(config: &Config, name: &str) -> Result<TableName, String> {
    let wanted: TableName = name.parse().map_err(|why| format!("`{name}` is no table name: {why}"))?;
    let watched: Vec<TableName> = layouts(config).into_iter().map(|l| l.table).collect();
    if watched.contains(&wanted) {
        return Ok(wanted);
    }
    let names: Vec<String> = watched.iter().map(ToString::to_string).collect();
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("no table `{name}` is watched: did you mean `{near}`?"),
        None if names.is_empty() => format!("no table `{name}` is watched: the configuration has no tables"),
        None => format!("no table `{name}` is watched: there are {}", names.join(", ")),
    })
}

/// Reads a JSON object as a row: texts verbatim, numbers as they are spelled, `true`, `false`, null as NULL.
fn row(option: &str, text: &str) -> Result<Row, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("{option} is not JSON: {e}"))?;
    if !value.is_object() {
        return Err(format!("{option} is not a JSON object, such as {{\"user_id\": 7, \"status\": \"done\"}}"));
    }
    // Once more, undecoded: a `Value` spells the number 1e3 as 1e+3.
    let columns: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).map_err(|e| format!("{option} is not JSON: {e}"))?;
    let cell = |(column, raw): (String, Box<RawValue>)| {
        let text = match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => None,
            Ok(Value::String(s)) => Some(s),
            Ok(Value::Bool(_) | Value::Number(_)) => Some(raw.get().to_owned()),
            Ok(Value::Array(_) | Value::Object(_)) => {
                return Err(format!(
                    "{option}: `{column}` is nested: give the text that PostgreSQL casts the value to, in quotes"
                ));
            }
            Err(e) => return Err(format!("{option}: `{column}` is not JSON: {e}")),
        };
        Ok((column, text))
    };
    columns.into_iter().map(cell).collect()
}

fn print(evaluation: &Evaluation) {
    let lines: Vec<(String, String)> = (evaluation.evict.iter())
        .map(|e| {
            let reasons: Vec<String> = e.reasons.iter().map(ToString::to_string).collect();
            (printable(&e.rendered), format!("{} {}", e.cache, reasons.join("; ")))
        })
        .collect();
    // Past this, one long key would push every reason off the screen.
    let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).min(60);
    for (key, reason) in &lines {
        load::print_line(&format!("{key:width$}  # {reason}"));
    }
    for skipped in &evaluation.skipped {
        let why = match &skipped.reason {
            SkipReason::Null { hole, image } => format!("{hole} is NULL in the {image} row"),
            SkipReason::Exempt { by, rendered } => format!("{} is exempt: {}", printable(rendered), by.as_str()),
        };
        eprintln!("skipped {}: {why}", skipped.cache);
    }
    for other in &evaluation.unaffected {
        let through = other.via.as_ref().map(|t| format!(" through {t}")).unwrap_or_default();
        eprintln!("not concerned {}{through}: by its `{}`", other.cache, other.filter.as_str());
    }
    if lines.is_empty() {
        eprintln!("this {} evicts nothing", evaluation.op.as_str());
    }
}

fn to_json(evaluation: &Evaluation) -> Value {
    let evict = evaluation.evict.iter().map(|e| {
        json!({
            "cache": e.cache,
            "version": e.version,
            "kind": e.rendered.kind().as_str(),
            "key": String::from_utf8_lossy(e.rendered.bytes()),
            "reasons": e.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let skipped = evaluation.skipped.iter().map(|s| match &s.reason {
        SkipReason::Null { hole, image } => json!({
            "cache": s.cache, "reason": s.reason.as_str(), "hole": hole, "image": image.to_string(),
        }),
        SkipReason::Exempt { rendered, .. } => json!({
            "cache": s.cache,
            "reason": s.reason.as_str(),
            "kind": rendered.kind().as_str(),
            "key": String::from_utf8_lossy(rendered.bytes()),
        }),
    });
    let unaffected = evaluation.unaffected.iter().map(
        |u| json!({ "cache": u.cache, "reason": u.filter.as_str(), "via": u.via.as_ref().map(ToString::to_string) }),
    );
    json!({
        "op": evaluation.op.as_str(),
        "evict": evict.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
        "unaffected": unaffected.collect::<Vec<_>>(),
    })
}

/// A key for a terminal: control characters, which could rewrite the line, are escaped.
pub(super) fn printable(rendered: &Rendered) -> String {
    let text = String::from_utf8_lossy(rendered.bytes());
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are_spelled() {
        let r = row("--new", r#"{"a":"x y","b":1.50,"c":-7,"d":true,"e":null,"f":1e3,"g":12345678901234567890123}"#);
        let r = r.unwrap();
        let cells: Vec<_> = r.values().map(Option::as_deref).collect();
        assert_eq!(
            cells,
            [Some("x y"), Some("1.50"), Some("-7"), Some("true"), None, Some("1e3"), Some("12345678901234567890123")]
        );
    }

    #[test]
    fn what_is_no_row_is_refused_in_words() {
        let error = |text| row("--old", text).unwrap_err();
        assert_eq!(
            error(r#"{"tags":["a"]}"#),
            "--old: `tags` is nested: give the text that PostgreSQL casts the value to, in quotes"
        );
        assert!(error("[]").starts_with("--old is not a JSON object"));
        assert!(error("{a:1}").starts_with("--old is not JSON: key must be a string at line 1 column 2"));
    }

    #[test]
    fn a_key_cannot_rewrite_the_line_it_is_printed_on() {
        assert_eq!(printable(&Rendered::Key(b"a\r\x1b[2Jb\xff".to_vec())), "a\\r\\u{1b}[2Jb\u{fffd}");
    }
}
