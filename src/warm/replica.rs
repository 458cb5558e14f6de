//! A standby that answers `warm.sql` in the primary's place, while it is one of ours and has replayed what a value must have seen.
//!
//! None of that is needed for a right value: the token of the statement says what the standby had replayed, and the fill contract refuses
//! what is too little. It keeps queries from being run in vain, and the primary from being asked while the standby is good enough.

use super::Failure;
use super::sql::{Database, Read};
use crate::config::model::WarmFormat;
use crate::flow::fork::Lineage;
use crate::rules::binding::Binding;
use crate::rules::query::Query;
use crate::rules::snapshot::Snapshot;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a query waits for the standby to replay the change; most are a few milliseconds behind. It keeps its place among
/// `warm.concurrency` meanwhile.
const PATIENCE: Duration = Duration::from_millis(300);
/// The pauses between two looks: doubled each time.
const PAUSE: Duration = Duration::from_millis(4);
/// How long a standby that is too far behind, away or another's is left alone.
const REST: Duration = Duration::from_secs(5);

/// What the server is and has replayed (`sql/replica.sql`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// It replays; otherwise it was promoted, or was never a standby.
    pub replays: bool,
    /// Which database, on which timeline at the least.
    pub lineage: Lineage,
    /// What its statements see; None: nothing is guarded yet.
    pub token: Option<String>,
}

/// How it stands with what is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Behind,
    Unfit(String),
}

/// The standby.
#[derive(Debug)]
pub struct Replica {
    database: Database,
    look: String,
    ours: Lineage,
    rests: Mutex<Rests>,
}

#[derive(Debug, Default)]
struct Rests {
    until: Option<Instant>,
    /// What was told last.
    told: Option<String>,
}

impl Replica {
    /// `ours`: the primary's database and timeline. `look`: `sql/replica.sql` for this schema.
    #[must_use]
    pub fn new(database: Database, look: String, ours: Lineage) -> Self {
        Self { database: database.of_a_standby(), look, ours, rests: Mutex::default() }
    }

    /// Whether it is a standby of ours at all, however far behind.
    ///
    /// # Errors
    /// Why not.
    pub async fn fit(&self) -> Result<(), String> {
        let standing = self.database.standing(&self.look).await.map_err(|f| f.why)?;
        match verdict(&standing, &self.ours, &[]) {
            Verdict::Good | Verdict::Behind => Ok(()),
            Verdict::Unfit(why) => Err(why),
        }
    }

    /// Reads values as [`Database::read`] does, once everything that `since` sees is replayed.
    ///
    /// # Errors
    /// The primary has to be asked; says why where that is news.
    pub async fn read(
        &self,
        query: &Query,
        format: WarmFormat,
        version: Option<&str>,
        keys: &[Binding],
        since: &[&Snapshot],
    ) -> Result<Vec<Option<Read>>, Option<String>> {
        if self.rests().until.is_some_and(|until| Instant::now() < until) {
            return Err(None);
        }
        if let Err(why) = self.fits(since).await {
            return Err(self.rest(why));
        }
        match self.database.read(query, format, version, keys).await {
            Ok(mut read) => {
                for read in read.iter_mut().flatten() {
                    match read.token.as_deref().and_then(replayed) {
                        Some(token) => read.token = Some(token),
                        None => return Err(self.rest("it was promoted".into())),
                    }
                }
                *self.rests() = Rests::default();
                Ok(read)
            }
            // The primary will say the same.
            Err(Failure { hopeless: true, .. }) => Err(None),
            Err(Failure { why, .. }) => Err(self.rest(why)),
        }
    }

    async fn fits(&self, since: &[&Snapshot]) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let standing = self.database.standing(&self.look).await.map_err(|f| f.why)?;
            match verdict(&standing, &self.ours, since) {
                Verdict::Good => return Ok(()),
                Verdict::Unfit(why) => return Err(why),
                Verdict::Behind if Instant::now() + pause > until => {
                    return Err(format!("it is more than {} ms behind", PATIENCE.as_millis()));
                }
                Verdict::Behind => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }

    fn rests(&self) -> std::sync::MutexGuard<'_, Rests> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves it alone for a while; returns the reason where it is another than before.
    fn rest(&self, why: String) -> Option<String> {
        let mut rests = self.rests();
        rests.until = Some(Instant::now() + REST);
        (rests.told.replace(why.clone()).as_ref() != Some(&why)).then_some(why)
    }
}

fn verdict(standing: &Standing, ours: &Lineage, since: &[&Snapshot]) -> Verdict {
    let unfit = |why: &str| Verdict::Unfit(why.to_owned());
    if standing.lineage.db != ours.db {
        return unfit("it belongs to another cluster or database");
    }
    if !standing.replays {
        return unfit("it is no standby (any more)");
    }
    // The control file may name an earlier timeline than the one that is replayed, never a later one.
    if standing.lineage.timeline > ours.timeline {
        return unfit("it follows another primary, of a later timeline");
    }
    let Some(seen) = standing.token.as_deref().and_then(snapshot) else { return Verdict::Behind };
    if since.iter().all(|s| seen.contains(s)) { Verdict::Good } else { Verdict::Behind }
}

/// The part of a standby's token that holds whatever becomes of the server meanwhile: what is below xmin had ended and was replayed. A
/// standby's snapshot lists nothing that runs on its primary.
fn replayed(token: &str) -> Option<String> {
    let (history, _) = token.split_once('/')?;
    Some(format!("{history}/{}", snapshot(token)?))
}

fn snapshot(token: &str) -> Option<Snapshot> {
    let (_, text) = token.split_once('/')?;
    let xmin = text.parse::<Snapshot>().ok()?.xmin();
    format!("{xmin}:{xmin}:").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(token: &str) -> Standing {
        let lineage = Lineage { db: "7/16384".into(), timeline: "00000002".into() };
        Standing { replays: true, lineage, token: Some(format!("id/{token}")) }
    }

    #[test]
    fn a_standby_is_good_once_everything_that_the_eviction_saw_is_below_its_xmin() {
        let ours = standing("1:1:").lineage;
        let check = |token: &str, since: &[&str], expected: Verdict| {
            let since: Vec<Snapshot> = since.iter().map(|s| s.parse().unwrap()).collect();
            let since: Vec<&Snapshot> = since.iter().collect();
            assert_eq!(verdict(&standing(token), &ours, &since), expected, "{token} {since:?}");
        };
        check("100:100:", &[], Verdict::Good);
        check("100:100:", &["90:100:95"], Verdict::Good);
        check("100:100:", &["90:101:95"], Verdict::Behind);
        check("100:100:", &["90:100:95", "101:101:"], Verdict::Behind);
        check("100:101:", &["100:101:"], Verdict::Behind);
        // What still runs on the primary is in no snapshot of either.
        check("100:100:", &["100:102:100,101"], Verdict::Good);
        let none = Standing { token: None, ..standing("1:1:") };
        assert_eq!(verdict(&none, &ours, &[]), Verdict::Behind);
    }

    #[test]
    fn what_is_no_standby_of_ours_is_unfit_whatever_it_says() {
        let ours = standing("1:1:").lineage;
        let unfit = |standing: &Standing| matches!(verdict(standing, &ours, &[]), Verdict::Unfit(_));
        assert!(!unfit(&standing("100:100:")));
        assert!(unfit(&Standing { replays: false, ..standing("100:100:") }));
        let of = |db: &str, timeline: &str| Lineage { db: db.into(), timeline: timeline.into() };
        for (lineage, expected) in [
            (of("7/16384", "00000001"), false),
            (of("7/16384", "00000003"), true),
            (of("8/16384", "00000002"), true),
            (of("7/16385", "00000002"), true),
        ] {
            assert_eq!(unfit(&Standing { lineage: lineage.clone(), ..standing("100:100:") }), expected, "{lineage:?}");
        }
    }

    #[test]
    fn of_a_token_only_what_is_replayed_for_good_counts() {
        assert_eq!(replayed("id/90:100:").as_deref(), Some("id/90:90:"));
        assert_eq!(replayed("id/90:100:92,93").as_deref(), Some("id/90:90:"));
        assert_eq!(replayed("90:100:"), None);
        assert_eq!(replayed("id/x"), None);
    }
}
