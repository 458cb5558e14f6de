//! Breadth first, so that a counterexample is a shortest one.

use super::world::{Step, World};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

/// More would take longer than anybody waits for a test.
const MOST_STATES: usize = 3_000_000;

/// What a search found.
pub(crate) enum Found {
    /// Every state that can be reached was looked at.
    Nothing { states: usize, quiet: usize },
    /// A run that ends with a stale key.
    Stale { states: usize, trace: String },
}

/// SipHash takes most of the time of a search without optimisation, and nobody attacks this one.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// Looks at every state that can be reached from `start`.
pub(crate) fn search(start: &World) -> Found {
    let mut seen: HashMap<World, u32, BuildHasherDefault<Quick>> = HashMap::default();
    // Each state with the step that led to it and from where.
    let mut list: Vec<(World, u32, Option<Step>)> = vec![(start.clone(), 0, None)];
    seen.insert(start.clone(), 0);
    let (mut at, mut quiet) = (0, 0);
    while at < list.len() {
        let world = list[at].0.clone();
        if world.is_quiet() {
            quiet += 1;
            if let Some(what) = world.stale() {
                return Found::Stale { states: list.len(), trace: format!("{}  {what}", trace(&list, at)) };
            }
        }
        for step in world.steps() {
            let Some(next) = world.after(step) else { continue };
            let index = u32::try_from(list.len()).expect("bounded");
            seen.entry(next).or_insert_with_key(|next| {
                list.push((next.clone(), u32::try_from(at).expect("bounded"), Some(step)));
                index
            });
        }
        assert!(list.len() < MOST_STATES, "the bounds are too wide: {MOST_STATES} states, and no end");
        at += 1;
    }
    Found::Nothing { states: list.len(), quiet }
}

fn trace(list: &[(World, u32, Option<Step>)], mut at: usize) -> String {
    let mut steps = Vec::new();
    while let (_, from, Some(step)) = &list[at] {
        steps.push(*step);
        at = *from as usize;
    }
    let mut out = String::new();
    for step in steps.iter().rev() {
        let _ = writeln!(out, "  {step:?}");
    }
    out
}
