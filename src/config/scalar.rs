//! Durations, sizes and table names from text.

use super::model::TableName;
use std::time::Duration;

/// Reads `250ms`, `10m`, `1h30m`: whole numbers with units, largest unit first, each at most once.
///
/// # Errors
/// Says what does not fit.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the duration is empty".into());
    }
    let mut total: u64 = 0;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if digits == 0 {
            return Err(match rest.chars().next() {
                Some('.' | ',') => "only whole numbers: `1500ms` instead of `1.5s`".into(),
                Some('-') => "a duration cannot be negative".into(),
                _ => format!("a number is expected at `{rest}`"),
            });
        }
        let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() && rest[digits..].starts_with(['.', ',']) => {
                return Err("only whole numbers: `1500ms` instead of `1.5s`".into());
            }
            None if unit.is_empty() => return Err(format!("`{number}` has no unit: ms, s, m, h, d or w")),
            None => return Err(format!("`{unit}` is no unit: ms, s, m, h, d or w")),
        };
        if factor >= smaller_than {
            return Err("units go from large to small, each once: `1h30m`".into());
        }
        smaller_than = factor;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .and_then(|n| n.checked_add(total))
            .ok_or_else(|| "the duration is too long".to_owned())?;
        rest = rest[digits + letters..].trim_start();
    }
    // A hundred years: what is longer is a slip, and sums of durations cannot overflow below it.
    if total > 100 * 366 * 86_400_000 {
        Err("the duration is too long".into())
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// Reads `1GB`, `512MB`, `64KiB` into bytes.
///
/// # Errors
/// Says what does not fit.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    if digits == 0 {
        return Err(format!("a number is expected at `{text}`"));
    }
    if unit.is_empty() {
        return Err(format!("`{number}` has no unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) else {
        return Err(format!("`{unit}` is no unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor))
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or_else(|| "the size is too large".to_owned())
}

/// Reads a table name as the configuration spells it: `calls`, `shop.Order Lines`, `"my.schema".t`.
///
/// # Errors
/// Says what does not fit.
pub fn table_name(text: &str) -> Result<TableName, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next() {
                    Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => name.push('"'),
                    Some((i, '"')) => break i + 1,
                    Some((_, c)) => name.push(c),
                    None => return Err("a quote is not closed".into()),
                }
            };
            (part, rest) = (name, &quoted[end..]);
            if !rest.is_empty() && !rest.starts_with('.') {
                return Err("a dot is expected after the closing quote".into());
            }
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("a quote stands only around a whole part, doubled inside".into());
            }
            (part, rest) = (rest[..end].to_owned(), &rest[end..]);
        }
        if part.is_empty() {
            return Err("a part of the name is empty".into());
        }
        if part.contains('\0') {
            return Err("a name cannot hold a NUL".into());
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None => break,
        }
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => Ok(TableName { schema: "public".into(), name: name.into() }),
        (Some(schema), Some(name), None) => Ok(TableName { schema: schema.into(), name: name.into() }),
        _ => Err("a name has at most two parts, schema and table".into()),
    }
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        table_name(text)
    }
}

/// The candidate nearest to `name`, where one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= (c.chars().count().max(3) / 3).min(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        let ms = |s: &str| duration(s).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms(" 7d "), Ok(604_800_000));
        assert_eq!(ms("1w 1ms"), Ok(604_800_001));
        for bad in ["", "10", "1.5s", "-1s", "1m1h", "1s1s", "1y", "s", "99999999999999999999s", "1000000d", "1µs"] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("5 mb"), Ok(5_000_000));
        for bad in ["", "1", "GB", "1XB", "99999999999TB", "1.5GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn table_names_are_the_catalogs() {
        let name = |s: &str, n: &str| TableName { schema: s.into(), name: n.into() };
        assert_eq!(table_name("calls"), Ok(name("public", "calls")));
        assert_eq!(table_name("public.calls"), Ok(name("public", "calls")));
        assert_eq!(table_name("shop.Order Lines"), Ok(name("shop", "Order Lines")));
        assert_eq!(table_name("\"my.schema\".t"), Ok(name("my.schema", "t")));
        assert_eq!(table_name("\"a\"\"b\""), Ok(name("public", "a\"b")));
        for bad in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "a\"b\"", "\"\""] {
            assert!(table_name(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(schema in "[a-zA-Z .\"ä]{1,6}", name in "[a-zA-Z .\"ä]{1,6}") {
            let name = TableName { schema: schema.into(), name: name.into() };
            prop_assert_eq!(table_name(&name.to_string()), Ok(name));
        }

        #[test]
        fn reading_never_panics(s in "\\PC{0,12}", t in "[0-9a-zµ .\"]{0,12}") {
            for text in [s, t] {
                let _ = (duration(&text), size(&text), table_name(&text));
            }
        }
    }
}
