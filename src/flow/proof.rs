//! Which caches must be flushed because an edge was not proven: new, changed, newly live or newly enforced.
//!
//! While an edge is enforced and its triggers are in place, every change has evicted. Before that nothing is known, so
//! its cache goes once, and then Redis remembers what was proven. An edge that is passed over (mode observe or off,
//! triggers missing) is forgotten, so that it is flushed when it comes back.

use crate::config::model::{Config, Mode, TableName};
use crate::rules::layout::{Class, Layout, LayoutEdge};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};

/// Proven edges: `table>cache@version` → fingerprint of what was proven.
pub type Proven = BTreeMap<String, String>;

/// A cache in one version of the namespace: indices into `config.caches` and `config.namespace.prefixes`.
pub type Form = (usize, usize);

/// The mode in which an edge runs: the child's where it exists for a child's lookup.
#[must_use]
pub fn mode_of(config: &Config, table: &TableName, edge: &LayoutEdge) -> Mode {
    config.mode_of(edge.via.as_ref().unwrap_or(table))
}

/// What is to be proven now, and what must be flushed before it is.
#[must_use]
pub fn unproven(
    config: &Config,
    layouts: &[Layout],
    live: impl Fn(&TableName, &str) -> bool,
    stored: &Proven,
) -> (Proven, BTreeSet<Form>) {
    let mut wanted: BTreeMap<String, (Vec<String>, Form)> = BTreeMap::new();
    for layout in layouts {
        for class in &layout.classes {
            for edge in &class.edges {
                let Some(cache) = config.caches.iter().position(|c| c.name == edge.cache) else { continue };
                if mode_of(config, &layout.table, edge) != Mode::Enforce || !live(&layout.table, &edge.cache) {
                    continue;
                }
                for (version, (name, prefix)) in config.namespace.prefixes.iter().enumerate() {
                    let key = named(&layout.table.to_string(), &edge.cache, name.as_deref().unwrap_or_default());
                    let entry = wanted.entry(key).or_insert_with(|| (Vec::new(), (cache, version)));
                    let template = &config.caches[cache].template;
                    entry.0.push(fingerprint(class, edge, template.kind.as_str(), &template.source, prefix));
                }
            }
        }
    }
    let mut flush = BTreeSet::new();
    let mut proven = Proven::new();
    for (key, (mut prints, form)) in wanted {
        // A parent has an edge for each child: in which order the file lists these means nothing.
        prints.sort_unstable();
        let digest = prints.iter().fold(sha2::Sha256::new(), |digest, print| digest.chain_update(print));
        let print: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        if stored.get(&key) != Some(&print) {
            flush.insert(form);
        }
        proven.insert(key, print);
    }
    (proven, flush)
}

/// `table>cache@version`; a part that holds a mark of these is quoted, so that no two edges share a name.
fn named(table: &str, cache: &str, version: &str) -> String {
    let part = |s: &str| if s.contains(['>', '@', '"']) { format!("{s:?}") } else { s.to_owned() };
    format!("{}>{}@{}", part(table), part(cache), part(version))
}

/// Everything that decides which keys an edge evicts for which rows.
fn fingerprint(class: &Class, edge: &LayoutEdge, kind: &str, template: &str, prefix: &str) -> String {
    let Class { ops, columns, when, values, .. } = class;
    // What is separated by NUL must not hold one.
    let plain = |s: &str| if s.contains('\0') { format!("{s:?}") } else { s.to_owned() };
    let (prefix, template) = (plain(prefix), plain(template));
    format!(
        "{kind}\0{prefix}\0{template}\0{ops:?}\0{columns:?}\0{when:?}\0{values:?}\0{:?}\0{:?}\n",
        edge.holes, edge.via
    )
}

#[cfg(test)]
mod tests;
