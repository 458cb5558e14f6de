//! Reading the journal, page by page, each page a short statement of its own.

use super::session::{Session, in_schema};
use crate::config::model::Op;
use crate::planted;
use crate::rules::payload::{self, Raw, RowKind, Tuple};
use crate::rules::snapshot::Snapshot;
use bytes::{BufMut, BytesMut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, Statement};
use tokio_util::sync::ReusableBoxFuture;

/// Bytes of values in one page as they are stored, past which it ends. A row carries about 64 kB, or one tuple of values up to
/// 1 MiB each; compression makes at most some eighty times less of it, so a page stays under 32 MB, and its deletes are done well
/// within the session's `idle_session_timeout`.
const BYTES: i64 = 256 << 10;

/// So many rows are no few, as `sql/first.sql` has it. With 64 kB each, uncompressed some eighty times as much, that is what one page may be.
const FEW: usize = 4;

/// What one statement of the application changed, from the journal or from a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which layout says what the tuples mean.
    pub layout: i64,
    /// The table, as the configuration named it when the trigger was made; empty in notifications. Rows of a page share it.
    pub table: Arc<str>,
    /// Transaction and number of its row in the journal; None for a notification.
    pub place: Option<(i64, i64)>,
    /// How rows are named, what happened, and the rows; or what cannot be read about it.
    pub what: Result<What, String>,
    /// How long ago the trigger ran, by the server's clock.
    pub age: Duration,
    /// When it was read.
    pub read: Instant,
}

/// The readable part of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// By tuples, or whole.
    pub kind: RowKind,
    /// What happened to the table.
    pub op: Op,
    /// Which classes go whole; None: all that fire for `op`.
    pub classes: Option<Vec<i32>>,
    /// The distinct values.
    pub tuples: Vec<Tuple>,
    /// What the trigger wants to say about a degraded capture.
    pub note: Option<String>,
}

/// One page of a batch.
#[derive(Debug)]
pub struct Page {
    /// The batch's target: what the first page saw.
    pub target: Snapshot,
    /// What else its statement has read; None for what a ring was for.
    pub kept: Option<Kept>,
    /// The changes, in commit-independent order.
    pub changes: Vec<Change>,
    /// Where the next page begins; None after the last.
    pub next: Option<(i64, i64)>,
}

/// What a page is read with.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What retention may have deleted; None: nothing yet.
    pub floor: Option<Snapshot>,
    /// Counter of the trigger's last layer.
    pub lost: i64,
    /// The journal's file: another one means that rows went which nobody has read.
    pub file: Option<u32>,
}

/// The answer to a ring, see [`Journal::first`].
pub type First = ReusableBoxFuture<'static, Result<Option<Page>, tokio_postgres::Error>>;

/// The statements that read pages, prepared for one session.
#[derive(Debug)]
pub struct Journal {
    client: Arc<Client>,
    page: Statement,
    first: Statement,
    floor: Statement,
}

impl Journal {
    /// Prepares the statements.
    ///
    /// # Errors
    /// A journal of another form, or a lost connection.
    pub async fn prepare(session: &Session) -> Result<Self, tokio_postgres::Error> {
        let mut text = in_schema(include_str!("../../sql/page.sql"), &session.schema);
        if planted::is("id-cursor") {
            // Everything above the highest id: what was still open then is forgotten.
            text = text.replace("= ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))", "IS NULL");
        }
        let client = session.connected.client.clone();
        let page = client.prepare(&text).await?;
        let first = client.prepare(&in_schema(include_str!("../../sql/first.sql"), &session.schema)).await?;
        let floor = client.prepare(&in_schema(include_str!("../../sql/floor.sql"), &session.schema)).await?;
        Ok(Self { client, page, first, floor })
    }

    /// Reads one page of `visible(target) \ visible(seen)`, of at most `limit` rows; `target` None stands for now.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses.
    pub async fn page(
        &self,
        seen: &Snapshot,
        target: Option<&Snapshot>,
        after: (i64, i64),
        limit: i64,
    ) -> Result<Page, tokio_postgres::Error> {
        let rows = self
            .client
            .query(
                &self.page,
                &[&seen.to_string(), &target.map(Snapshot::to_string), &after.0.to_string(), &after.1, &limit, &BYTES],
            )
            .await?;
        let mut page = page(seen, &rows);
        let last = rows.last().and_then(|row| row.get::<_, Option<i64>>(13)).unwrap_or(0);
        let count = i64::try_from(page.changes.len()).unwrap_or(i64::MAX);
        if count < limit && last < BYTES {
            page.next = None;
        }
        Ok(page)
    }

    /// What a ring was for: the whole difference to now, where it is a few small rows; None where it is more, or it takes more to tell. The
    /// future borrows nothing: other things are done while the server reads. The floor must be asked for afterwards, [`Journal::floor`].
    #[must_use]
    pub fn first(&self, seen: &Snapshot) -> Option<First> {
        if !seen.running().is_empty() {
            return None;
        }
        let (client, statement, xmax) = (self.client.clone(), self.first.clone(), Xid(seen.xmax()));
        Some(ReusableBoxFuture::new(async move { Ok(few(&client.query(&statement, &[&xmax]).await?)) }))
    }

    /// What retention may have deleted; None: nothing yet.
    ///
    /// # Errors
    /// As [`Journal::page`].
    pub async fn floor(&self) -> Result<Option<Snapshot>, tokio_postgres::Error> {
        let row = self.client.query_opt(&self.floor, &[]).await?;
        Ok(row.and_then(|row| row.get::<_, Option<&str>>(0)?.parse().ok()))
    }
}

/// A transaction, as the server takes it.
#[derive(Debug)]
struct Xid(u64);

impl ToSql for Xid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }

    to_sql_checked!();
}

/// A transaction, or a moment in microseconds, as the server sends it.
struct Eight(i64);

impl<'a> FromSql<'a> for Eight {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::XID8 | Type::TIMESTAMPTZ)
    }
}

/// The rows of `sql/first.sql`, where they are few and small.
fn few(rows: &[Row]) -> Option<Page> {
    if rows.len() >= FEW {
        return None;
    }
    let read = Instant::now();
    let target = rows.first()?.try_get::<_, Snapshot>(0).ok()?;
    let mut changes: Vec<Change> = Vec::with_capacity(rows.len());
    for row in rows {
        let large = row.get::<_, Option<Raw<'_>>>(10).is_none() && row.get(13)
            || row.try_get::<_, Option<Vec<i32>>>(9).is_ok_and(|classes| classes.is_none()) && row.get(12);
        if large {
            return None;
        }
        let (Eight(at), Eight(now)) = (row.get(3), row.get(4));
        // The ends of the range are infinity.
        let age = if at == i64::MIN || at == i64::MAX { 0 } else { now.saturating_sub(at).max(0) };
        let (last, place) = (changes.last().map(|change| &change.table), (row.get::<_, Eight>(1).0, row.get(2)));
        changes.push(change(row, 5, place, Duration::from_micros(age.unsigned_abs()), None, last, read));
    }
    Some(Page { target, kept: None, changes, next: None })
}

/// What belongs to a page is in each of its rows, or in the only one where there are none. `next` is behind its last row.
fn page(seen: &Snapshot, rows: &[Row]) -> Page {
    let read = Instant::now();
    let mut page = Page { target: seen.clone(), kept: None, changes: Vec::new(), next: None };
    if let Some(row) = rows.first() {
        if let Ok(target) = row.get::<_, &str>(0).parse() {
            page.target = target;
        }
        let floor = row.get::<_, Option<&str>>(1).and_then(|f| f.parse().ok());
        page.kept = Some(Kept { floor, lost: row.get(2), file: row.get(14) });
        page.changes.reserve(rows.len());
    }
    for row in rows {
        if let Some(xid) = row.get::<_, Option<i64>>(3) {
            page.next = Some((xid, row.get(4)));
            let last = page.changes.last().map(|change| &change.table);
            let age = Duration::from_secs_f64((row.get::<_, f64>(5) / 1000.0).clamp(0.0, 1e9));
            page.changes.push(change(row, 6, (xid, row.get(4)), age, row.get(15), last, read));
        }
    }
    page
}

/// What is read here was written by triggers, of this version or another, or by whoever may write into the journal: nothing of it is
/// taken for granted, since a panic would come again with every replay. The columns from the layout to the note begin at `first`; `excess`:
/// bytes of values that were not sent.
fn change(
    row: &Row,
    first: usize,
    place: (i64, i64),
    age: Duration,
    excess: Option<i64>,
    last: Option<&Arc<str>>,
    read: Instant,
) -> Change {
    let table = row.try_get::<_, Option<&str>>(first + 1).ok().flatten().unwrap_or_default();
    let (kind, op): (i8, i8) = (row.get(first + 2), row.get(first + 3));
    let what = || -> Result<What, String> {
        let kind = RowKind::from_letter(kind.cast_unsigned()).ok_or_else(|| format!("kind {kind} is not known"))?;
        let op = Op::from_letter(op.cast_unsigned()).ok_or_else(|| format!("operation {op} is not known"))?;
        if let Some(bytes) = excess {
            return Err(format!("its values have {bytes} bytes, more than any capture writes"));
        }
        let tuples = match row.get::<_, Option<Raw<'_>>>(first + 5) {
            Some(raw) => payload::tuples(raw.0).map_err(|e| e.to_string())?,
            None => Vec::new(),
        };
        let classes = row
            .try_get::<_, Option<Vec<i32>>>(first + 4)
            .map_err(|_| "its classes are no list of numbers".to_owned())?;
        match kind {
            RowKind::Rows if tuples.is_empty() => return Err("it is of kind r and has no tuples".to_owned()),
            RowKind::Whole | RowKind::Degraded if classes.as_ref().is_some_and(Vec::is_empty) => {
                return Err("its list of classes is empty".to_owned());
            }
            _ => {}
        }
        Ok(What { kind, op, classes, tuples, note: row.try_get(first + 6).unwrap_or_default() })
    };
    Change {
        layout: row.get(first),
        table: last.filter(|last| ***last == *table).cloned().unwrap_or_else(|| table.into()),
        place: Some(place),
        what: what(),
        age,
        read,
    }
}
