//! Reading the journal, page by page, each page a short statement of its own.

use super::session::{Session, in_schema};
use crate::config::model::Op;
use crate::planted;
use crate::rules::payload::{self, Raw, RowKind, Tuple};
use crate::rules::snapshot::Snapshot;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Row, Statement};

/// Bytes of values in one page as they are stored, past which it ends. A row carries about 64 kB, or one tuple of values up to
/// 1 MiB each; compression makes at most some eighty times less of it, so a page stays under 32 MB, and its deletes are done well
/// within the session's `idle_session_timeout`.
const BYTES: i64 = 256 << 10;

/// So many rows are no few. With 64 kB each, uncompressed some eighty times as much, that is what one page may be.
const FEW: i64 = 4;

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
    /// What retention may have deleted; None: nothing yet.
    pub floor: Option<Snapshot>,
    /// Counter of the trigger's last layer, and the journal's file: another one means that rows went which nobody has read. None: not
    /// asked for, since the next page comes at once.
    pub kept: Option<(i64, Option<u32>)>,
    /// The changes, in commit-independent order.
    pub changes: Vec<Change>,
    /// Where the next page begins; None after the last.
    pub next: Option<(i64, i64)>,
}

/// The statements that read pages, prepared for one session.
#[derive(Debug)]
pub struct Journal {
    client: Arc<Client>,
    page: Statement,
    first: Statement,
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
        Ok(Self { client, page, first })
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
        page.kept = rows.first().map(|row| (row.get(2), row.get(14)));
        let last = rows.last().and_then(|row| row.get::<_, Option<i64>>(13)).unwrap_or(0);
        let count = i64::try_from(page.changes.len()).unwrap_or(i64::MAX);
        if count < limit && last < BYTES {
            page.next = None;
        }
        Ok(page)
    }

    /// The whole difference to now, where it is a few small rows; None where it is more, or it takes more to tell.
    ///
    /// # Errors
    /// As [`Journal::page`].
    pub async fn first(&self, seen: &Snapshot) -> Result<Option<Page>, tokio_postgres::Error> {
        if !seen.running().is_empty() {
            return Ok(None);
        }
        let rows = self.client.query(&self.first, &[&seen.xmax().to_string(), &FEW]).await?;
        let mut page = page(seen, &rows);
        let few = i64::try_from(page.changes.len()).is_ok_and(|count| count < FEW);
        let whole = few && rows.iter().all(|row| row.get::<_, Option<i64>>(15).is_none());
        page.next = None;
        Ok(whole.then_some(page))
    }
}

/// What belongs to a page is in each of its rows, or in the only one where there are none. `next` is behind its last row.
fn page(seen: &Snapshot, rows: &[Row]) -> Page {
    let read = Instant::now();
    let mut page = Page { target: seen.clone(), floor: None, kept: None, changes: Vec::new(), next: None };
    if let Some(row) = rows.first() {
        if let Ok(target) = row.get::<_, &str>(0).parse() {
            page.target = target;
        }
        page.floor = row.get::<_, Option<&str>>(1).and_then(|f| f.parse().ok());
        page.changes.reserve(rows.len());
    }
    for row in rows {
        if let Some(xid) = row.get::<_, Option<i64>>(3) {
            page.next = Some((xid, row.get(4)));
            let last = page.changes.last().map(|change| &change.table);
            page.changes.push(change(row, last, read));
        }
    }
    page
}

/// What is read here was written by triggers, of this version or another, or by whoever may write into the journal: nothing of it is
/// taken for granted, since a panic would come again with every replay.
fn change(row: &Row, last: Option<&Arc<str>>, read: Instant) -> Change {
    let age: f64 = row.get(5);
    let table = row.try_get::<_, Option<&str>>(7).ok().flatten().unwrap_or_default();
    let (kind, op): (i8, i8) = (row.get(8), row.get(9));
    let what = || -> Result<What, String> {
        let kind = RowKind::from_letter(kind.cast_unsigned()).ok_or_else(|| format!("kind {kind} is not known"))?;
        let op = Op::from_letter(op.cast_unsigned()).ok_or_else(|| format!("operation {op} is not known"))?;
        if let Some(bytes) = row.get::<_, Option<i64>>(15) {
            return Err(format!("its values have {bytes} bytes, more than any capture writes"));
        }
        let tuples = match row.get::<_, Option<Raw<'_>>>(11) {
            Some(raw) => payload::tuples(raw.0).map_err(|e| e.to_string())?,
            None => Vec::new(),
        };
        let classes =
            row.try_get::<_, Option<Vec<i32>>>(10).map_err(|_| "its classes are no list of numbers".to_owned())?;
        match kind {
            RowKind::Rows if tuples.is_empty() => return Err("it is of kind r and has no tuples".to_owned()),
            RowKind::Whole | RowKind::Degraded if classes.as_ref().is_some_and(Vec::is_empty) => {
                return Err("its list of classes is empty".to_owned());
            }
            _ => {}
        }
        Ok(What { kind, op, classes, tuples, note: row.try_get(12).unwrap_or_default() })
    };
    Change {
        layout: row.get(6),
        table: last.filter(|last| ***last == *table).cloned().unwrap_or_else(|| table.into()),
        place: Some((row.get::<_, Option<i64>>(3).unwrap_or_default(), row.get(4))),
        what: what(),
        age: Duration::from_secs_f64((age / 1000.0).clamp(0.0, 1e9)),
        read,
    }
}
