//! Chance that is the same for the same seed, on every machine and in every version.

use std::ops::Range;

/// `SplitMix64`.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn of(&mut self, range: Range<u32>) -> u32 {
        let span = u64::from(range.end - range.start);
        range.start + u32::try_from(self.next() % span).expect("it is in the range")
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.of(0..n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(super) fn below(&mut self, len: usize) -> usize {
        self.of(0..u32::try_from(len).expect("lists are short")) as usize
    }
}
