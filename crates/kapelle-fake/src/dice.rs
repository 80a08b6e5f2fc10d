//! Dice whose throws follow from a seed and the number of the request, not from who came first.

/// The throws of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    seed: u64,
    n: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64, n: u64) -> Self {
        Self { seed, n }
    }

    /// A number below `end`, the same each time for the same `what`; 0 if there is none.
    pub(crate) fn below(self, what: u64, end: u64) -> u64 {
        self.throw(what).checked_rem(end).unwrap_or(0)
    }

    /// Whether something of this probability happens.
    pub(crate) fn hits(self, what: u64, probability: f64) -> bool {
        const STEPS: u64 = 1 << 32;
        let throw = u32::try_from(self.throw(what) % STEPS).unwrap_or(u32::MAX);
        f64::from(throw) < probability * 4_294_967_296.0
    }

    fn throw(self, what: u64) -> u64 {
        mixed(mixed(mixed(self.seed) ^ self.n) ^ what)
    }
}

/// One step of SplitMix64.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn throws_are_even_and_the_same_for_the_same_seed() {
        let hits = |seed| (0..10_000).filter(|n| Dice::new(seed, *n).hits(1, 0.1)).count();
        assert!((900..1_100).contains(&hits(1)), "{}", hits(1));
        assert_eq!(hits(1), hits(1));
        assert_ne!(hits(1), hits(2));
        assert!(!Dice::new(1, 1).hits(1, 0.0));
        assert!(Dice::new(1, 1).hits(1, 1.0));
    }
}
