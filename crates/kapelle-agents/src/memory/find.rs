//! Finding: by words, by vectors, and the two rankings made one.
//!
//! **Invariants:** only what is of the tenant's namespace, not over, and trusted enough is looked at;
//! what is handed out is what was stored, by its digest. A search reads all vectors of the
//! namespace and, of the texts, those it answers with.
//!
//! Two rankings are fused by their ranks alone (reciprocal rank fusion): a score of BM25 and a
//! likeness have no common measure.

use std::collections::{HashMap, HashSet};

use kapelle_core::{Json, Timestamp};
use rusqlite::{Connection, Row, params};
use serde_json::{Map, json};

use super::fault::Stop;
use super::features::{features, similarity};
use super::input::{Retrieve, Trust};
use super::stems::Stems;
use super::write::{digest, space};
use crate::text::Language;

/// How much a first rank is worth over a later one: 1 / (`FLAT` + rank).
const FLAT: f64 = 60.0;
/// Vectors less alike than this are so by chance.
const SIMILAR_MIN: f32 = 0.2;
/// How many of each ranking are fused, at least: more than asked for, as equal texts come once.
const CANDIDATES_MIN: u32 = 64;
const CANDIDATES_PER_ENTRY: u32 = 4;

/// What a search goes by.
struct Search<'a> {
    conn: &'a Connection,
    space: i64,
    now: i64,
    trust: i64,
    /// How many of a ranking.
    most: u32,
}

/// An entry that was found.
#[derive(Default)]
struct Hit {
    score: f64,
    by_words: bool,
    similarity: Option<f32>,
}

/// The answer to `wanted`.
pub(super) fn find(conn: &Connection, wanted: &Retrieve, now: Timestamp) -> Result<Json, Stop> {
    let namespace = &wanted.of.namespace;
    let Some(space) = space(conn, &wanted.of)? else {
        return Ok(json!({"namespace": namespace, "entries": [], "of": 0}));
    };
    let (now, trust) = (now.0, wanted.trust.number());
    let most = CANDIDATES_MIN.max(wanted.top.saturating_mul(CANDIDATES_PER_ENTRY));
    let search = Search { conn, space, now, trust, most };
    let hits = match &wanted.query {
        Some(query) => search.ranked(query)?,
        None => search.newest()?.into_iter().map(|id| (id, None)).collect(),
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
    Ok(json!({"namespace": namespace, "entries": entries, "of": search.count()?}))
}

impl Search<'_> {
    /// What matches, best first.
    fn ranked(&self, query: &str) -> Result<Vec<(i64, Option<Hit>)>, Stop> {
        let stems = Stems::of_query(query, &self.languages()?);
        if stems.is_empty() {
            return Ok(Vec::new());
        }
        let (words, vectors) = (self.by_words(&stems)?, self.by_vectors(&stems)?);
        let mut hits: HashMap<i64, Hit> = HashMap::new();
        for (rank, id) in words.into_iter().enumerate() {
            let hit = hits.entry(id).or_default();
            (hit.by_words, hit.score) = (true, hit.score + worth(rank));
        }
        for (rank, (similarity, id)) in vectors.into_iter().enumerate() {
            let hit = hits.entry(id).or_default();
            (hit.similarity, hit.score) = (Some(similarity), hit.score + worth(rank));
        }
        let mut ranked: Vec<_> = hits.into_iter().collect();
        ranked
            .sort_by(|one, other| other.1.score.total_cmp(&one.1.score).then(other.0.cmp(&one.0)));
        Ok(ranked.into_iter().map(|(id, hit)| (id, Some(hit))).collect())
    }

    /// The languages of the texts that are searched.
    fn languages(&self) -> Result<Vec<Language>, Stop> {
        let mut statement =
            self.conn.prepare_cached("SELECT code FROM language WHERE space = ?1")?;
        let codes = statement.query_map([self.space], |row| row.get::<_, String>(0))?;
        let codes: Vec<String> = codes.collect::<Result<_, _>>()?;
        Ok(codes.iter().filter_map(|code| Language::named(code)).collect())
    }

    fn by_words(&self, stems: &[String]) -> Result<Vec<i64>, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT entry.id FROM words JOIN entry ON entry.id = words.rowid
             WHERE words MATCH ?1 AND entry.expires > ?2 AND entry.trust >= ?3
             ORDER BY bm25(words, 0.0, 1.0), entry.id DESC LIMIT ?4",
        )?;
        let wish = expression(self.space, stems);
        let found = statement
            .query_map(params![wish, self.now, self.trust, self.most], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn by_vectors(&self, stems: &[String]) -> Result<Vec<(f32, i64)>, Stop> {
        let wanted = features(stems.iter().map(String::as_str));
        let mut statement = self.conn.prepare_cached(
            "SELECT entry, features FROM vector WHERE space = ?1 AND expires > ?2 AND trust >= ?3",
        )?;
        let mut rows = statement.query(params![self.space, self.now, self.trust])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let similarity = similarity(&wanted, row.get_ref(1)?.as_blob().unwrap_or_default());
            if similarity >= SIMILAR_MIN {
                found.push((similarity, row.get(0)?));
            }
        }
        found
            .sort_by(|one: &(f32, i64), other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
        found.truncate(self.most as usize);
        Ok(found)
    }

    fn newest(&self) -> Result<Vec<i64>, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id FROM entry WHERE space = ?1 AND expires > ?2 AND trust >= ?3
             ORDER BY id DESC LIMIT ?4",
        )?;
        let found = statement
            .query_map(params![self.space, self.now, self.trust, self.most], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// How many entries there are, for whoever may trust any.
    fn count(&self) -> Result<i64, Stop> {
        let mut statement = self.conn.prepare_cached(
            "SELECT count(*) FROM vector WHERE space = ?1 AND expires > ?2 AND trust >= ?3",
        )?;
        Ok(statement.query_row(params![self.space, self.now, self.trust], |row| row.get(0))?)
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

/// What FTS5 is asked for: any of the stems, in this namespace. All of it are texts in quotes, so
/// nothing in a query is taken for an operator.
fn expression(space: i64, stems: &[String]) -> String {
    let stems: Vec<_> =
        stems.iter().map(|stem| format!("\"{}\"", stem.replace('"', "\"\""))).collect();
    format!("space : \"{space}\" AND stems : ({})", stems.join(" OR "))
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
        entry.insert("similarity".into(), rounded(f64::from(similarity), 1e3).into());
    }
}

fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}
