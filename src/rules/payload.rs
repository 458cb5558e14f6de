//! What a capture wrote, decoded: the tuples of a journal row, or of the slices of a notification.
//!
//! Values stay bytes: a database in `SQL_ASCII` may hold text that is not UTF-8, and keys are bytes anyway. What
//! is read here was written by triggers, but anybody may call NOTIFY: nothing in here panics or allocates more than
//! the input is long, whatever the bytes.

pub mod notify;

use std::fmt;
use tokio_postgres::types::{FromSql, Type};

/// The distinct values that one class of a layout wants to know about one image of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// Index in [`super::layout::Layout::classes`]; `-N-1` means class N whose lookup found no parent row.
    pub class: i32,
    /// The values, padded with None to the width of the layout. None is SQL NULL.
    pub values: Vec<Option<Vec<u8>>>,
}

impl Tuple {
    /// The class's index, and whether its values could be resolved.
    #[must_use]
    pub fn class_index(&self) -> (usize, bool) {
        // `!n` is `-n-1`, which cannot overflow; both arms are not negative.
        let (index, resolved) = if self.class < 0 { (!self.class, false) } else { (self.class, true) };
        (usize::try_from(index).unwrap_or(usize::MAX), resolved)
    }
}

/// How a journal row or a notification names its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// `r`: by tuples.
    Rows,
    /// `w`: whole table by nature.
    Whole,
    /// `x`: whole table, because the capture failed; the row's note says how.
    Degraded,
}

impl RowKind {
    /// Reads the letter of the journal's column `kind`.
    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'r' => Some(Self::Rows),
            b'w' => Some(Self::Whole),
            b'x' => Some(Self::Degraded),
            _ => None,
        }
    }
}

/// What is wrong with a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadError {
    /// The array ends before what its header or an element's length announces; says which.
    Truncated(&'static str),
    /// Bytes are left over behind the last element.
    Trailing(usize),
    /// Not two-dimensional.
    Dimensions(i32),
    /// A negative size or element length.
    Negative(&'static str, i32),
    /// Elements of another type than text; the type's OID.
    ElementType(u32),
    /// A tuple without the element that names its class.
    NoClass,
    /// The class is NULL or not a number that fits 32 bits; the first bytes of it.
    ClassNotANumber(Option<String>),
    /// A notification whose JSON does not have the form of a statement.
    Json(String),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(what) => write!(f, "the tuples end in the middle of {what}"),
            Self::Trailing(n) => write!(f, "{n} bytes follow the last value of the tuples"),
            Self::Dimensions(n) => write!(f, "the tuples are an array of {n} dimensions instead of 2"),
            Self::Negative(what, n) => write!(f, "the tuples give {n} as {what}"),
            Self::ElementType(oid) => write!(f, "the tuples are an array of type {oid} instead of text"),
            Self::NoClass => write!(f, "a tuple does not begin with its class"),
            Self::ClassNotANumber(None) => write!(f, "the class of a tuple is NULL"),
            Self::ClassNotANumber(Some(text)) => write!(f, "`{}` is not the number of a class", text.escape_debug()),
            Self::Json(why) => write!(f, "the notification is not a statement: {why}"),
        }
    }
}

impl std::error::Error for PayloadError {}

/// The undecoded `text[]` of the journal's column `tuples`, for [`tuples`]. NULL is the caller's `Option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT_ARRAY
    }
}

/// Decodes the binary wire form of a two-dimensional `text[]`. An array without elements gives no tuples.
///
/// # Errors
/// The first thing that is wrong; the caller then treats the statement as "whole table".
pub fn tuples(raw: &[u8]) -> Result<Vec<Tuple>, PayloadError> {
    let mut rest = Bytes(raw);
    let dimensions = rest.i32("its header")?;
    // Whether NULLs occur: servers set it, nothing depends on it.
    rest.i32("its header")?;
    let element = u32::from_be_bytes(rest.four("its header")?);
    if dimensions == 0 {
        return rest.end().map(|()| Vec::new());
    }
    if dimensions != 2 {
        return Err(PayloadError::Dimensions(dimensions));
    }
    if element != Type::TEXT.oid() {
        return Err(PayloadError::ElementType(element));
    }
    let count = rest.size("number of tuples")?;
    let width = rest.size("width of a tuple")?;
    // Every element takes four bytes at least: a header that promises more than there is allocates nothing.
    if count.checked_mul(width).is_none_or(|n| n > rest.0.len() / 4) {
        return Err(PayloadError::Truncated("a value"));
    }
    if count > 0 && width == 0 {
        return Err(PayloadError::NoClass);
    }
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let class = class(rest.element()?)?;
        let mut values = Vec::with_capacity(width - 1);
        for _ in 1..width {
            values.push(rest.element()?.map(<[u8]>::to_vec));
        }
        out.push(Tuple { class, values });
    }
    rest.end().map(|()| out)
}

fn class(element: Option<&[u8]>) -> Result<i32, PayloadError> {
    let Some(bytes) = element else { return Err(PayloadError::ClassNotANumber(None)) };
    std::str::from_utf8(bytes).ok().and_then(|s| s.parse().ok()).ok_or_else(|| {
        PayloadError::ClassNotANumber(Some(String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned()))
    })
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn four(&mut self, what: &'static str) -> Result<[u8; 4], PayloadError> {
        let (first, rest) = self.0.split_first_chunk::<4>().ok_or(PayloadError::Truncated(what))?;
        self.0 = rest;
        Ok(*first)
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, PayloadError> {
        self.four(what).map(i32::from_be_bytes)
    }

    /// A dimension: its size; its lower bound is passed over, because tuples are told apart by order alone.
    fn size(&mut self, what: &'static str) -> Result<usize, PayloadError> {
        let size = self.i32(what)?;
        self.i32(what)?;
        usize::try_from(size).map_err(|_| PayloadError::Negative(what, size))
    }

    fn element(&mut self) -> Result<Option<&'a [u8]>, PayloadError> {
        let length = self.i32("a value")?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| PayloadError::Negative("length of a value", length))?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(PayloadError::Truncated("a value"))?;
        self.0 = rest;
        Ok(Some(value))
    }

    fn end(&self) -> Result<(), PayloadError> {
        if self.0.is_empty() { Ok(()) } else { Err(PayloadError::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::IsNull;
    use postgres_protocol::types::{ArrayDimension, array_to_sql};
    use proptest::prelude::*;

    /// Encodes as PostgreSQL does, by an encoder that is not ours.
    fn encoded(dimensions: &[i32], elements: &[Option<Vec<u8>>], oid: u32) -> Vec<u8> {
        let mut out = tokio_postgres::types::private::BytesMut::new();
        array_to_sql(
            dimensions.iter().map(|len| ArrayDimension { len: *len, lower_bound: 1 }),
            oid,
            elements.iter(),
            |e, buf| {
                Ok(match e {
                    Some(bytes) => {
                        buf.extend_from_slice(bytes);
                        IsNull::No
                    }
                    None => IsNull::Yes,
                })
            },
            &mut out,
        )
        .unwrap();
        out.to_vec()
    }

    fn text(s: &str) -> Option<Vec<u8>> {
        Some(s.as_bytes().to_vec())
    }

    #[test]
    fn tuples_come_out_as_the_trigger_put_them_in() {
        let raw = encoded(&[2, 3], &[text("0"), text("7"), None, text("-2"), Some(vec![0xff]), text("")], 25);
        assert_eq!(
            tuples(&raw).unwrap(),
            [
                Tuple { class: 0, values: vec![text("7"), None] },
                Tuple { class: -2, values: vec![Some(vec![0xff]), text("")] },
            ]
        );
        assert_eq!(tuples(&encoded(&[], &[], 25)).unwrap(), []);
        assert_eq!(tuples(&raw).unwrap()[1].class_index(), (1, false));
        assert_eq!(Tuple { class: i32::MIN, values: vec![] }.class_index(), (i32::MAX as usize, false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = encoded(&[1, 2], &[text("0"), text("7")], 25);
        assert_eq!(tuples(&good[..good.len() - 1]), Err(PayloadError::Truncated("a value")));
        assert_eq!(tuples(&[good.as_slice(), b"x"].concat()), Err(PayloadError::Trailing(1)));
        assert_eq!(tuples(&[]), Err(PayloadError::Truncated("its header")));
        assert_eq!(tuples(&encoded(&[1], &[text("0")], 25)), Err(PayloadError::Dimensions(1)));
        assert_eq!(tuples(&encoded(&[1, 1], &[text("0")], 17)), Err(PayloadError::ElementType(17)));
        assert_eq!(tuples(&encoded(&[1, 1], &[None], 25)), Err(PayloadError::ClassNotANumber(None)));
        assert_eq!(tuples(&encoded(&[1, 0], &[], 25)), Err(PayloadError::NoClass));
        let not_a_number = tuples(&encoded(&[1, 1], &[text("\u{7}seven")], 25)).unwrap_err();
        assert_eq!(not_a_number.to_string(), "`\\u{7}seven` is not the number of a class");
    }

    #[test]
    fn a_header_that_promises_the_moon_allocates_nothing() {
        let mut raw = encoded(&[1, 2], &[text("0"), text("7")], 25);
        for size_at in [12, 20] {
            raw[size_at..size_at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        }
        assert_eq!(tuples(&raw), Err(PayloadError::Truncated("a value")));
        raw[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(tuples(&raw), Err(PayloadError::Negative("number of tuples", -1)));
    }

    proptest! {
        #[test]
        fn whatever_postgresql_encodes_is_decoded(
            width in 0usize..4,
            rows in prop::collection::vec((any::<i32>(), prop::collection::vec(any::<Option<Vec<u8>>>(), 4)), 1..6),
        ) {
            let mut elements = Vec::new();
            let mut expected = Vec::new();
            for (class, values) in &rows {
                elements.push(text(&class.to_string()));
                elements.extend(values[..width].iter().cloned());
                expected.push(Tuple { class: *class, values: values[..width].to_vec() });
            }
            let raw = encoded(&[rows.len() as i32, width as i32 + 1], &elements, 25);
            prop_assert_eq!(tuples(&raw).unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic(raw in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = tuples(&raw);
            let mut damaged = encoded(&[2, 2], &[text("0"), None, text("1"), text("x")], 25);
            let i = at.index(damaged.len());
            damaged[i] = byte;
            let _ = tuples(&damaged);
        }
    }
}
