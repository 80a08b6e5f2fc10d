//! Vectors of texts, made of letters: texts whose words are spelled alike have like vectors.
//!
//! **Invariants:** the same stems give the same vector on every machine and in every version (it is
//! kept in the file); a vector has a fixed length. It knows nothing of meaning: `car` and `automobile`
//! are strangers. What a model makes of texts could stand in its place, under another level.
//!
//! Each different stem counts for itself and for its letters in threes, with its beginning and end
//! marked, so a word with one letter wrong still shares most of them. Each of these is hashed to a
//! place and a sign; where two meet, they add or cancel by chance.

/// How many numbers a vector has. The likeness of unrelated ones is about 1/√512 by chance.
pub(super) const PLACES: usize = 512;
/// Two numbers from -7 to 7 share a byte, as what they are over -8.
const HALF: usize = PLACES / 2;
const MOST: i8 = 7;
const ZERO: i8 = 8;
/// A vector as it is kept, in bytes.
pub(super) const LEN: usize = HALF;

/// A number for each place. The product of two such vectors is below 2^15.
pub(super) type Sums = [i8; PLACES];

/// The vector of these stems, as it is kept.
pub(super) fn features<'a>(stems: impl Iterator<Item = &'a str>) -> [u8; LEN] {
    let sums = sums(stems);
    let mut kept = [0; LEN];
    for (byte, (low, high)) in kept.iter_mut().zip(sums[..HALF].iter().zip(&sums[HALF..])) {
        *byte = (low + ZERO).cast_unsigned() | (high + ZERO).cast_unsigned() << 4;
    }
    kept
}

/// The vector that is kept as `kept`; `None` for what is no vector.
pub(super) fn unpack(kept: &[u8]) -> Option<Sums> {
    let kept: &[u8; LEN] = kept.try_into().ok()?;
    let mut sums = [0; PLACES];
    for (at, byte) in kept.iter().enumerate() {
        sums[at] = (byte & 15).cast_signed() - ZERO;
        sums[at + HALF] = (byte >> 4).cast_signed() - ZERO;
    }
    Some(sums)
}

/// The vector of these stems.
pub(super) fn sums<'a>(stems: impl Iterator<Item = &'a str>) -> Sums {
    let mut stems: Vec<&str> = stems.collect();
    stems.sort_unstable();
    stems.dedup();
    let mut sums = [0_i8; PLACES];
    for stem in stems {
        each_feature(stem, |hash| {
            let sum = &mut sums[place(hash)];
            *sum = (*sum + if hash >> 63 == 0 { 1 } else { -1 }).clamp(-MOST, MOST);
        });
    }
    sums
}

/// How long it is in space.
pub(super) fn length(sums: &Sums) -> f32 {
    sums.iter().map(|sum| f32::from(sum * sum)).sum::<f32>().sqrt()
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
    (hash % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> [u8; LEN] {
        features(text.split_whitespace())
    }

    fn similarity(one: &str, other: &str) -> f32 {
        let [one, other] = [one, other].map(|text| unpack(&of(text)).unwrap());
        let product: f32 = one.iter().zip(&other).map(|(a, b)| f32::from(a * b)).sum();
        product / (length(&one) * length(&other)).max(1.0)
    }

    #[test]
    fn what_is_spelled_alike_is_alike() {
        let one = "connect timeout retri";
        assert!((similarity(one, one) - 1.0).abs() < 1e-6);
        assert!(similarity(one, "conect timeot retry") > 0.4);
        assert!(similarity(one, "banana orchard harvest").abs() < 0.15);
        assert!(similarity(one, "").abs() < f32::EPSILON);
        let long: String = (0..5000).map(|n| format!("word{n} ")).collect();
        assert!((similarity(&long, &long) - 1.0).abs() < 1e-6);
        assert_eq!(unpack(&[0; LEN - 1]), None);
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
        assert_eq!(sum, 1_191_672_504_390_179_598);
    }
}
