//! Finding: by words, by vectors, and the two rankings made one.
//!
//! **Invariants:** only what is of the tenant's namespace, not over, and trusted enough is looked at;
//! what is handed out is what was stored, by its digest. A search compares all vectors of the
//! namespace and reads, of the texts, those it answers with.
//!
//! Two rankings are fused by their ranks alone (reciprocal rank fusion): a score of BM25 and a
//! likeness have no common measure.

use std::collections::{HashMap, HashSet};

use kapelle_core::{Json, Timestamp};
use rusqlite::{Connection, Row, params};
use serde_json::{Map, json};

use super::fault::Stop;
use super::input::{Retrieve, Trust};
use super::stems::Stems;
use super::vectors::Kept;
use super::write::{digest, place, space};
use crate::text::Language;

/// How much a first rank is worth over a later one: 1 / (`FLAT` + rank).
const FLAT: f64 = 60.0;
/// Vectors less alike than this are so by chance.
const SIMILAR_MIN: f64 = 0.2;
/// How many of each ranking are fused, at least: more than asked for, as equal texts come once.
const CANDIDATES_MIN: u32 = 64;
const CANDIDATES_PER_ENTRY: u32 = 4;

/// What a search goes by.
struct Search<'a> {
    conn: &'a Connection,
    kept: &'a Kept,
    space: i64,
    now: i64,
    trust: i64,
    /// How many of a ranking.
    most: u32,
}

/// Entries and how good they are, best first.
type Ranking = Vec<(f64, i64)>;

/// What was found, best first, and among how many.
struct Found {
    hits: Vec<(i64, Option<Hit>)>,
    of: usize,
}

/// How an entry was found.
#[derive(Default)]
struct Hit {
    score: f64,
    by_words: bool,
    similarity: Option<f64>,
}

/// The answer to `wanted`.
pub(super) fn find(
    conn: &Connection,
    kept: &Kept,
    wanted: &Retrieve,
    now: Timestamp,
) -> Result<Json, Stop> {
    let namespace = &wanted.of.namespace;
    let Some(space) = space(conn, &wanted.of)? else {
        return Ok(json!({"namespace": namespace, "entries": [], "of": 0}));
    };
    let (now, trust) = (now.0, wanted.trust.number());
    let most = CANDIDATES_MIN.max(wanted.top.saturating_mul(CANDIDATES_PER_ENTRY));
    let search = Search { conn, kept, space, now, trust, most };
    let Found { hits, of } = match &wanted.query {
        Some(query) => search.ranked(query)?,
        None => search.newest()?,
    };
    let (mut entries, mut seen) = (Vec::new(), HashSet::new());
    for (id, hit) in hits {
        let (digest, entry) = search.entry(id, hit.as_ref())?;
        // The better one, or of equals the newer one, stands for all.
        if seen.insert(digest) {
            entries.push(entry);
        }
        if entries.len() == wanted.top as usize {
            break;
        }
    }
    Ok(json!({"namespace": namespace, "entries": entries, "of": of}))
}

impl Search<'_> {
    /// What matches, best first.
    fn ranked(&self, query: &str) -> Result<Found, Stop> {
        let stems = Stems::of_query(query, &self.languages()?);
        if stems.is_empty() {
            return Ok(Found { hits: Vec::new(), of: self.count()? });
        }
        let (live, vectors) = self.by_vectors(&stems)?;
        let words = self.by_words(&stems, &live)?;
        let mut hits: HashMap<i64, Hit> = HashMap::new();
        for (rank, (_, id)) in words.into_iter().enumerate() {
            let hit = hits.entry(id).or_default();
            (hit.by_words, hit.score) = (true, hit.score + worth(rank));
        }
        for (rank, (similarity, id)) in vectors.into_iter().enumerate() {
            let hit = hits.entry(id).or_default();
            (hit.similarity, hit.score) = (Some(similarity), hit.score + worth(rank));
        }
        let ranked = self.best(hits.iter().map(|(id, hit)| (hit.score, *id)).collect());
        let hits = ranked.into_iter().map(|(_, id)| (id, hits.remove(&id))).collect();
        Ok(Found { hits, of: live.len() })
    }

    /// The languages of the texts that are searched.
    fn languages(&self) -> Result<Vec<Language>, Stop> {
        let mut statement =
            self.conn.prepare_cached("SELECT code FROM language WHERE space = ?1")?;
        let codes = statement.query_map([self.space], |row| row.get::<_, String>(0))?;
        let codes: Vec<String> = codes.collect::<Result<_, _>>()?;
        Ok(codes.iter().filter_map(|code| Language::named(code)).collect())
    }

    /// The best of `live` by BM25. SQLite would look up each match in a table to know that it is
    /// among them; here that is known already.
    fn by_words(&self, stems: &[String], live: &[i64]) -> Result<Ranking, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT rowid, bm25(words) FROM words WHERE words MATCH ?1 AND rowid >= ?2 AND rowid < ?3",
        )?;
        let (first, end) = self.places();
        let mut rows = statement.query(params![expression(stems), first, end])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get::<_, i64>(0)? - first;
            if live.binary_search(&id).is_ok() {
                // To SQLite the least is the best.
                found.push((-row.get::<_, f64>(1)?, id));
            }
        }
        Ok(self.best(found))
    }

    /// Where the words and vectors of the namespace begin, and where they end.
    fn places(&self) -> (i64, i64) {
        (place(self.space, 0), place(self.space + 1, 0))
    }

    /// All that may be found, in order of their numbers, and the most alike of them.
    fn by_vectors(&self, stems: &[String]) -> Result<(Vec<i64>, Ranking), Stop> {
        let vectors = self.kept.of(self.conn, self.space)?;
        let (mut live, mut found) = (Vec::new(), Vec::new());
        for (entry, similarity) in vectors.likeness(stems) {
            if entry.expires > self.now && entry.trust >= self.trust {
                live.push(entry.id);
                if similarity >= SIMILAR_MIN {
                    found.push((similarity, entry.id));
                }
            }
        }
        Ok((live, self.best(found)))
    }

    /// The best of a ranking; of equals the newer ones first.
    fn best(&self, mut found: Ranking) -> Ranking {
        let better = |one: &(f64, i64), other: &(f64, i64)| {
            other.0.total_cmp(&one.0).then(other.1.cmp(&one.1))
        };
        let most = self.most as usize;
        if found.len() > most {
            found.select_nth_unstable_by(most, better);
            found.truncate(most);
        }
        found.sort_unstable_by(better);
        found
    }

    fn newest(&self) -> Result<Found, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id FROM entry INDEXED BY entry_space WHERE space = ?1 AND expires > ?2 AND trust >= ?3
             ORDER BY id DESC LIMIT ?4",
        )?;
        let bound = params![self.space, self.now, self.trust, self.most];
        let hits = statement.query_map(bound, |row| Ok((row.get(0)?, None)))?;
        Ok(Found { hits: hits.collect::<Result<_, _>>()?, of: self.count()? })
    }

    /// Among how many it is searched.
    fn count(&self) -> Result<usize, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT count(*) FROM vector
             WHERE id >= ?1 AND id < ?2 AND expires > ?3 AND trust >= ?4",
        )?;
        let (first, end) = self.places();
        let bound = params![first, end, self.now, self.trust];
        let count: u32 = statement.query_row(bound, |row| row.get(0))?;
        Ok(count as usize)
    }

    /// An entry as it is shown, and what equal ones are known by.
    fn entry(&self, id: i64, hit: Option<&Hit>) -> Result<([u8; 32], Json), Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT text, source, title, digest, trust, at, expires, run, workflow, step
             FROM entry WHERE id = ?1",
        )?;
        let (kept, found, mut entry) = statement.query_row([id], |row| shown(id, row))?;
        if kept != found {
            return Err(Stop::Damaged(format!("entry {id} is not what was stored (`forget` it)")));
        }
        if let Some(hit) = hit {
            show_hit(hit, &mut entry);
        }
        Ok((found, Json::Object(entry)))
    }
}

/// What FTS5 is asked for: any of the stems. All of them are texts in quotes, so nothing in a query
/// is taken for an operator.
fn expression(stems: &[String]) -> String {
    let stems: Vec<_> =
        stems.iter().map(|stem| format!("\"{}\"", stem.replace('"', "\"\""))).collect();
    stems.join(" OR ")
}

#[expect(clippy::cast_precision_loss, reason = "a rank is small")]
fn worth(rank: usize) -> f64 {
    1.0 / (FLAT + 1.0 + rank as f64)
}

type Shown = ([u8; 32], [u8; 32], Map<String, Json>);

/// The digest that is kept, the one that is found, and the entry.
fn shown(id: i64, row: &Row<'_>) -> rusqlite::Result<Shown> {
    let (text, source, title): (String, Option<String>, Option<String>) =
        (row.get(0)?, row.get(1)?, row.get(2)?);
    let found = *digest(&text, source.as_deref(), title.as_deref()).as_bytes();
    let mut entry = Map::new();
    entry.insert("id".into(), id.into());
    entry.insert("text".into(), text.into());
    let optional = [("source", source), ("title", title)];
    for (name, value) in optional {
        entry.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    entry.insert("trust".into(), json!(Trust::of(row.get(4)?)));
    entry.insert("at".into(), Timestamp(row.get(5)?).to_string().into());
    let expires = Timestamp(row.get(6)?);
    if expires.0 < i64::MAX {
        entry.insert("expires".into(), expires.to_string().into());
    }
    for (column, name) in [(7, "run"), (8, "workflow"), (9, "step")] {
        entry.insert(name.into(), row.get::<_, String>(column)?.into());
    }
    Ok((row.get(3)?, found, entry))
}

fn show_hit(hit: &Hit, entry: &mut Map<String, Json>) {
    let by_vector = hit.similarity.is_some();
    let matched = [(hit.by_words, "words"), (by_vector, "vector")];
    let matched: Json = matched.iter().filter(|by| by.0).map(|by| Json::from(by.1)).collect();
    entry.insert("score".into(), rounded(hit.score, 1e6).into());
    entry.insert("matched".into(), matched);
    if let Some(similarity) = hit.similarity {
        entry.insert("similarity".into(), rounded(similarity, 1e3).into());
    }
}

fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}
