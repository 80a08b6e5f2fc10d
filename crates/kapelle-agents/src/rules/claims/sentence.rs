//! The claims of a page, sentence by sentence and row by row.

use std::ops::Range;

use super::about::About;
use super::flag::{begins, flag, is_of_names, written};
use super::value::{Dimension, Found, Question, Value, values};
use crate::rules::document::Page;
use crate::rules::guide::is_told;
use crate::text::{Kind, Terms, sentences, words};

/// The most claims that are taken from one page.
const CLAIMS_MAX: usize = 5000;
/// The longest sentence, in words, that is understood here.
const WORDS_MAX: usize = 45;
/// The most values in a sentence that can be told apart.
const VALUES_MAX: usize = 4;

/// Something that a page says.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Which page it is of.
    pub(crate) page: usize,
    /// The sentence or the row.
    pub(crate) range: Range<usize>,
    /// The value as it is written.
    pub(crate) written: Box<str>,
    pub(crate) value: Value,
    pub(super) about: About,
    /// What a bare number counts, as far as the word behind it says.
    pub(super) counted: Option<crate::text::Term>,
    pub(super) is_rough: bool,
}

/// The most values in a row that says what something is: where there are more, it is data.
const CELLS_MAX: usize = 3;

/// Words in a sentence that make it an example, history or a wish.
const NO_CLAIM: [&str; 26] = [
    "example",
    "e.g",
    "instance",
    "such",
    "suppose",
    "imagine",
    "assume",
    "previously",
    "formerly",
    "older",
    "earlier",
    "longer",
    "prior",
    "historically",
    "originally",
    "might",
    "would",
    "could",
    "changed",
    "raised",
    "lowered",
    "increased",
    "decreased",
    "was",
    "were",
    "z.b",
];
/// Words that begin an instruction.
const INSTRUCTION: [&str; 22] = [
    "set", "use", "try", "change", "choose", "pick", "let", "consider", "say", "run", "type",
    "enter", "add", "put", "wait", "make", "give", "start", "note", "see", "go", "open",
];
const ROUGH: [&str; 8] =
    ["about", "around", "roughly", "approximately", "nearly", "almost", "circa", "some"];
/// What parts the clauses of a sentence with several values.
const SEPARATORS: [&str; 13] = [
    ";",
    ", ",
    ": ",
    " and ",
    " but ",
    " while ",
    " whereas ",
    " with ",
    " per ",
    " (",
    " or ",
    " after ",
    " for ",
];
/// What begins another statement in the same sentence.
const STATEMENTS: [&str; 3] = [", and ", ", but ", "; "];
/// What begins a clause before a value, and what ends it behind one.
const BEFORE: [&str; 9] = [
    " and was ",
    " and is ",
    " and has ",
    "; ",
    ", and ",
    ", but ",
    ", so ",
    " while ",
    " whereas ",
];
const AFTER: [&str; 11] = [
    ", ",
    "; ",
    " and ",
    " but ",
    " while ",
    " whereas ",
    " because ",
    " before ",
    " so ",
    " which ",
    " to ",
];
/// What still belongs to the value behind such an end.
const GOES_ON: [&str; 10] = [
    "if ",
    "when ",
    "unless ",
    "by default",
    "at most",
    "at least",
    "during ",
    "except ",
    "without ",
    "instead",
];

/// What `page`, the one at `index`, says.
pub(crate) fn claims(index: usize, page: &Page<'_>, terms: &mut Terms) -> Vec<Claim> {
    let mut found = Vec::new();
    let mut header: Option<Vec<&str>> = None;
    for block in &page.blocks {
        if found.len() >= CLAIMS_MAX {
            break;
        }
        let reader = Reader { index, page };
        match block.kind {
            Kind::Row => {
                let cells = cells(&page.text[block.range.clone()]);
                match &header {
                    Some(header) => reader.row(header, &cells, &block.range, terms, &mut found),
                    None => header = Some(cells),
                }
                continue;
            }
            Kind::Paragraph | Kind::Item { .. } => {
                for range in sentences(page.text, block.range.clone()) {
                    reader.sentence(&range, terms, &mut found);
                }
            }
            Kind::Heading(_) | Kind::Code => (),
        }
        header = None;
    }
    found
}

/// The cells of a row of a table.
pub(in crate::rules) fn cells(row: &str) -> Vec<&str> {
    let mark = if row.starts_with('|') { '|' } else { '\t' };
    row.trim_matches(mark).split(mark).map(str::trim).collect()
}

struct Reader<'a> {
    index: usize,
    page: &'a Page<'a>,
}

impl Reader<'_> {
    fn sentence(&self, range: &Range<usize>, terms: &mut Terms, found: &mut Vec<Claim>) {
        let text = &self.page.text[range.clone()];
        if !is_claim(text) {
            return;
        }
        let is_rough = words(text).any(|(_, word)| ROUGH.contains(&word));
        let mut all = values(text);
        as_years(text, &mut all);
        let flag = flag(text);
        let mut names = Vec::new();
        if flag.as_ref().is_some_and(|flag| is_of_names(text, flag, &all)) {
            names = std::mem::take(&mut all);
        }
        let since = set_apart(text, &mut all);
        all.retain(|found| !is_denied(&text[..found.range.start]));
        if all.is_empty() {
            all.extend(flag.or_else(|| order(text, self.page.language.code())));
        }
        if all.len() > VALUES_MAX {
            return;
        }
        let clauses = clauses(text, &all);
        let mut first: Option<About> = None;
        for (value, clause) in all.iter().zip(clauses) {
            let Some(clause) = clause else { continue };
            let clause = narrowed(text, &clause, &value.range);
            let inner = value.range.start - clause.start..value.range.end - clause.start;
            let mut about = About::of(&text[clause.clone()], &inner, self.page.language, terms);
            match &first {
                Some(first) if about.said.len() < 2 => about.borrow(first),
                _ => (),
            }
            if let Value::Flag(_, Question::First) = value.value {
                // `Stop the others, and the leader last`: what is done is said once.
                let does = words(text).next().map_or("", |(range, _)| &text[range]);
                about.borrow(&About::of(does, &(0..0), self.page.language, terms));
            }
            let named = names.iter().map(|name| &text[name.range.clone()]);
            let named: Vec<&str> = named.collect();
            about.said.retain(|said| !named.contains(&&*said.word));
            if matches!(value.value, Value::Version(_)) || !named.is_empty() {
                about.said.retain(|said| !matches!(&*said.word, "version" | "versions"));
            }
            let in_reach = |since: &&Found| statement(text, since) <= statement(text, value);
            let of = names.iter().filter(|name| !begins(text, name));
            for since in since.iter().filter(in_reach).chain(of) {
                let written = text[since.range.clone()].trim_start_matches('v');
                about.hold_only(terms.stemmed(written));
            }
            let counted = self.counted(text, value, terms);
            first.get_or_insert_with(|| about.clone());
            found.push(Claim {
                page: self.index,
                range: range.clone(),
                written: written(text, value),
                value: value.value.clone(),
                about,
                counted,
                is_rough,
            });
        }
    }

    /// The word right behind a bare number: what there are so many of.
    fn counted(&self, text: &str, value: &Found, terms: &mut Terms) -> Option<crate::text::Term> {
        if !matches!(value.value, Value::Quantity(_, Dimension::Count)) {
            return None;
        }
        let rest = text[value.range.end..].strip_prefix(' ')?;
        let (range, word) = words(rest).next().filter(|(range, _)| range.start == 0)?;
        let about = About::of(&rest[range], &(0..0), self.page.language, terms);
        let said = about.said.first().map(|said| said.term);
        said.filter(|_| word.len() > 2)
    }

    /// A row says of its first cell what the header says of the others.
    fn row(
        &self,
        header: &[&str],
        cells: &[&str],
        range: &Range<usize>,
        terms: &mut Terms,
        found: &mut Vec<Claim>,
    ) {
        let Some((name, rest)) = cells.split_first() else { return };
        let is_data = rest.iter().filter(|cell| cell_value(cell).is_some()).count() > CELLS_MAX;
        if is_data || cell_value(name).is_some() {
            return;
        }
        for (column, cell) in rest.iter().enumerate() {
            let title = header.get(column + 1).copied().unwrap_or_default();
            let Some((value, written)) = cell_value(cell) else { continue };
            let about = format!("{name}, {title}");
            let about = About::of(&about, &(0..0), self.page.language, terms);
            found.push(Claim {
                page: self.index,
                range: range.clone(),
                written,
                value,
                about,
                counted: None,
                is_rough: false,
            });
        }
    }
}

/// The value of a cell that is nothing else.
fn cell_value(cell: &str) -> Option<(Value, Box<str>)> {
    let bare = cell.trim_matches(['`', '*', '"', ' ']);
    let flag = match &*bare.to_lowercase() {
        "yes" | "true" | "on" | "enabled" => Some(true),
        "no" | "false" | "off" | "disabled" => Some(false),
        _ => None,
    };
    if let Some(flag) = flag {
        return Some((Value::Flag(flag, Question::Enabled), bare.into()));
    }
    let mut found = values(bare);
    let only = found.pop().filter(|_| found.is_empty())?;
    (only.range == (0..bare.len())).then(|| (only.value, bare.into()))
}

/// Whether a sentence says what is so today: no question, example, history or instruction.
pub(super) fn is_claim(text: &str) -> bool {
    if text.ends_with('?') || !text.contains(' ') {
        return false;
    }
    let (mut count, mut last) = (0, String::new());
    for (_, word) in words(text) {
        let lower = word.to_lowercase();
        let instructs = count == 0 && INSTRUCTION.contains(&&*lower);
        // What is no longer so is denied today.
        let denies = &*lower == "longer" && &*last == "no";
        if instructs || NO_CLAIM.contains(&&*lower) && !is_dated(text, &lower) && !denies {
            return false;
        }
        last = lower;
        count += 1;
    }
    count <= WORDS_MAX && !text.contains("used to") && !text.contains("e.g.")
}

/// Beside a number a version or a date says since when, and beside a date a version says of what:
/// takes those out of `all`. What stands in another statement is beside nothing.
fn set_apart(text: &str, all: &mut Vec<Found>) -> Vec<Found> {
    let rank = |found: &Found| match found.value {
        Value::Version(_) => 0,
        Value::Date { .. } => 1,
        Value::Quantity(..) | Value::Flag(..) => 2,
    };
    let ranks: Vec<_> = all.iter().map(|found| (statement(text, found), rank(found))).collect();
    let most = |found: &Found| {
        let here = ranks.iter().filter(|of| of.0 == statement(text, found));
        here.map(|of| of.1).max().unwrap_or(0)
    };
    all.extract_if(.., |found| rank(found) < most(found)).collect()
}

/// In which statement of the sentence a value stands, from 0.
fn statement(text: &str, found: &Found) -> usize {
    let before = &text[..found.range.start];
    STATEMENTS.iter().map(|mark| before.matches(mark).count()).sum()
}

/// `was` tells of the past, and what is past has a date.
fn is_dated(text: &str, word: &str) -> bool {
    let dated = |found: &Found| matches!(found.value, Value::Date { .. });
    matches!(word, "was" | "were") && {
        let mut all = values(text);
        as_years(text, &mut all);
        all.iter().any(dated)
    }
}

/// A number behind `in` or `since` that can be a year is one; one behind a name, with a point, is a
/// version.
fn as_years(text: &str, all: &mut [Found]) {
    for found in all {
        let Value::Quantity(number, Dimension::Count) = found.value else { continue };
        let written = &text[found.range.clone()];
        let before = text[..found.range.start].trim_end();
        let last = before.rsplit([' ', '(']).next().unwrap_or_default();
        let is_year =
            written.len() == 4 && (1500.0..2200.0).contains(&number) && number.fract() == 0.0;
        if is_year
            && matches!(&*last.to_lowercase(), "in" | "since" | "by" | "year" | "from" | "until")
        {
            let year = written.parse().unwrap_or_default();
            found.value = Value::Date { year, month: None, day: None };
        } else if written.contains('.') && last.starts_with(char::is_uppercase) {
            let parts = written.split('.').map(|part| part.parse().unwrap_or(0));
            found.value = Value::Version(parts.collect());
        }
    }
}

/// Whether a number is what something is not: `does not need 3.8`. `Not more than 3` is 3, and who did
/// not speak for 3 seconds was silent so long.
fn is_denied(before: &str) -> bool {
    const NEAR: usize = 3;
    const MEASURES: [&str; 10] =
        ["for", "exceed", "more", "less", "longer", "fewer", "over", "larger", "greater", "only"];
    let words: Vec<&str> = words(before).map(|(_, word)| word).collect();
    let near = words.iter().rev().take(NEAR).take_while(|word| !MEASURES.contains(word));
    near.into_iter()
        .any(|word| matches!(*word, "not" | "cannot" | "never") || word.ends_with("n't"))
}

/// The clause of each value; `None` where it cannot be told from another's.
fn clauses(text: &str, all: &[Found]) -> Vec<Option<Range<usize>>> {
    let mut start = 0;
    let mut open = true;
    let mut found = Vec::with_capacity(all.len());
    for (at, value) in all.iter().enumerate() {
        let Some(next) = all.get(at + 1) else {
            found.push(open.then_some(start..text.len()));
            break;
        };
        let between = text.get(value.range.end..next.range.start).unwrap_or_default();
        let cut = SEPARATORS.iter().filter_map(|mark| between.rfind(mark)).max();
        let end = value.range.end + cut.unwrap_or(0);
        found.push((open && cut.is_some()).then_some(start..end));
        open = cut.is_some();
        start = end;
    }
    found
}

/// The part of a clause that speaks of its value: what is told besides is of something else.
fn narrowed(text: &str, clause: &Range<usize>, value: &Range<usize>) -> Range<usize> {
    let before = &text[clause.start..value.start];
    let start = BEFORE.iter().filter_map(|mark| before.rfind(mark).map(|at| at + mark.len())).max();
    let after = text.get(value.end..clause.end).unwrap_or_default();
    let leads_on = |at: usize, mark: &str| {
        let rest = &after[at + mark.len()..];
        GOES_ON.iter().any(|word| rest.starts_with(word))
    };
    let end =
        AFTER.iter().filter_map(|mark| after.find(mark).filter(|at| !leads_on(*at, mark))).min();
    clause.start + start.unwrap_or(0)..value.end + end.unwrap_or(after.len())
}

/// What an instruction says of when it is a thing's turn: `stop the leader last`.
fn order(text: &str, code: &str) -> Option<Found> {
    const NAME_MAX: usize = 2;
    let words: Vec<(Range<usize>, &str)> = words(text).collect();
    let at = words.iter().enumerate().position(|(at, (range, word))| {
        let named = words[..at].iter().rev().skip(1).take(NAME_MAX).any(|(_, word)| *word == "the");
        let ends = text[range.end..].chars().next().is_none_or(|next| ",.;:".contains(next));
        matches!(*word, "first" | "last") && named && ends
    })?;
    let (range, word) = &words[at];
    let value = Value::Flag(*word == "first", Question::First);
    is_told(text, code).then(|| Found { value, range: range.clone() })
}
