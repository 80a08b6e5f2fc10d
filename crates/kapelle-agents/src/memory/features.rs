//! Vectors of texts, made of letters: texts whose words are spelled alike have like vectors.
//!
//! **Invariants:** the same stems give the same vector on every machine and in every version (it is
//! kept in the file); a vector has a fixed length. It knows nothing of meaning: `car` and `automobile`
//! are strangers. What a model makes of texts could stand in its place, under another level.
//!
//! Each different stem counts for itself and for its letters in threes, with its beginning and end
//! marked, so a word with one letter wrong still shares most of them. Each of these is hashed to a
//! place and a sign; where two meet, they add or cancel by chance.

/// The length of a vector, in bytes. The likeness of unrelated vectors is about 1/√512 by chance.
pub(super) const LEN: usize = 512;

/// How much of 1 a step of a component is.
const SCALE: f32 = 127.0;

/// The vector of these stems; all zero for none.
pub(super) fn features<'a>(stems: impl Iterator<Item = &'a str>) -> [u8; LEN] {
    let mut stems: Vec<&str> = stems.collect();
    stems.sort_unstable();
    stems.dedup();
    let mut sums = [0_f32; LEN];
    for stem in stems {
        each_feature(stem, |hash| {
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            sums[place(hash)] += sign;
        });
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f32>().sqrt().max(1.0);
    sums.map(|sum| component(sum / length))
}

/// How alike two vectors are, from -1 to 1.
pub(super) fn similarity(one: &[u8], other: &[u8]) -> f32 {
    let products = one
        .iter()
        .zip(other)
        .map(|(one, other)| i32::from(one.cast_signed()) * i32::from(other.cast_signed()));
    #[expect(clippy::cast_precision_loss, reason = "below 2^23: each is at most 127 long")]
    let product = products.sum::<i32>() as f32;
    product / (SCALE * SCALE)
}

fn each_feature(stem: &str, mut take: impl FnMut(u64)) {
    take(hash(&['\u{2}', '\u{3}'], stem.chars()));
    let marked: Vec<char> = "\u{2}".chars().chain(stem.chars()).chain("\u{3}".chars()).collect();
    for three in marked.windows(3) {
        take(hash(&[], three.iter().copied()));
    }
}

/// FNV-1a, and a stir, without which the bits at the top hardly differ for short texts.
fn hash(first: &[char], rest: impl Iterator<Item = char>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for letter in first.iter().copied().chain(rest) {
        hash = (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[expect(clippy::cast_possible_truncation, reason = "the rest of a division by the length")]
fn place(hash: u64) -> usize {
    (hash % LEN as u64) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "from -127 to 127")]
fn component(share: f32) -> u8 {
    ((share * SCALE).round() as i8).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> [u8; LEN] {
        features(text.split_whitespace())
    }

    #[test]
    fn what_is_spelled_alike_is_alike() {
        let one = of("connect timeout retri");
        assert!((similarity(&one, &one) - 1.0).abs() < 0.05);
        assert!(similarity(&one, &of("conect timeot retry")) > 0.4);
        assert!(similarity(&one, &of("banana orchard harvest")).abs() < 0.15);
        assert!(similarity(&one, &of("")) == 0.0);
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        assert_eq!(of("b a a"), of("a b"));
    }

    #[test]
    fn a_vector_is_the_same_in_every_version() {
        // It is kept: another value here needs another level of the file.
        let sum = of("connect 接続 retri")
            .iter()
            .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        assert_eq!(sum, 9_990_632_181_018_812_259);
    }
}
