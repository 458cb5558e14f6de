//! Caches that are made from other caches, across the database's queue and the applications'.

use super::{Engine, Shared, Task, Warmer};
use crate::config::model::Config;
use crate::flow::after::Order;
use crate::flow::warm::Want;
use crate::rules::binding::Binding;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Who waits for whom, and where those go that need not wait any more.
pub(super) struct Ordered {
    order: Mutex<Order>,
    freed: mpsc::UnboundedSender<Want>,
}

impl Ordered {
    /// By the configuration's `warm.after`. What is let go comes by the channel.
    pub(super) fn new(config: &Config) -> (Arc<Self>, mpsc::UnboundedReceiver<Want>) {
        let mut pairs = Vec::new();
        for (later, cache) in config.caches.iter().enumerate() {
            for name in cache.warm.iter().flat_map(|w| &w.after) {
                let Some(earlier) = config.caches.iter().position(|c| c.name == *name) else { continue };
                let theirs = config.caches[earlier].template.holes();
                let shared = cache.template.holes().into_iter().filter(|h| theirs.contains(h)).map(str::to_owned);
                pairs.push((later, earlier, shared.collect()));
            }
        }
        let (freed, frees) = mpsc::unbounded_channel();
        (Arc::new(Self { order: Mutex::new(Order::new(pairs, config.warm.queue)), freed }), frees)
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expect(&self, cache: usize, key: &[u8], values: &Binding) {
        self.order().expect(cache, key, values);
    }

    /// The want, unless it is held back. Others may have to wait for it.
    pub(super) fn admit(&self, want: Want) -> Option<Want> {
        let mut order = self.order();
        if order.is_empty() {
            return Some(want);
        }
        order.expect(want.cache, &want.key, &want.values);
        order.admit(want)
    }

    pub(super) fn over(&self, key: &[u8]) {
        let freed = self.order().over(key);
        freed.into_iter().for_each(|want| _ = self.freed.send(want));
    }

    pub(super) fn all_over(&self, cache: usize) {
        let freed = self.order().all_over(cache);
        freed.into_iter().for_each(|want| _ = self.freed.send(want));
    }
}

impl Warmer {
    /// Begins to hand on what need not wait any more.
    pub(super) fn begin_order(&mut self, mut frees: mpsc::UnboundedReceiver<Want>) {
        let all: Vec<Arc<Shared>> = self.engines.iter().map(|e| e.shared.clone()).collect();
        self.relay = Some(Task(tokio::spawn(async move {
            while let Some(want) = frees.recv().await {
                let makes = |s: &&Arc<Shared>| {
                    let warm = s.config.caches.get(want.cache).and_then(|c| c.warm.as_ref());
                    warm.is_some_and(|warm| s.by.makes(warm))
                };
                if let Some(shared) = all.iter().find(makes) {
                    Engine::offer_to(shared, want);
                }
            }
        })));
    }

    /// A statement names this key: what is made from it waits until it is known what becomes of it.
    pub(in crate::daemon) fn expect(&self, cache: usize, key: &[u8], values: &Binding) {
        self.order.expect(cache, key, values);
    }
}
