//! The position record: what Redis holds about how far evictions have come.
//!
//! It lives in Redis because Redis can roll back (old RDB, failover): the record rolls back with the keys, and what
//! was deleted since is deleted again. Every script that deletes compares the whole text and replaces it.

use crate::rules::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the record's form.
const VERSION: u32 = 1;

/// The record, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    v: u32,
    /// `system identifier/database oid`: another one is refused.
    pub db: String,
    /// Timeline of the last session.
    pub timeline: String,
    /// `nonce/oid` of the UNLOGGED sentinel, the oid of the counter `lost` and the journal's file.
    pub sentinel: String,
    /// `process/start` of the leading session in PostgreSQL: whoever waits may end it when it no longer works.
    #[serde(default)]
    pub by: String,
    /// The newest beacon known to be committed; 0 before the first.
    pub beacon: i64,
    /// How far captures counted by the trigger's last layer were answered with a flush.
    #[serde(default)]
    pub lost: i64,
    /// Everything up to here is deleted; None while nothing is proven (a flush is under way).
    #[serde(with = "text", default)]
    pub pos: Option<Snapshot>,
    /// Second positions: delay in milliseconds → everything up to there is deleted twice; absent: flush again.
    #[serde(with = "texts", default)]
    pub repeat: BTreeMap<u64, Snapshot>,
    /// `session nonce-counter`: never the same twice, so that a roll-back is always noticed.
    pub step: String,
}

impl Record {
    /// The first record of a session that has proven nothing yet.
    #[must_use]
    pub fn new(db: String, timeline: String, sentinel: String) -> Self {
        Self {
            v: VERSION,
            db,
            timeline,
            sentinel,
            by: String::new(),
            beacon: 0,
            lost: 0,
            pos: None,
            repeat: BTreeMap::new(),
            step: String::new(),
        }
    }

    /// Reads the text of the field `rec`.
    ///
    /// # Errors
    /// Says what is wrong; the caller treats such a record as none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if record.v == VERSION { Ok(record) } else { Err(format!("record version {} is not known", record.v)) }
    }

    /// The text that scripts compare.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The lowest of all positions: what retention must keep. None while any is unproven.
    #[must_use]
    pub fn lowest(&self, delays: &[u64]) -> Option<&Snapshot> {
        let mut lowest = self.pos.as_ref()?;
        for delay in delays {
            let repeat = self.repeat.get(delay)?;
            if lowest.contains(repeat) {
                lowest = repeat;
            }
        }
        Some(lowest)
    }
}

mod text {
    use super::Snapshot;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &Option<Snapshot>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(snapshot) => s.serialize_some(&snapshot.to_string()),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Snapshot>, D::Error> {
        let text: Option<String> = Option::deserialize(d)?;
        text.map(|t| t.parse().map_err(D::Error::custom)).transpose()
    }
}

mod texts {
    use super::{BTreeMap, Snapshot};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &BTreeMap<u64, Snapshot>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(value.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<u64, Snapshot>, D::Error> {
        let texts: BTreeMap<String, String> = BTreeMap::deserialize(d)?;
        texts
            .into_iter()
            .map(|(k, v)| Ok((k.parse().map_err(D::Error::custom)?, v.parse().map_err(D::Error::custom)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_foreign_text_is_refused() {
        let mut record = Record::new("1/2".into(), "00000001".into(), "n/3".into());
        record.pos = Some("10:20:11".parse().unwrap());
        record.repeat.insert(1000, "9:9:".parse().unwrap());
        record.step = "a-1".into();
        assert_eq!(Record::parse(&record.to_text()), Ok(record));
        for bad in ["", "{}", "null", "{\"v\":9}", "[1]"] {
            assert!(Record::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retention_honours_the_lowest_position() {
        let mut record = Record::new(String::new(), String::new(), String::new());
        assert_eq!(record.lowest(&[]), None);
        record.pos = Some("10:20:11".parse().unwrap());
        assert_eq!(record.lowest(&[500]), None, "a delayed position that is not there yet needs everything");
        record.repeat.insert(500, "5:5:".parse().unwrap());
        assert_eq!(record.lowest(&[500]).unwrap().to_string(), "5:5:");
        assert_eq!(record.lowest(&[]).unwrap().to_string(), "10:20:11");
    }
}
