//! The vectors of a namespace in memory, in the order in which a search reads them.
//!
//! **Invariants:** what is answered is what the file says at the moment of the search: vectors are
//! those of a state of the namespace, which is another one after each change by whomever. What is
//! kept between two searches is bounded.
//!
//! A query has few letters, so most places of its vector are zero. Of entries a block at a time the
//! numbers of one place are side by side, and only the places that the query has are looked at: a
//! tenth of a millisecond for 10,000 entries, where reading them from the file takes two.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::fault::Stop;
use super::features::{PLACES, Sums, length, sums, unpack};
use super::write::place;

/// How many entries' vectors are kept, of the namespaces that were searched last; half a KiB each.
const KEPT_MAX: usize = 100_000;
/// How many entries are in a block.
const WIDE: usize = 64;

/// For each place the numbers of a block's entries.
type Block = [[i8; WIDE]; PLACES];

/// The vectors of a namespace in one state.
pub(super) struct Vectors {
    space: i64,
    state: i64,
    entries: Vec<Entry>,
    blocks: Vec<Block>,
}

/// What else a search has to know of an entry.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) expires: i64,
    pub(super) trust: i64,
    length: f32,
}

/// Vectors that were read before, the last ones first.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Arc<Vectors>>>);

impl Kept {
    /// The vectors of `space` as `conn` sees it.
    pub(super) fn of(&self, conn: &Connection, space: i64) -> Result<Arc<Vectors>, Stop> {
        let mut statement = conn.prepare_cached("SELECT state FROM space WHERE id = ?1")?;
        let state = statement.query_row([space], |row| row.get(0))?;
        let known = self.change(|kept| {
            let known = kept.iter().position(|known| known.state == state)?;
            kept[..=known].rotate_right(1);
            Some(Arc::clone(&kept[0]))
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let read = Arc::new(Vectors::read(conn, space, state)?);
        self.change(|kept| keep(kept, &read));
        Ok(read)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Vectors>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts `read` in the place of an earlier state, and lets go of what there is no room for.
fn keep(kept: &mut Vec<Arc<Vectors>>, read: &Arc<Vectors>) {
    kept.retain(|known| known.space != read.space);
    kept.insert(0, Arc::clone(read));
    let mut room = KEPT_MAX;
    kept.retain(|known| {
        let fits = known.entries.len() <= room;
        room -= if fits { known.entries.len() } else { 0 };
        fits
    });
}

impl Vectors {
    fn read(conn: &Connection, space: i64, state: i64) -> Result<Self, Stop> {
        let mut vectors = Self { space, state, entries: Vec::new(), blocks: Vec::new() };
        let mut statement = conn.prepare_cached(
            "SELECT id, expires, trust, features FROM vector WHERE id >= ?1 AND id < ?2 ORDER BY id",
        )?;
        let mut rows = statement.query(params![place(space, 0), place(space + 1, 0)])?;
        while let Some(row) = rows.next()? {
            let id = row.get::<_, i64>(0)? - place(space, 0);
            let Some(numbers) = row.get_ref(3)?.as_blob().ok().and_then(unpack) else {
                return Err(Stop::Damaged(format!("entry {id} has no vector (`forget` it)")));
            };
            let (expires, trust, length) = (row.get(1)?, row.get(2)?, length(&numbers));
            vectors.add(Entry { id, expires, trust, length }, &numbers);
        }
        Ok(vectors)
    }

    fn add(&mut self, entry: Entry, numbers: &Sums) {
        let at = self.entries.len() % WIDE;
        if at == 0 {
            self.blocks.push([[0; WIDE]; PLACES]);
        }
        self.entries.push(entry);
        if let Some(block) = self.blocks.last_mut() {
            for (place, number) in block.iter_mut().zip(numbers) {
                place[at] = *number;
            }
        }
    }

    /// Every entry in order of its number, and how alike it is, from -1 to 1.
    pub(super) fn likeness<'a>(
        &'a self,
        stems: &'a [String],
    ) -> impl Iterator<Item = (&'a Entry, f64)> {
        let wanted = sums(stems.iter().map(String::as_str));
        let own_length = length(&wanted);
        let wanted: Vec<_> = wanted.into_iter().enumerate().filter(|(_, own)| *own != 0).collect();
        let blocks = self.blocks.iter().zip(self.entries.chunks(WIDE));
        blocks.flat_map(move |(block, entries)| {
            let products = products(block, &wanted);
            entries.iter().zip(products).map(move |(entry, product)| {
                let lengths = f64::from(own_length) * f64::from(entry.length);
                (entry, if lengths > 0.0 { f64::from(product) / lengths } else { 0.0 })
            })
        })
    }
}

/// The product of each of a block's vectors with the wanted one.
fn products(block: &Block, wanted: &[(usize, i8)]) -> [i16; WIDE] {
    let mut products = [0_i16; WIDE];
    for (place, own) in wanted {
        for (product, number) in products.iter_mut().zip(&block[*place]) {
            *product += i16::from(*own) * i16::from(*number);
        }
    }
    products
}
