//! Sums of the database's pages: what a page that is read says is what was written, also where it
//! says that there is nothing.
//!
//! Rows vouch for themselves, but only those that are found. A turned bit in an index hides some, and
//! "there is none" would begin a run twice, or lose one. So the last bytes of each page, which SQLite
//! leaves alone, have its sum: made when a page goes into the database, compared when it comes from
//! there. The log has sums of SQLite's own.
//!
//! **Invariants:** SQLite never sees a page of a wrong sum. A page without a sum (zeros) is read as it
//! is: another program may have copied the log. In SQLite's hands the place of the sum is zero, so
//! that such a copy has none rather than an old one.

mod vfs;

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::schema::level as level_of_ours;

pub(super) use self::vfs::{has_room, name, reserve};

/// The size of a page: SQLite's default, which every store has.
const PAGE: usize = 4096;
/// How much of it is the sum.
const SUM: usize = size_of::<u64>();
const BODY: usize = PAGE - SUM;
const BODY_BITS: usize = BODY * 8;
/// How much of the sum are [`places`]; the rest is [`hash`].
const PLACE_BITS: u32 = u16::BITS;
/// Where the first page says how much SQLite leaves alone at the end of each.
const RESERVED_AT: usize = 20;
const RESERVED: u8 = 8;
/// Where it has the level of the tables, `user_version`, at last.
const LEVEL_END: usize = 63;

/// What a page has in which a bit was turned back, and what to do about it.
pub(super) const MENDED: &str = "a turned bit, which was put right in reading; make a backup, then \
                                 look at the disk and the memory";

type Page = [u8; PAGE];

/// What a page that was read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What was written, as far as there is a sum.
    Whole,
    /// What was written, after one bit was turned back.
    Mended,
    /// Something else.
    Damaged,
}

/// The page as it goes to disk.
fn seal(page: &Page, number: u32) -> Page {
    let mut sealed = *page;
    let sum = hash(&mut sealed, number) << PLACE_BITS | u64::from(places(&sealed));
    sealed[BODY..].copy_from_slice(&sum.to_le_bytes());
    sealed
}

/// The page as SQLite is to have it, of what is on disk.
fn unseal(page: &mut Page, number: u32) -> Found {
    let noted = noted(page);
    // In one without a sum a bit may be turned too.
    let found = if noted.count_ones() <= 1 { Found::Whole } else { compare(page, number, noted) };
    page[BODY..].fill(0);
    found
}

/// What is said of a page at its end.
fn noted(page: &Page) -> u64 {
    let (_, noted) = page.split_last_chunk().expect("it is longer");
    u64::from_le_bytes(*noted)
}

/// Compares, and turns the one bit back without which all is well: so it harms nobody, while a page
/// that is refused harms every run on it.
fn compare(page: &mut Page, number: u32, noted: u64) -> Found {
    let wrong = hash(page, number) ^ (noted >> PLACE_BITS);
    let turned = usize::from(places(page) ^ first_bits(noted));
    match (wrong.count_ones(), turned) {
        (0, _) => Found::Whole,
        (1, 0) => Found::Mended,
        (_, BODY_BITS..) => Found::Damaged,
        _ => {
            let (byte, bit) = (turned / 8, 1 << (turned % 8));
            page[byte] ^= bit;
            if hash(page, number) == noted >> PLACE_BITS {
                return Found::Mended;
            }
            page[byte] ^= bit;
            Found::Damaged
        }
    }
}

/// The part of a sum that says where bits are.
fn first_bits(sum: u64) -> u16 {
    let [first, second, ..] = sum.to_le_bytes();
    u16::from_le_bytes([first, second])
}

/// 48 bits of a page's hash. Its last bytes become its number: in another place it is another page.
fn hash(page: &mut Page, number: u32) -> u64 {
    page[BODY..].copy_from_slice(&u64::from(number).to_le_bytes());
    let hash = blake3::hash(page);
    let (first, _) = hash.as_bytes().split_first_chunk().expect("there are 32 bytes");
    u64::from_le_bytes(*first) >> PLACE_BITS
}

/// The places of all bits of a page that are set, combined: one that turns changes this by its own
/// place, so that it is found again.
fn places(page: &Page) -> u16 {
    let (words, _) = page.as_chunks::<{ size_of::<u64>() }>();
    let mut words: [u64; PAGE / size_of::<u64>()] =
        std::array::from_fn(|at| u64::from_le_bytes(words[at]));
    // Folded in half again and again: the upper half are those whose place has that bit.
    let (mut odd, mut half) = (0, words.len() / 2);
    while half > 0 {
        let (lower, upper) = words[..half * 2].split_at_mut(half);
        let parity = upper.iter().fold(0, |all, word| all ^ word).count_ones() % 2;
        odd = odd << 1 | u16::from(parity == 1);
        lower.iter_mut().zip(upper).for_each(|(lower, upper)| *lower ^= *upper);
        half /= 2;
    }
    let all = words[0];
    (0..64).filter(|bit| all >> bit & 1 == 1).fold(odd * 64, |places, bit| places ^ bit)
}

/// The same with the first page; also whether the database has sums.
fn unseal_first(first: &mut Page) -> (bool, Found) {
    let said = first[RESERVED_AT];
    if !has_sums(first) {
        return (false, Found::Whole);
    }
    let found = unseal(first, 1);
    let (_, level) = first[..=LEVEL_END].split_last_chunk().expect("it is longer");
    match found {
        // A newer version may have other sums: its level is to be read, and then no more.
        Found::Damaged if u32::from_be_bytes(*level) > level_of_ours() => (true, Found::Whole),
        Found::Whole if said != RESERVED => (true, Found::Mended),
        found => (true, found),
    }
}

/// Whether the database has sums, as its first page says; that one vouches for itself.
fn has_sums(first: &mut Page) -> bool {
    if first[RESERVED_AT] == RESERVED {
        return true;
    }
    // Or just that bit was turned.
    let mut other = *first;
    other[RESERVED_AT] = RESERVED;
    let is_sealed = hash(&mut other, 1) == noted(first) >> PLACE_BITS;
    if is_sealed {
        first[RESERVED_AT] = RESERVED;
    }
    is_sealed
}

/// The pages with a wrong sum that a thread has met.
#[derive(Default)]
struct Met {
    mended: BTreeSet<u32>,
    refused: Option<String>,
}

thread_local! {
    static MET: RefCell<Met> = RefCell::default();
}

/// Takes note of a page of `path` with a wrong sum, for whoever asked for it.
fn met(number: u32, path: &str, found: Found) {
    MET.with_borrow_mut(|met| match found {
        Found::Whole => {}
        Found::Mended => {
            tracing::warn!("page {number} of `{path}` has {MENDED}");
            met.mended.insert(number);
        }
        Found::Damaged => {
            let what = format!("page {number} of `{path}` is not what was written");
            tracing::error!("{what}");
            met.refused = Some(what);
        }
    });
}

/// The page that this thread was refused last, for an error that is told once.
pub(super) fn refused() -> Option<String> {
    MET.with_borrow_mut(|met| met.refused.take())
}

/// Does `work`; also tells the pages in which it found a turned bit.
pub(super) fn mended<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<u32>) {
    MET.with_borrow_mut(|met| met.mended.clear());
    let done = work();
    (done, MET.with_borrow_mut(|met| std::mem::take(&mut met.mended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = std::array::from_fn(|at| u8::try_from(at * at % 251).unwrap());
        page[BODY..].fill(0);
        page
    }

    #[test]
    fn a_turned_bit_is_turned_back_and_more_are_refused() {
        let sealed = seal(&page(), 7);
        for bit in (0..PAGE * 8).step_by(101).chain([PAGE * 8 - 1]) {
            let mut read = sealed;
            read[bit / 8] ^= 1 << (bit % 8);
            assert_eq!((unseal(&mut read, 7), read == page()), (Found::Mended, true), "{bit}");
        }
        for (one, other) in [(0, 1), (5_000, 9_000), (0, BODY * 8), (BODY * 8 + 20, BODY * 8 + 40)]
        {
            let mut read = sealed;
            read[one / 8] ^= 1 << (one % 8);
            read[other / 8] ^= 1 << (other % 8);
            assert_eq!(unseal(&mut read, 7), Found::Damaged, "{one} {other}");
        }
    }

    #[test]
    fn a_page_belongs_to_its_place() {
        let mut read = seal(&page(), 7);
        assert_eq!(unseal(&mut read.clone(), 8), Found::Damaged);
        assert_eq!((unseal(&mut read, 7), read == page()), (Found::Whole, true));
    }

    #[test]
    fn a_page_without_a_sum_is_taken_as_it_is() {
        let mut read = page();
        assert_eq!((unseal(&mut read, 7), read == page()), (Found::Whole, true));
        read[PAGE - 1] ^= 4;
        assert_eq!((unseal(&mut read, 7), read == page()), (Found::Whole, true));
    }

    #[test]
    fn a_first_page_says_whether_there_are_sums_also_with_a_turned_bit() {
        let mut first = page();
        first[RESERVED_AT] = RESERVED;
        let sealed = seal(&first, 1);
        for bit in 0..8 {
            let mut read = sealed;
            read[RESERVED_AT] ^= 1 << bit;
            assert!(has_sums(&mut read) && read == sealed, "{bit}");
        }
        first[RESERVED_AT] = 0;
        assert!(!has_sums(&mut first), "it has none");
    }
}
