//! Values by digest, parsed, as many as fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use kapelle_core::run::Values;
use kapelle_core::{Digest, Json};

/// The values that a loop keeps at hand, the longest known first out.
pub(crate) struct Cache {
    entries: BTreeMap<Digest, Kept>,
    by_age: BTreeMap<u64, Digest>,
    bytes: u64,
    bytes_max: u64,
    clock: u64,
}

struct Kept {
    json: Arc<Json>,
    len: u64,
    age: u64,
}

impl Cache {
    /// A cache for values whose canonical JSON takes at most `bytes_max` together.
    #[must_use]
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { entries: BTreeMap::new(), by_age: BTreeMap::new(), bytes: 0, bytes_max, clock: 0 }
    }

    /// Keeps a value; `len` is that of its canonical JSON.
    pub(crate) fn insert(&mut self, digest: Digest, json: Arc<Json>, len: u64) {
        self.clock += 1;
        let kept = Kept { json, len, age: self.clock };
        if let Some(before) = self.entries.insert(digest, kept) {
            self.by_age.remove(&before.age);
            self.bytes -= before.len;
        }
        self.by_age.insert(self.clock, digest);
        self.bytes += len;
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |kept| kept.len);
        }
    }
}

impl Values for Cache {
    fn get(&self, digest: &Digest) -> Option<Arc<Json>> {
        self.entries.get(digest).map(|kept| kept.json.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_longest_known_value_goes_first() {
        let mut cache = Cache::new(20);
        let digest = |n: u8| Digest::of(&[n]);
        for n in 0..2 {
            cache.insert(digest(n), Arc::new(json!(n)), 10);
        }
        cache.insert(digest(2), Arc::new(json!(2)), 10);
        assert!(cache.get(&digest(0)).is_none());
        assert!(cache.get(&digest(1)).is_some());
    }
}
