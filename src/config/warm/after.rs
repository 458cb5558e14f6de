//! `warm.after`: caches that are made from other caches.

use crate::config::caches::CacheAt;
use crate::config::codes;
use crate::config::problem::Problem;
use crate::config::reader::Reader;
use crate::config::scalar::nearest;

/// Reports what cannot be waited for: caches that do not exist or are not warmed, and circles.
pub(super) fn check(reader: &mut Reader<'_>, caches: &[CacheAt]) {
    for at in caches {
        let Some(warm) = &at.warm else { continue };
        for named in &warm.after {
            let Some(other) = caches.iter().find(|c| c.name == named.value) else {
                let near = nearest(&named.value, caches.iter().map(|c| c.name.as_str()));
                let message = format!("there is no cache `{}`", named.value);
                reader.push(Problem::error(codes::UNKNOWN_CACHE, named.place.clone(), message).did_you_mean(near));
                continue;
            };
            if !other.warms {
                let message = format!("`{}` is not warmed, so that nothing can be warmed after it", other.name);
                let problem = Problem::error(codes::WARM_AFTER, named.place.clone(), message);
                reader.push(problem.context(&other.place, "it has no `warm`"));
            } else if leads_to(caches, &named.value, &at.name) {
                let message = format!("`{}` waits for `{}`, which waits for it", at.name, named.value);
                let problem = Problem::error(codes::WARM_AFTER, named.place.clone(), message);
                reader.push(problem.help("one of them has to be warmed first"));
            }
        }
    }
}

/// Whether `from` waits for `to`, directly or over others.
fn leads_to(caches: &[CacheAt], from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (Vec::new(), vec![from]);
    while let Some(name) = left.pop() {
        if name == to {
            return true;
        }
        if !seen.contains(&name) {
            seen.push(name);
            let warm = caches.iter().find(|c| c.name == name).and_then(|c| c.warm.as_ref());
            left.extend(warm.iter().flat_map(|w| &w.after).map(|a| a.value.as_str()));
        }
    }
    false
}
