//! Disks that lie: one bit of a store is turned, two of a page, a sector is overwritten or a file cut
//! off, and everything is asked.
//!
//! `KAPELLE_FLIPS` says how many bits, `KAPELLE_FLIPS_SEED` which ones. Each must be harmless or
//! named when it is asked for; what [`Sqlite::verify`] says more is counted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use kapelle_core::port::journal::{Error, Journal as _, Part, RunQuery, Settled};
use kapelle_core::{Digest, RunId, Shard};
use kapelle_store::contract::{append, tenant};
use kapelle_store::{Sqlite, Verified};

use crate::flips_base::{Base, Dice, next_of};

#[tokio::test]
async fn flips_of_a_bit_are_harmless_or_named() {
    let bases = [Base::new().await, Base::without_log().await];
    let oracle = bases[0].oracle().await;
    let (flips, seed) = (number("KAPELLE_FLIPS", 1_000), number("KAPELLE_FLIPS_SEED", 1));
    let (mut dice, mut table, begun) = (Dice(seed), Table::default(), Instant::now());
    for flip in 0..flips {
        let base = &bases[usize::from(dice.below(3) == 0)];
        let file = base.any(&mut dice);
        let bit = dice.below(base.files[file].1.len() as u64 * 8);
        let damaged = |content: &mut Vec<u8>| turn(content, bit);
        let name = base.name(file);
        let outcome = Outcome::of(base, &oracle, file, damaged).await;
        outcome.expect_named(&format!("seed {seed}, flip {flip}: bit {bit} of `{name}`"));
        table.count(base.kind(file), &outcome);
    }
    println!("{flips} bits of seed {seed} in {:.1?}\n{}", begun.elapsed(), table.text());
    if flips >= 1_000 {
        assert!(table.named > flips / 5, "too few did any harm");
        assert!(table.went_on * 10 > table.opened * 9, "too few stores went on");
    }
}

/// A bit that turns is put right; these are not, and must be refused by the page.
#[tokio::test]
async fn flips_of_more_of_a_page_are_harmless_or_named() {
    let base = Base::without_log().await;
    let oracle = base.oracle().await;
    let (flips, seed) = (number("KAPELLE_FLIPS", 1_000) / 5, number("KAPELLE_FLIPS_SEED", 1));
    let (mut dice, mut table, begun) = (Dice(seed), Table::default(), Instant::now());
    let file = base.files.iter().position(|(name, _)| name.ends_with("kapelle.db")).unwrap();
    let sectors = base.files[file].1.len() as u64 / 512;
    for flip in 0..flips {
        let (sector, noise) = (dice.below(sectors), dice.below(1 << 32));
        let (one, other) = (dice.below(512 * 8), dice.below(512 * 8 - 1));
        let whole = flip % 2 == 0;
        let damaged = |content: &mut Vec<u8>| {
            let sector = &mut content[usize::try_from(sector).unwrap() * 512..][..512];
            let mut dice = Dice(noise);
            if whole {
                sector.fill_with(|| u8::try_from(dice.below(256)).unwrap());
            } else {
                turn(sector, one);
                turn(sector, (one + 1 + other) % (512 * 8));
            }
        };
        let outcome = Outcome::of(&base, &oracle, file, damaged).await;
        outcome.expect_named(&format!("seed {seed}, flip {flip}: sector {sector}"));
        table.count(if whole { "a sector" } else { "two bits" }, &outcome);
    }
    println!("{flips} of seed {seed} in {:.1?}\n{}", begun.elapsed(), table.text());
}

fn turn(content: &mut [u8], bit: u64) {
    content[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
}

#[tokio::test]
async fn flips_or_not_a_file_that_was_cut_off_is_harmless_or_named() {
    let base = Base::new().await;
    let oracle = base.oracle().await;
    let (mut dice, mut table) = (Dice(number("KAPELLE_FLIPS_SEED", 1)), Table::default());
    for round in 0..120 {
        let file = base.any(&mut dice);
        let len = base.files[file].1.len() as u64;
        let cut = if round % 8 == 0 { 0 } else { dice.below(len) };
        let damaged = |content: &mut Vec<u8>| content.truncate(usize::try_from(cut).unwrap());
        let name = base.name(file);
        let outcome = Outcome::of(&base, &oracle, file, damaged).await;
        outcome.expect_named(&format!("`{name}` cut off at {cut} of {len}"));
        table.count(base.kind(file), &outcome);
    }
    println!("{}", table.text());
}

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().unwrap())
}

/// What was asked, and what came of it.
type Answers = BTreeMap<String, Result<String, String>>;

/// What a damage came to.
struct Outcome {
    /// Why the store was not opened.
    refused: Option<Error>,
    /// The files that a refused opening has changed.
    changed: Vec<String>,
    /// The questions that were refused an answer, with the reason.
    named: Vec<String>,
    /// The questions that were answered otherwise than before, without a word.
    silent: Vec<String>,
    /// What a full check found.
    verified: Vec<String>,
    /// How many runs gave all that was written; how many there are.
    whole: (usize, usize),
    /// Whether the open runs among them went on.
    goes_on: bool,
}

impl Outcome {
    async fn of(base: &Base, oracle: &Answers, file: usize, damage: impl Fn(&mut Vec<u8>)) -> Self {
        let dir = base.copy(file, &damage);
        let mut outcome = Self {
            refused: None,
            changed: Vec::new(),
            named: Vec::new(),
            silent: Vec::new(),
            verified: Vec::new(),
            whole: (0, base.runs.len()),
            goes_on: false,
        };
        match Sqlite::open(dir.path()) {
            Ok(store) => outcome.ask(&store, base, oracle).await,
            Err(error) => {
                outcome.refused = Some(error);
                outcome.changed = base.changed(dir.path(), file, &damage);
            }
        }
        outcome
    }

    async fn ask(&mut self, store: &Sqlite, base: &Base, oracle: &Answers) {
        let answers = ask(store, base).await;
        for (question, before) in oracle {
            match &answers[question] {
                answer if answer == before => {}
                Err(why) => self.named.push(format!("{question}: {why}")),
                Ok(answer) if answer.contains("\"damaged\"") => self.named.push(answer.clone()),
                Ok(answer) => self.silent.push(format!("{question}: {before:?} became {answer}")),
            }
        }
        let found = store.verify(|_| {}).await;
        let told = |found: Verified| found.damage.iter().map(ToString::to_string).collect();
        self.verified = found.map_or_else(|error| vec![error.to_string()], told);
        let whole = |run: &&RunId| {
            let question = format!("read {run}");
            answers[&question] == oracle[&question]
        };
        let runs: Vec<_> = base.runs.keys().filter(whole).copied().collect();
        self.whole.0 = runs.len();
        self.goes_on = goes_on(store, base, &runs).await.is_ok();
    }

    fn is_named(&self) -> bool {
        self.refused.is_some() || !self.named.is_empty() || !self.verified.is_empty()
    }

    fn expect_named(&self, what: &str) {
        assert!(self.silent.is_empty(), "{what}: {:#?}\n{:#?}", self.silent, self.verified);
        let names = |text: &str| {
            text.contains("kapelle.db")
                || text.contains("run `")
                || text.contains("sha256:")
                || text.contains("/payloads/")
        };
        assert!(self.changed.is_empty(), "{what}: refused, but changed: {:?}", self.changed);
        if let Some(error) = &self.refused {
            let text = error.to_string();
            assert!(names(&text) && text.contains(';'), "{what}: no name or way out: {text}");
        }
        for text in &self.verified {
            assert!(names(text) && text.contains(';'), "{what}: no name or way out: {text}");
        }
        for text in &self.named {
            assert!(names(text) || text.contains("\"damaged\""), "{what}: no name: {text}");
        }
    }
}

/// Goes on with the open runs among `runs`: an entry each.
async fn goes_on(store: &Sqlite, base: &Base, runs: &[RunId]) -> Result<(), Error> {
    for run in runs.iter().filter(|run| base.open.contains(run)) {
        let shard = run.shard();
        let seen = store.shards().await?[usize::from(shard.0)].epoch;
        let owner = kapelle_core::NodeId::new("next");
        let (_, epoch) = store.claim(&[(shard, seen)], &owner).await?[0];
        let next = next_of(*run, epoch, base.runs[run].last().unwrap());
        let part = Part { shard, epoch, runs: vec![next] };
        assert_eq!(append(store, vec![part]).await?, [Settled::Done { left_out: vec![] }]);
    }
    Ok(())
}

/// Asks everything that can be asked.
pub(crate) async fn ask(store: &Sqlite, base: &Base) -> Answers {
    let mut answers = Answers::new();
    let tenant = tenant();
    let mut note = |question: String, answer: Result<String, String>| {
        answers.insert(question, answer);
    };
    note("shards".into(), text(store.shards().await));
    note("open counts".into(), text(store.open_counts().await));
    let all = RunQuery { limit: 1_000, ..RunQuery::default() };
    note("list".into(), text(store.runs(&tenant, &all).await));
    for shard in [Shard(7), Shard(9)] {
        note(format!("tail {}", shard.0), tail(store, shard).await);
        note(format!("open runs {}", shard.0), text(store.open_runs(shard).await));
    }
    for (run, key) in base.runs.keys().zip(&base.keys) {
        note(format!("read {run}"), chain(store, *run).await);
        note(format!("row {run}"), text(store.run(&tenant, *run).await));
        note(format!("bytes {run}"), text(store.bytes(&tenant, *run).await));
        note(format!("key {key}"), text(store.submitted(&tenant, key).await));
    }
    for digest in &base.payloads {
        note(format!("payload {digest}"), payload(store, *digest).await);
    }
    answers
}

fn text<T: Debug>(answer: Result<T, Error>) -> Result<String, String> {
    answer.map(|answer| format!("{answer:?}")).map_err(|error| error.to_string())
}

/// A run, read as an engine reads it: every entry continues the chain.
async fn chain(store: &Sqlite, run: RunId) -> Result<String, String> {
    // The last hash is one of all that came before.
    let (mut seq, mut hash) = (1, [0; 32]);
    loop {
        let page = store.read(&tenant(), run, seq).await.map_err(|error| error.to_string())?;
        if page.is_empty() {
            return Ok(format!("{seq} {hash:?}"));
        }
        for entry in page {
            if entry.first_seq != seq || entry.chained(&hash) != entry.hash {
                return Err(format!("run `{run}` is damaged at event {seq}"));
            }
            (seq, hash) = (seq + u64::from(entry.count), entry.hash);
        }
    }
}

/// A shard, read as whoever follows it reads it.
async fn tail(store: &Sqlite, shard: Shard) -> Result<String, String> {
    let entries = store.tail(shard, 0, 1_000).await.map_err(|error| error.to_string())?;
    let mut ends = BTreeMap::new();
    for (_, entry) in &entries {
        let (seq, hash) = ends.entry(entry.run).or_insert((1, [0; 32]));
        if entry.first_seq != *seq || entry.chained(hash) != entry.hash {
            return Err(format!("run `{}` is damaged at event {seq}", entry.run));
        }
        (*seq, *hash) = (*seq + u64::from(entry.count), entry.hash);
    }
    let places: Vec<_> = entries.iter().map(|(pos, entry)| (pos, entry.run)).collect();
    Ok(format!("{places:?} {ends:?}"))
}

async fn payload(store: &Sqlite, digest: Digest) -> Result<String, String> {
    let content = store.payload(&tenant(), digest).await.map_err(|error| error.to_string())?;
    let Some(mut content) = content else { return Ok("none".to_owned()) };
    let mut bytes = Vec::new();
    content.reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(Digest::of(&bytes).to_string())
}

/// How it went, by kind of file.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    named: u64,
    opened: u64,
    went_on: u64,
}

impl Table {
    fn count(&mut self, kind: &'static str, outcome: &Outcome) {
        let result = match outcome {
            Outcome { refused: Some(_), .. } => "store refused",
            Outcome { named, .. } if !named.is_empty() => "named when asked",
            Outcome { verified, .. } if !verified.is_empty() => "harmless, named by the full check",
            _ => "harmless",
        };
        let row = self.rows.entry(kind).or_default();
        *row.entry(result).or_default() += 1;
        self.named += u64::from(outcome.is_named());
        if outcome.refused.is_none() {
            self.opened += 1;
            self.went_on += u64::from(outcome.goes_on);
            let lost = outcome.whole.1 - outcome.whole.0;
            *row.entry(["no run lost", "one run lost", "several runs lost"][lost.min(2)])
                .or_default() += 1;
            if !outcome.goes_on {
                *row.entry("others did not go on").or_default() += 1;
            }
        }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|(kind, row)| format!("{kind:<10}{row:?}"));
        rows.collect::<Vec<_>>().join("\n")
    }
}
