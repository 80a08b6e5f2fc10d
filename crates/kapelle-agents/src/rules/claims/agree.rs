//! Claims about the same thing: those that say the same once, those that do not against each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::sentence::Claim;
use super::value::Value;
use crate::rules::document::Page;
use crate::text::{Term, Terms, squeeze, words};

/// How many claims with a word in common are compared with each other: more share it by chance.
const COMMON_MAX: usize = 120;
/// How much of the shorter claim's words the other must have, and how much of all words.
const OF_SHORTER: f64 = 0.7;
const OF_ALL: f64 = 0.45;
/// How far apart two rough numbers may be and still agree.
const ROUGHLY: f64 = 0.15;

/// Claims about one thing, by their place in the list; those of one value stand together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) values: Vec<Vec<usize>>,
    /// The words they have in common, as the first of them has them.
    pub(crate) subject: Box<str>,
}

impl Group {
    pub(crate) fn is_contradiction(&self) -> bool {
        self.values.len() > 1
    }
}

/// The claims that two pages or more make about one thing, in the order of the first of each.
pub(crate) fn groups(claims: &[Claim], pages: &[Page<'_>], terms: &mut Terms) -> Vec<Group> {
    let topic = topic(pages, terms);
    let default = terms.stemmed("default");
    let keys: Vec<Vec<Term>> = claims.iter().map(|claim| key(claim, &topic, default)).collect();
    let weights = weights(&keys);
    let compare = Compare { claims, pages, keys: &keys, weights: &weights, topic: &topic, default };
    let mut taken = HashSet::new();
    let mut found = Vec::new();
    let near = near(&keys);
    for first in 0..claims.len() {
        if taken.contains(&first) || keys[first].is_empty() {
            continue;
        }
        let mut others: Vec<usize> = keys[first]
            .iter()
            .flat_map(|term| near.get(term).into_iter().flatten())
            .copied()
            .collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|other| {
            *other > first && !taken.contains(other) && compare.is_about_same(first, *other)
        });
        let group = compare.group(first, &others);
        let several =
            group.values.iter().flatten().any(|at| claims[*at].page != claims[first].page);
        if several {
            taken.extend(group.values.iter().flatten().copied());
            found.push(group);
        }
    }
    found
}

/// What most of the titles name: the thing that all is about, which tells no claim from another.
pub(crate) fn topic(pages: &[Page<'_>], terms: &mut Terms) -> HashSet<Term> {
    let mut among: BTreeMap<Term, usize> = BTreeMap::new();
    for page in pages {
        let mut title = terms.of(page.document.title.as_deref().unwrap_or(""), page.language);
        title.sort_unstable();
        title.dedup();
        for term in title {
            *among.entry(term).or_default() += 1;
        }
    }
    let most = pages.len().div_ceil(2).max(2);
    among.into_iter().filter(|(_, count)| *count >= most).map(|(term, _)| term).collect()
}

/// The words that two claims are compared by. `default` is left out where there are others: what a
/// thing is, is what it is by default, where nothing else is said.
fn key(claim: &Claim, topic: &HashSet<Term>, default: Term) -> Vec<Term> {
    let said =
        claim.about.said.iter().filter(|said| !said.is_itself && !topic.contains(&said.term));
    let mut key: Vec<Term> = said.map(|said| said.term).collect();
    key.sort_unstable();
    key.dedup();
    if key.len() > 1 {
        key.retain(|term| *term != default);
    }
    key
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
fn weights(keys: &[Vec<Term>]) -> HashMap<Term, f64> {
    let mut among: HashMap<Term, u32> = HashMap::new();
    for term in keys.iter().flatten() {
        *among.entry(*term).or_insert(0) += 1;
    }
    // Even a word that all have tells a little.
    let rare = |count| 0.5 + (1.0 + keys.len() as f64 / f64::from(count)).ln();
    among.into_iter().map(|(term, count)| (term, rare(count))).collect()
}

/// For each word, the claims that have it; none where too many have.
fn near(keys: &[Vec<Term>]) -> HashMap<Term, Vec<usize>> {
    let mut near: HashMap<Term, Vec<usize>> = HashMap::new();
    for (at, term) in
        keys.iter().enumerate().flat_map(|(at, key)| key.iter().map(move |term| (at, term)))
    {
        near.entry(*term).or_default().push(at);
    }
    near.retain(|_, claims| claims.len() <= COMMON_MAX);
    near
}

struct Compare<'a> {
    claims: &'a [Claim],
    pages: &'a [Page<'a>],
    keys: &'a [Vec<Term>],
    weights: &'a HashMap<Term, f64>,
    topic: &'a HashSet<Term>,
    default: Term,
}

impl Compare<'_> {
    fn is_about_same(&self, one: usize, other: usize) -> bool {
        let (a, b) = (&self.claims[one], &self.claims[other]);
        a.value.is_comparable(&b.value)
            && a.about.conditions == b.about.conditions
            && (is_unbounded(&a.value) || a.about.exclusive == b.about.exclusive)
            && self.shares_words(one, other)
            && self.has_same_subject(a, b)
            && self.has_same_subject(b, a)
            && counts_same(a, b)
    }

    fn shares_words(&self, one: usize, other: usize) -> bool {
        let (a, b) = (&self.keys[one], &self.keys[other]);
        if a.len().min(b.len()) == 1 && a != b {
            return false;
        }
        let weight = |terms: &mut dyn Iterator<Item = &Term>| -> f64 {
            terms.map(|term| self.weights.get(term).copied().unwrap_or(0.0)).sum()
        };
        let shared = weight(&mut a.iter().filter(|term| b.binary_search(term).is_ok()));
        let (of_a, of_b) = (weight(&mut a.iter()), weight(&mut b.iter()));
        let enough =
            shared >= OF_SHORTER * of_a.min(of_b) && shared >= OF_ALL * (of_a + of_b - shared);
        enough && !self.is_narrower(one, other) && !self.is_narrower(other, one)
    }

    /// Whether a word that only `one` has stands right before a word that both have: a *metrics port*
    /// is not *the port*.
    fn is_narrower(&self, one: usize, other: usize) -> bool {
        let said = &self.claims[one].about.said;
        let key = &self.keys[other];
        said.windows(2).any(|two| {
            let beside = two[0].range.end > 0 && two[1].range.start == two[0].range.end + 1;
            let plain = two[0].term != self.default
                && !two[0].is_itself
                && !self.topic.contains(&two[0].term);
            beside
                && plain
                && key.binary_search(&two[0].term).is_err()
                && key.binary_search(&two[1].term).is_ok()
        })
    }

    /// Whether what `one` speaks of is named in `other` at all.
    fn has_same_subject(&self, one: &Claim, other: &Claim) -> bool {
        let mut subject = one
            .about
            .said
            .iter()
            .filter(|said| {
                said.is_subject
                    && said.term != self.default
                    && !said.is_itself
                    && !self.topic.contains(&said.term)
            })
            .peekable();
        subject.peek().is_none() || subject.any(|said| other.about.says(said.term))
    }

    fn group(&self, first: usize, others: &[usize]) -> Group {
        let mut values: Vec<Vec<usize>> = vec![vec![first]];
        for other in others {
            let agrees = |value: &Vec<usize>| self.agree(value[0], *other);
            match values.iter().position(agrees) {
                Some(at) => values[at].push(*other),
                None if self.is_elsewhere(&values, *other) => values.push(vec![*other]),
                None => (),
            }
        }
        let subject = self.subject(first, &values).into();
        Group { values, subject }
    }

    /// What the claims are about: as one of them says it in a few words, or the words that all of
    /// them have.
    fn subject(&self, first: usize, values: &[Vec<usize>]) -> String {
        let members: Vec<usize> = values.iter().flatten().copied().collect();
        let in_all = |term: Term| members.iter().all(|at| self.claims[*at].about.says(term));
        let named = |at: usize| {
            let said = self.claims[at].about.said.iter();
            let said = said.filter(|said| in_all(said.term) && !self.topic.contains(&said.term));
            let mut words: Vec<&str> = said.map(|said| &*said.word).collect();
            let mut seen = HashSet::new();
            words.retain(|word| seen.insert(*word));
            words
        };
        let phrases = members.iter().filter_map(|at| self.phrase(*at, &named(*at)));
        let shortest = phrases.min_by_key(|phrase| phrase.len());
        shortest.unwrap_or_else(|| {
            let words = named(first);
            let written: Vec<&str> = words.iter().map(|word| self.written(first, word)).collect();
            match written.split_last() {
                Some((&"default", rest)) if !rest.is_empty() => rest.join(" ") + " by default",
                _ => written.join(" "),
            }
        })
    }

    /// A word as the claim writes it, if that is in capitals throughout.
    fn written<'w>(&'w self, at: usize, word: &'w str) -> &'w str {
        let claim = &self.claims[at];
        let sentence = &self.pages[claim.page].text[claim.range.clone()];
        let mut all = words(sentence).map(|(_, written)| written);
        let capitals = |written: &&str| {
            written.eq_ignore_ascii_case(word) && !written.contains(char::is_lowercase)
        };
        all.find(capitals).unwrap_or(word)
    }

    /// The part of a claim's sentence from the first of `named` to the last, if it is short and
    /// says nothing of the value.
    fn phrase(&self, at: usize, named: &[&str]) -> Option<String> {
        let claim = &self.claims[at];
        let sentence = &self.pages[claim.page].text[claim.range.clone()];
        let all: Vec<_> = words(sentence)
            .map(|(range, word)| (range, named.contains(&&*word.to_lowercase())))
            .collect();
        let first = all.iter().position(|word| word.1)?;
        let last = all.iter().rposition(|word| word.1)?;
        let more = all[first..=last].iter().filter(|word| !word.1).count();
        let phrase = squeeze(&sentence[all[first].0.start..all[last].0.end]);
        let is_name =
            !phrase.contains(&*claim.written) && !phrase.contains(['|', '`', ',', '.', ':']);
        (more <= 3 && is_name).then(|| lowered(&phrase.replace("efault the ", "efault ")))
    }

    /// A page that says two things means two things: only another page can contradict it.
    fn is_elsewhere(&self, values: &[Vec<usize>], other: usize) -> bool {
        let page = self.claims[other].page;
        values.iter().flatten().all(|at| self.claims[*at].page != page)
    }

    fn agree(&self, one: usize, other: usize) -> bool {
        let (a, b) = (&self.claims[one], &self.claims[other]);
        if let (Value::Quantity(x, _), Value::Quantity(y, _)) = (&a.value, &b.value)
            && (a.is_rough || b.is_rough)
        {
            return (x - y).abs() <= ROUGHLY * x.abs().max(y.abs());
        }
        a.value.agrees(&b.value)
    }
}

/// `requires 1.75` and `at least 1.75` say the same of a version.
fn is_unbounded(value: &Value) -> bool {
    matches!(value, Value::Version(_) | Value::Date { .. })
}

fn counts_same(one: &Claim, other: &Claim) -> bool {
    let named = |a: &Claim, b: &Claim| a.counted.is_none_or(|term| b.about.says(term));
    named(one, other) && named(other, one)
}

/// `phrase` with a small letter at its beginning, unless more of its first word is in capitals.
fn lowered(phrase: &str) -> String {
    let mut letters = phrase.chars();
    match (letters.next(), phrase.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => phrase.to_owned(),
    }
}
