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

/// The day in PostgreSQL's ISO output under `TimeZone = UTC`: `2026-11-20 23:59:59.5+00`, `2026-11-20`,
/// `0044-03-15 BC`, `infinity`. Years may have more than four digits. `T` instead of the blank is taken too,
/// because tests and `explain` are written by people.
fn utc_day(value: &[u8]) -> Option<Vec<u8>> {
    let s = std::str::from_utf8(value).ok()?.trim();
    if s == "infinity" || s == "-infinity" {
        return Some(s.as_bytes().to_vec());
    }
    let day = s.split([' ', 'T']).next()?;
    let mut parts = day.split('-');
    let digits = |p: Option<&str>, n: std::ops::RangeInclusive<usize>| {
        p.is_some_and(|p| n.contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let shaped = digits(parts.next(), 4..=7) && digits(parts.next(), 2..=2) && digits(parts.next(), 2..=2);
    if !shaped || parts.next().is_some() {
        return None;
    }
    let era = if s.ends_with(" BC") { " BC" } else { "" };
    Some(format!("{day}{era}").into_bytes())
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
        check("md5", "a", "0cc175b9c0f1b6a831c399e269772661");
        check("sha1", "a", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8");
        check("sha256", "a", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
        check("tag", "42", "{42}");
    }

    #[test]
    fn what_is_no_date_is_said_to_be_none() {
        for bad in ["", "yesterday", "2026-1-1", "20/11/2026", "2026-11-20-01"] {
            assert_eq!(Filter::Date.apply(bad.into()), Err(NotADate), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_text_filters_unchanged() {
        assert_eq!(Filter::Lower.apply(vec![0xff, b'A']).unwrap(), vec![0xff, b'A']);
    }
}
