//! How much one command may be: Redis does one after the other, and while it does one everybody else waits.

/// The most keys of one script: 1 000 keys hold Redis' single thread for 0.6 to 0.9 ms, by the size of their values (HAZARDS B20).
pub const MOST_KEYS: usize = 1_000;

/// The same where Redis is asked how each was used before it goes: that takes about half as long again.
pub(super) const MOST_ASKED: usize = 600;

/// The same for what patterns match, which may go on for minutes: whoever asks Redis for something else waits that long each time.
pub const MOST_FOUND: usize = 200;

/// Fields of one script that are written (tombstones), and as many that are dropped: one takes as long as about two keys. 1 000
/// keys and 1 000 tombstones in one script were 2.2 ms.
const MOST_FIELDS: usize = 500;

/// The most bytes of keys of one script: it is one command, and Redis cuts off clients whose commands are too long.
const MOST_BYTES: usize = 4 << 20;

/// Cuts what is to be deleted into portions of at most `most` keys and, unless one key alone is longer, 4 MiB.
pub fn portions<T>(mut all: &[T], most: usize, size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = all.iter().take(most).take_while(|item| {
            bytes += size(item);
            bytes <= MOST_BYTES
        });
        let count = fits.count().max(1).min(all.len());
        let (portion, rest) = all.split_at(count);
        all = rest;
        (count > 0).then_some(portion)
    })
}

/// How many fields go with so many keys.
pub(super) fn room(keys: usize) -> usize {
    MOST_KEYS.saturating_sub(keys) * MOST_FIELDS / MOST_KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_hold_every_item_once_and_end_by_count_or_by_bytes() {
        let sizes = |all: &[usize]| portions(all, MOST_KEYS, |n| *n).map(<[usize]>::to_vec).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1; 2 * MOST_KEYS + 1]).iter().map(Vec::len).collect::<Vec<_>>(), [MOST_KEYS, MOST_KEYS, 1]);
        let half = MOST_BYTES / 2;
        assert_eq!(
            sizes(&[half, half, 1, MOST_BYTES + 1, 2]),
            [vec![half, half], vec![1], vec![MOST_BYTES + 1], vec![2]]
        );
    }
}
