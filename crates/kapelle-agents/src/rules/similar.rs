//! How alike sentences are: the cosine of their stems, weighted by how rare they are.

use std::collections::HashMap;

use crate::text::Term;

/// A sentence as its stems and their weights, of length 1, by term.
#[derive(Clone, Debug, Default)]
pub(super) struct Vector(Vec<(Term, f32)>);

/// The vectors of sentences, given as their terms.
#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
pub(super) fn vectors(sentences: &[Vec<Term>]) -> (Vec<Vector>, HashMap<Term, f32>) {
    let mut among: HashMap<Term, u32> = HashMap::new();
    let counted: Vec<Vec<(Term, f32)>> = sentences.iter().map(|terms| counted(terms)).collect();
    for (term, _) in counted.iter().flatten() {
        *among.entry(*term).or_insert(0) += 1;
    }
    let all = sentences.len() as f32;
    let rare = |(term, count)| (term, (1.0 + all / count as f32).ln());
    let among: HashMap<Term, f32> = among.into_iter().map(rare).collect();
    let weighted = counted.into_iter().map(|counts| {
        let weigh =
            |(term, count): (Term, f32)| (term, count * among.get(&term).copied().unwrap_or(0.0));
        Vector(counts.into_iter().map(weigh).collect()).of_length_one()
    });
    (weighted.collect(), among)
}

fn counted(terms: &[Term]) -> Vec<(Term, f32)> {
    let mut sorted = terms.to_vec();
    sorted.sort_unstable();
    let mut counts: Vec<(Term, f32)> = Vec::with_capacity(sorted.len());
    for term in sorted {
        match counts.last_mut() {
            Some(last) if last.0 == term => last.1 += 1.0,
            _ => counts.push((term, 1.0)),
        }
    }
    counts
}

impl Vector {
    pub(super) fn terms(&self) -> &[(Term, f32)] {
        &self.0
    }

    /// From 0, nothing in common, to 1, the same words.
    pub(super) fn likeness(&self, other: &Self) -> f32 {
        let with = |term| other.0.binary_search_by_key(&term, |entry: &(Term, f32)| entry.0).ok();
        let shared =
            self.0.iter().filter_map(|(term, weight)| Some(weight * other.0[with(*term)?].1));
        shared.sum()
    }

    fn of_length_one(mut self) -> Self {
        let length = self.0.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        if length > 0.0 {
            self.0.iter_mut().for_each(|(_, weight)| *weight /= length);
        }
        self
    }
}
