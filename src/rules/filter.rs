//! Filters of a hole: `{email|trim|lower}` runs `trim`, then `lower`, on the value PostgreSQL named.

use md5::Digest as _;

/// One filter. They run in the daemon, left to right, on the text of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filter {
    /// Unicode default lower casing.
    Lower,
    /// Unicode default upper casing.
    Upper,
    /// Unicode white space is cut from both ends.
    Trim,
    /// The UTC day (`2026-11-20`) of a timestamptz, timestamp or date.
    Date,
    /// Hex MD5 of the bytes.
    Md5,
    /// Hex SHA-1 of the bytes.
    Sha1,
    /// Hex SHA-256 of the bytes.
    Sha256,
    /// Braces around the value: a Redis Cluster hash tag.
    Tag,
}

/// A value that a filter cannot work on; only [`Filter::Date`] has such values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotADate;

impl Filter {
    /// Every filter with its name in a template.
    pub const ALL: [(&'static str, Self); 8] = [
        ("lower", Self::Lower),
        ("upper", Self::Upper),
        ("trim", Self::Trim),
        ("date", Self::Date),
        ("md5", Self::Md5),
        ("sha1", Self::Sha1),
        ("sha256", Self::Sha256),
        ("tag", Self::Tag),
    ];

    /// The filter of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
    }

    /// Applies the filter. Text filters leave bytes that are not UTF-8 as they are.
    ///
    /// # Errors
    /// [`NotADate`] when `date` meets text that does not begin with a day as PostgreSQL writes it.
    pub fn apply(self, value: Vec<u8>) -> Result<Vec<u8>, NotADate> {
        let text = |value: Vec<u8>, f: fn(&str) -> String| match std::str::from_utf8(&value) {
            Ok(s) => f(s).into_bytes(),
            Err(_) => value,
        };
        Ok(match self {
            Self::Lower => text(value, str::to_lowercase),
            Self::Upper => text(value, str::to_uppercase),
            Self::Trim => text(value, |s| s.trim().to_owned()),
            Self::Date => utc_day(&value).ok_or(NotADate)?,
            Self::Md5 => hex(&md5::Md5::digest(&value)),
            Self::Sha1 => hex(&sha1::Sha1::digest(&value)),
            Self::Sha256 => hex(&sha2::Sha256::digest(&value)),
            Self::Tag => [b"{", value.as_slice(), b"}"].concat(),
        })
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
}

/// The day in PostgreSQL's ISO output: `2026-11-20 23:59:59.5+00`, `2026-11-20`, `0044-03-15 BC`, `infinity`. Years
/// may have more than four digits. Triggers write it under `TimeZone = UTC`; on the command line and in tests people
/// write other offsets, and `T` instead of the blank.
fn utc_day(value: &[u8]) -> Option<Vec<u8>> {
    let s = std::str::from_utf8(value).ok()?.trim();
    if s == "infinity" || s == "-infinity" {
        return Some(s.as_bytes().to_vec());
    }
    let (day, time) = s.split_once([' ', 'T']).unwrap_or((s, ""));
    let mut parts = day.split('-');
    let digits = |p: Option<&str>, n: std::ops::RangeInclusive<usize>| {
        p.filter(|p| n.contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok()
    };
    let date = (digits(parts.next(), 4..=7)?, digits(parts.next(), 2..=2)?, digits(parts.next(), 2..=2)?);
    if parts.next().is_some() {
        return None;
    }
    let era = if s.ends_with(" BC") { " BC" } else { "" };
    let days = days_to_utc(time)?;
    if days == 0 {
        return Some(format!("{day}{era}").into_bytes());
    }
    if !era.is_empty() {
        // Nobody's cache holds it, and years before Christ count backwards.
        return None;
    }
    let (year, month, date) = shifted(date, days);
    Some(format!("{year:04}-{month:02}-{date:02}").into_bytes())
}

/// By how many days UTC is away from a local time such as `23:30:00.5-02`: -1, 0 or 1. None where the offset cannot be
/// understood.
fn days_to_utc(time: &str) -> Option<i64> {
    let Some(at) = time.find(['+', '-']) else { return Some(0) };
    let seconds = |text: &str| {
        let parts: Option<Vec<i64>> = text.split(':').map(|p| p.parse().ok().filter(|n| (0..60).contains(n))).collect();
        match parts?.as_slice() {
            [h] => Some(h * 3600),
            [h, m] => Some(h * 3600 + m * 60),
            [h, m, s] => Some(h * 3600 + m * 60 + s),
            _ => None,
        }
    };
    let (clock, offset) = time.split_at(at);
    let east = if offset.starts_with('-') { -1 } else { 1 };
    let offset = seconds(offset[1..].trim_end_matches(" BC"))? * east;
    if offset == 0 {
        return Some(0);
    }
    let clock = seconds(clock.split('.').next().unwrap_or_default().trim())?;
    Some((clock - offset).div_euclid(86_400))
}

/// The Gregorian date one day (`days` is 1 or -1) after or before.
fn shifted((year, month, date): (i64, i64, i64), days: i64) -> (i64, i64, i64) {
    let length = |year: i64, month: i64| match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    match (month, date + days) {
        (1, 0) => (year - 1, 12, 31),
        (_, 0) => (year, month - 1, length(year, month - 1)),
        (12, d) if d > 31 => (year + 1, 1, 1),
        (_, d) if d > length(year, month) => (year, month + 1, 1),
        (_, d) => (year, month, d),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, input: &str, expected: &str) {
        let f = Filter::named(filter).unwrap();
        assert_eq!(String::from_utf8(f.apply(input.into()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn filters_do_what_their_names_say() {
        check("lower", "ÄÖ İ", "äö i\u{307}");
        check("upper", "straße", "STRASSE");
        check("trim", " \ta b\u{a0}", "a b");
        check("date", "2026-11-20 23:59:59.123+00", "2026-11-20");
        check("date", "2026-11-20T23:59:59Z", "2026-11-20");
        check("date", "12026-11-20", "12026-11-20");
        check("date", "0044-03-15 12:00:00 BC", "0044-03-15 BC");
        check("date", "infinity", "infinity");
        check("date", "2026-12-31 23:30:00-02", "2027-01-01");
        check("date", "2028-03-01T00:15:00.5+05:30", "2028-02-29");
        check("date", "2026-11-20 12:00:00+05:30", "2026-11-20");
        check("md5", "a", "0cc175b9c0f1b6a831c399e269772661");
        check("sha1", "a", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8");
        check("sha256", "a", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
        check("tag", "42", "{42}");
    }

    #[test]
    fn what_is_no_date_is_said_to_be_none() {
        for bad in [
            "",
            "yesterday",
            "2026-1-1",
            "20/11/2026",
            "2026-11-20-01",
            "2026-11-20 1h+02",
            "0044-03-15 00:30:00+02 BC",
        ] {
            assert_eq!(Filter::Date.apply(bad.into()), Err(NotADate), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_text_filters_unchanged() {
        assert_eq!(Filter::Lower.apply(vec![0xff, b'A']).unwrap(), vec![0xff, b'A']);
    }
}
