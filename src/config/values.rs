//! Values of rows: what PostgreSQL would print, from what TOML spells.

use super::codes;
use super::problem::{Place, Problem};
use super::reader::Reader;
use toml::Spanned;
use toml::de::DeValue;

/// A value of `when`: a text, number or boolean.
pub(super) fn condition(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>, path: &str) -> Option<String> {
    match value.get_ref() {
        DeValue::Array(_) | DeValue::Table(_) => {
            let message = format!("`{path}` wants texts, numbers, true or false");
            let help = "NULL cannot be a value of `when`: a row counts where the column has one of the values";
            reader.push(Problem::error(codes::WRONG_TYPE, Place::Span(value.span()), message).help(help));
            None
        }
        _ => scalar(reader, value, path),
    }
}

/// A value of a row: also `{ null = true }`.
#[expect(clippy::option_option, reason = "NULL is a value; the outer None is a reported problem")]
pub(super) fn row(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>, path: &str) -> Option<Option<String>> {
    match value.get_ref() {
        DeValue::Table(t) if t.len() == 1 && t.get("null").and_then(|v| v.get_ref().as_bool()) == Some(true) => {
            Some(None)
        }
        DeValue::Array(_) | DeValue::Table(_) => {
            let message = format!("`{path}` is no value of a column");
            reader.push(
                Problem::error(codes::TEST_VALUE, Place::Span(value.span()), message)
                    .help("NULL is written { null = true }; json and arrays as the text that PostgreSQL prints"),
            );
            None
        }
        _ => scalar(reader, value, path).map(Some),
    }
}

/// Texts verbatim, numbers as spelled, `true`/`false`, dates as spelled.
fn scalar(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>, path: &str) -> Option<String> {
    let spelled = || reader.source.get(value.span()).unwrap_or_default();
    match value.get_ref() {
        DeValue::String(s) => Some(s.to_string()),
        DeValue::Boolean(b) => Some(b.to_string()),
        DeValue::Datetime(_) => Some(spelled().to_owned()),
        DeValue::Integer(i) if i.radix() != 10 => {
            let place = Place::Span(value.span());
            let decimal = i128::from_str_radix(i.as_str(), i.radix()).map(|n| n.to_string()).unwrap_or_default();
            let problem = reader.error(codes::BAD_NUMBER, &place, format!("`{path}` is not written in decimal"));
            if !decimal.is_empty() {
                problem.help.push(format!("write {decimal}"));
            }
            None
        }
        // PostgreSQL's names of the three values that are no numbers.
        DeValue::Float(_) if spelled().ends_with("nan") => Some("NaN".into()),
        DeValue::Float(_) if spelled() == "-inf" => Some("-Infinity".into()),
        DeValue::Float(_) if spelled().ends_with("inf") => Some("Infinity".into()),
        DeValue::Integer(_) | DeValue::Float(_) => {
            let plain = spelled().replace('_', "");
            Some(plain.strip_prefix('+').unwrap_or(&plain).to_owned())
        }
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
