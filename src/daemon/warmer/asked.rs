//! One entry that somebody asks for over the admin socket.

use super::Warmer;
use super::hand::keyed;
use crate::admin::{Asked, Unwarmed};
use crate::config::model::Config;
use crate::flow::heat::EVICTED;
use crate::flow::warm::Want;
use crate::rules::template::Fill;
use std::collections::BTreeMap;

/// Behind what changes evict, and before everything else: somebody waits for it.
const ASKED: u32 = EVICTED - 1;

impl Warmer {
    /// Queues it, whether the key is there or not, and answers with the key.
    pub(crate) fn asked(&self, config: &Config, asked: Asked) {
        let answer = self.queue(config, &asked.cache, &asked.values);
        // Whoever asked may have left.
        let _ = asked.reply.send(answer);
    }

    fn queue(&self, config: &Config, name: &str, values: &BTreeMap<String, String>) -> Result<String, Unwarmed> {
        let unknown = |why: String| Err(Unwarmed::Unknown(why));
        let Some((index, cache)) = config.caches.iter().enumerate().find(|(_, c)| c.name == name) else {
            return unknown(format!("there is no cache `{name}`"));
        };
        let Some(warm) = &cache.warm else { return unknown(format!("cache `{name}` has no `warm`")) };
        let holes = cache.template.holes();
        if let Some(hole) = holes.iter().find(|h| !values.contains_key(**h)) {
            return unknown(format!("cache `{name}` needs a value for `{hole}`"));
        }
        if let Some(other) = values.keys().find(|v| !holes.contains(&v.as_str())) {
            return unknown(format!("cache `{name}` has no hole `{other}`"));
        }
        let fill = |hole: &str| values.get(hole).map_or(Fill::Unknown, |v| Fill::Value(v.as_bytes()));
        let Some((key, binding)) = keyed(config, cache, fill) else {
            return unknown(format!("a filter of `{name}` does not fit its value"));
        };
        let Some(engine) = self.engine(warm) else {
            return Err(Unwarmed::NotNow("nothing is warmed in this session; the log says why".into()));
        };
        if engine.shared.is_paused() {
            return Err(Unwarmed::NotNow("warming is paused".into()));
        }
        let printable = String::from_utf8_lossy(&key).into_owned();
        engine.offer(Want::new(index, key, binding, ASKED));
        Ok(printable)
    }
}
