//! How keys are used, asked without using them.

use super::connect::describe;
use crate::flow::heat::Used;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// What Redis counts, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Counts {
    #[default]
    Unknown,
    /// How long ago, as under every policy but LFU.
    Idle,
    /// How often.
    Often,
    /// It does not say: a right is missing, or a proxy does not know the command.
    Nothing,
}

/// Asks for the uses of keys, in the way that the server's policy allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uses(Counts);

impl Uses {
    /// Whether [`Uses::learn`] has something to find out.
    #[must_use]
    pub fn is_new(self) -> bool {
        self.0 == Counts::Unknown
    }

    /// Finds out what the server counts by a key that is there: of others it says nothing, whatever it counts.
    pub async fn learn(&mut self, connection: &mut MultiplexedConnection, key: &[u8]) {
        for (counts, word) in [(Counts::Idle, "IDLETIME"), (Counts::Often, "FREQ")] {
            self.0 = match ask(connection, &[key], word).await {
                Ok(_) => counts,
                Err(why) if why.contains("LFU") => continue,
                Err(_) => Counts::Nothing,
            };
            return;
        }
        self.0 = Counts::Nothing;
    }

    /// The uses of these keys, in the same order; None where it is not known, or the key is not there.
    pub async fn ask(self, connection: &mut MultiplexedConnection, keys: &[&[u8]]) -> Vec<Option<Used>> {
        let word = match self.0 {
            Counts::Idle => "IDLETIME",
            Counts::Often => "FREQ",
            Counts::Unknown | Counts::Nothing => return vec![None; keys.len()],
        };
        // The policy may change while we run; the next session learns it anew, and till then the order is less good.
        let Ok(answers) = ask(connection, keys, word).await else { return vec![None; keys.len()] };
        let used = |n: u64| match self.0 {
            Counts::Often => Used::Often(n),
            _ => Used::Idle(Duration::from_secs(n)),
        };
        answers.into_iter().map(|n| n.map(used)).collect()
    }
}

async fn ask(connection: &mut MultiplexedConnection, keys: &[&[u8]], word: &str) -> Result<Vec<Option<u64>>, String> {
    let mut pipeline = redis::Pipeline::with_capacity(keys.len());
    for key in keys {
        pipeline.cmd("OBJECT").arg(word).arg(*key);
    }
    pipeline.query_async(connection).await.map_err(|e| describe(&e))
}
