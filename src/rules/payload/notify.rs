//! Notify delivery: statements cut into slices that fit a NOTIFY payload, and put together again.
//!
//! A payload is `1 LAYOUT OP KIND ID INDEX TOTAL SLICE`, separated by single blanks, SLICE being the rest. INDEX counts
//! from 0 or from 1. The slices of one ID in the order of INDEX are one JSON object. NOTIFY knows no permissions:
//! whatever arrives may be foreign or forged, so everything that is kept is bounded, and what cannot be completed is
//! reported with the layout that it claims: the caches of *that* table are then flushed, never silence, never more.

use super::{PayloadError, RowKind, Tuple};
use crate::config::model::Op;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// The version of the wire form, the first field.
pub const VERSION: &str = "1";

/// A statement, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// Id of the layout that the tuples follow.
    pub layout: i64,
    /// What happened to the table.
    pub op: Op,
    /// How its rows are named.
    pub kind: RowKind,
    /// When the capture ran; None where it cannot be read. For people and metrics only.
    pub at: Option<SystemTime>,
    /// The classes that go whole; None: all that fire for `op`. Only for kinds other than [`RowKind::Rows`].
    pub classes: Option<Vec<i32>>,
    /// The tuples; empty for kinds other than [`RowKind::Rows`].
    pub tuples: Vec<Tuple>,
    /// Why, where the capture degraded.
    pub note: Option<String>,
}

/// A payload, or slices of a statement, that will not become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The layout it claims to concern; None where not even that can be read: then it is not pgevict's.
    pub layout: Option<i64>,
    /// Why it was given up.
    pub why: Why,
}

/// Why slices were given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Written by another version, or not by pgevict at all.
    Version,
    /// This field is missing or cannot be read.
    Field(&'static str),
    /// A slice disagrees with an earlier one of the same id.
    Contradiction,
    /// The statement is complete, but its JSON is not what a capture writes.
    Content(PayloadError),
    /// The missing slices did not come in time.
    Incomplete,
    /// More statements, or bytes, were open than the limits allow; this was the oldest.
    Crowded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => write!(f, "not a payload of this pgevict (version {VERSION})"),
            Self::Field(name) => write!(f, "the field `{name}` is missing or cannot be read"),
            Self::Contradiction => write!(f, "two slices of one statement contradict each other"),
            Self::Content(e) => write!(f, "{e}"),
            Self::Incomplete => write!(f, "slices of the statement are missing"),
            Self::Crowded => write!(f, "too many incomplete statements at once"),
        }
    }
}

/// One payload, its fields read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice<'a> {
    /// Id of the layout.
    pub layout: i64,
    /// What happened to the table.
    pub op: Op,
    /// How its rows are named.
    pub kind: RowKind,
    /// Which statement; opaque.
    pub id: &'a str,
    /// Which slice.
    pub index: u32,
    /// How many slices the statement has; at least 1.
    pub total: u32,
    /// The piece of JSON.
    pub text: &'a str,
}

/// Reads one payload.
///
/// # Errors
/// [`Broken`] with the layout, where that much could be read.
pub fn parse(payload: &str) -> Result<Slice<'_>, Broken> {
    let mut fields = payload.splitn(8, ' ');
    if fields.next() != Some(VERSION) {
        return Err(Broken { layout: None, why: Why::Version });
    }
    let layout = fields.next().and_then(|f| f.parse().ok());
    let bad = |name| Broken { layout, why: Why::Field(name) };
    let layout_id = layout.ok_or_else(|| bad("layout"))?;
    let letter = |f: Option<&str>| f.filter(|f| f.len() == 1).map(|f| f.as_bytes()[0]);
    let op = letter(fields.next()).and_then(Op::from_letter).ok_or_else(|| bad("op"))?;
    let kind = letter(fields.next()).and_then(RowKind::from_letter).ok_or_else(|| bad("kind"))?;
    let id = fields.next().filter(|f| !f.is_empty()).ok_or_else(|| bad("id"))?;
    let index = fields.next().and_then(|f| f.parse().ok()).ok_or_else(|| bad("index"))?;
    let total = fields.next().and_then(|f| f.parse().ok()).filter(|t| *t >= 1).ok_or_else(|| bad("total"))?;
    let text = fields.next().ok_or_else(|| bad("slice"))?;
    if index > total {
        return Err(bad("index"));
    }
    Ok(Slice { layout: layout_id, op, kind, id, index, total, text })
}

/// What bounds an [`Assembler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Statements that wait for slices at the same time.
    pub open: usize,
    /// Bytes that their slices and ids take together.
    pub bytes: usize,
    /// How long a statement waits. PostgreSQL hands over a transaction's notifications in one go, so a slice that is
    /// late is lost.
    pub age: Duration,
}

/// What a payload led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The statement waits for more slices.
    Pending,
    /// The statement is complete.
    Complete(Box<Notified>),
    /// The payload, or a statement that it belongs to, is given up.
    Broken(Broken),
}

/// Puts slices together. Takes the clock as an argument; [`Assembler::expire`] is to be called at
/// [`Assembler::deadline`].
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    open: HashMap<Id, Open>,
    /// Oldest first. Ids that are complete or given up stay until they reach the front.
    order: VecDeque<(Instant, u64, Id)>,
    bytes: usize,
    /// Tells a statement from an earlier one of the same id.
    births: u64,
}

/// The sender's process id is part of it: another session cannot disturb a statement by using its id.
type Id = (i32, String);

#[derive(Debug)]
struct Open {
    birth: u64,
    layout: i64,
    op: Op,
    kind: RowKind,
    total: u32,
    slices: BTreeMap<u32, String>,
}

/// What a slice costs beside its text: the id (twice), the map's entry, the indices.
const OVERHEAD: usize = 128;

impl Assembler {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), order: VecDeque::new(), bytes: 0, births: 0 }
    }

    /// Takes one payload of the backend `sender`. More than one step comes out only when limits push old statements
    /// out.
    pub fn take(&mut self, sender: i32, payload: &str, now: Instant) -> Vec<Step> {
        let slice = match parse(payload) {
            Ok(slice) => slice,
            Err(broken) => return vec![Step::Broken(broken)],
        };
        if slice.total == 1 {
            return vec![finish(slice.layout, slice.op, slice.kind, slice.text)];
        }
        let id = (sender, slice.id.to_owned());
        let births = &mut self.births;
        let order = &mut self.order;
        let open = self.open.entry(id.clone()).or_insert_with(|| {
            *births += 1;
            order.push_back((now, *births, id.clone()));
            Open {
                birth: *births,
                layout: slice.layout,
                op: slice.op,
                kind: slice.kind,
                total: slice.total,
                slices: BTreeMap::new(),
            }
        });
        let agrees = (open.layout, open.op, open.kind, open.total) == (slice.layout, slice.op, slice.kind, slice.total);
        let known = open.slices.get(&slice.index);
        if !agrees || known.is_some_and(|text| text != slice.text) {
            let mut steps = vec![Step::Broken(Broken { layout: Some(slice.layout), why: Why::Contradiction })];
            if let Some(open) = self.close(&id)
                && open.layout != slice.layout
            {
                steps.push(Step::Broken(Broken { layout: Some(open.layout), why: Why::Contradiction }));
            }
            return steps;
        }
        if known.is_none() {
            open.slices.insert(slice.index, slice.text.to_owned());
            self.bytes += cost(&id, slice.text);
        }
        if u32::try_from(open.slices.len()).is_ok_and(|n| n == open.total) {
            return self.close(&id).map(complete).into_iter().collect();
        }
        let mut steps = self.make_room();
        if self.open.contains_key(&id) {
            steps.push(Step::Pending);
        }
        steps
    }

    /// Gives up what waits longer than [`Limits::age`].
    pub fn expire(&mut self, now: Instant) -> Vec<Broken> {
        let mut out = Vec::new();
        while let Some((since, ..)) = self.oldest()
            && now.saturating_duration_since(since) >= self.limits.age
        {
            out.extend(self.give_up_oldest(Why::Incomplete));
        }
        out
    }

    /// Gives up everything: the session has ended, what is missing will not come.
    pub fn clear(&mut self) -> Vec<Broken> {
        let mut out = Vec::new();
        while self.oldest().is_some() {
            out.extend(self.give_up_oldest(Why::Incomplete));
        }
        out
    }

    /// When [`Assembler::expire`] has something to do next.
    #[must_use]
    pub fn deadline(&mut self) -> Option<Instant> {
        self.oldest().map(|(since, ..)| since + self.limits.age)
    }

    fn make_room(&mut self) -> Vec<Step> {
        let mut out = Vec::new();
        while self.open.len() > self.limits.open || self.bytes > self.limits.bytes {
            let Some(broken) = self.give_up_oldest(Why::Crowded) else { break };
            out.push(Step::Broken(broken));
        }
        out
    }

    /// The oldest statement that is still open; forgets entries of `order` that are not.
    fn oldest(&mut self) -> Option<(Instant, u64, Id)> {
        while let Some((_, birth, id)) = self.order.front() {
            if self.open.get(id).is_some_and(|o| o.birth == *birth) {
                return self.order.front().cloned();
            }
            self.order.pop_front();
        }
        None
    }

    fn give_up_oldest(&mut self, why: Why) -> Option<Broken> {
        let (_, _, id) = self.oldest()?;
        self.close(&id).map(|open| Broken { layout: Some(open.layout), why })
    }

    fn close(&mut self, id: &Id) -> Option<Open> {
        let open = self.open.remove(id)?;
        self.bytes -= open.slices.values().map(|text| cost(id, text)).sum::<usize>();
        // Finished entries do not wait for the front: a statement that never completes would hold them all back.
        if self.order.len() > 2 * self.limits.open.max(16) {
            let open = &self.open;
            self.order.retain(|(_, birth, id)| open.get(id).is_some_and(|o| o.birth == *birth));
        }
        Some(open)
    }
}

fn cost(id: &Id, text: &str) -> usize {
    text.len() + 2 * id.1.len() + OVERHEAD
}

/// As many distinct indices of `0..=total` as `total`: one is missing, and it must be the first or the last.
fn complete(open: Open) -> Step {
    if open.slices.contains_key(&0) && open.slices.contains_key(&open.total) {
        return Step::Broken(Broken { layout: Some(open.layout), why: Why::Contradiction });
    }
    let text: String = open.slices.into_values().collect();
    finish(open.layout, open.op, open.kind, &text)
}

#[derive(Deserialize)]
struct Body {
    at: Option<String>,
    classes: Option<Vec<i32>>,
    tuples: Option<Vec<Vec<Option<String>>>>,
    note: Option<String>,
}

fn finish(layout: i64, op: Op, kind: RowKind, text: &str) -> Step {
    match body(text) {
        Ok((body, tuples)) => Step::Complete(Box::new(Notified {
            layout,
            op,
            kind,
            at: body.at.as_deref().and_then(instant),
            classes: body.classes,
            tuples,
            note: body.note,
        })),
        Err(e) => Step::Broken(Broken { layout: Some(layout), why: Why::Content(e) }),
    }
}

fn body(text: &str) -> Result<(Body, Vec<Tuple>), PayloadError> {
    let mut body: Body = serde_json::from_str(text).map_err(|e| PayloadError::Json(e.to_string()))?;
    let tuple = |elements: Vec<Option<String>>| {
        let mut elements = elements.into_iter();
        let class = elements.next().ok_or(PayloadError::NoClass)?;
        let class = super::class(class.as_deref().map(str::as_bytes))?;
        Ok(Tuple { class, values: elements.map(|e| e.map(String::into_bytes)).collect() })
    };
    let tuples = body.tuples.take().unwrap_or_default().into_iter().map(tuple).collect::<Result<_, _>>()?;
    Ok((body, tuples))
}

/// Reads `2026-11-20T12:00:00.123456Z`. Years 1970 to 9999: what a clock shows.
fn instant(text: &str) -> Option<SystemTime> {
    let b = text.strip_suffix('Z')?.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        b.get(range)?.iter().try_fold(0, |n: u64, d| d.is_ascii_digit().then(|| n * 10 + u64::from(d - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(at, mark)| b.get(*at) == Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let sane = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    let micros = match b.len() {
        19 => 0,
        // At most six digits, scaled to microseconds.
        n @ 21..=26 if b[19] == b'.' => number(20..n)? * 10u64.pow(26 - u32::try_from(n).ok()?),
        _ => return None,
    };
    // Days since 0000-03-01: years counted from March have their leap day at the end.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3600 + minute * 60 + second;
    sane.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests;
