//! What a report says, before it is written down: the answer first, then what the sources do not
//! agree on, then the evidence, then the sources.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::{Map, json};

use super::answer::{answer, of_all};
use super::cite::Cited;
use super::scale::Scale;
use super::timeline::{self, Timeline};
use super::{html, markdown};
use crate::input::read;
use crate::rules::asked::{Measure, Way, asked, measure};
use crate::rules::claims::{Claim, Group, told};
use crate::rules::document::{self, Document, Page};
use crate::rules::rank::{Ranked, rank};
use crate::rules::sheet::Notes;
use crate::rules::similar::vectors;
use crate::rules::{File, Made};
use crate::text::{Kind, Language, Terms, plain, sentences, squeeze};

/// How many passages are evidence, and from how many they are taken.
const EVIDENCE: usize = 6;
const CONSIDERED: usize = 40;
/// From here on two passages say the same.
const THE_SAME: f32 = 0.8;
/// How many facts are told that sources agree on.
const FACTS: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    pub(super) documents: Vec<Document>,
    title: Option<String>,
    question: Option<String>,
    summary: Option<Summary>,
    #[serde(alias = "walkthrough")]
    guide: Option<Map<String, Json>>,
    #[serde(default)]
    unread: Vec<Unread>,
    run: Option<Timeline>,
    formats: Option<Vec<Format>>,
    /// Documents that have the text of another: the place of that one, and what they are called.
    #[serde(skip)]
    repeats: Vec<(usize, String)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Summary {
    Text(String),
    Answer { sentences: Vec<Sentence> },
}

/// A sentence that `summarizer` chose.
#[derive(Clone, Deserialize)]
pub(super) struct Sentence {
    pub(super) text: String,
    source: Option<String>,
    start: Option<usize>,
    /// Which page it is of.
    #[serde(skip)]
    pub(super) page: Option<usize>,
}

impl Sentence {
    /// Whether it has most of the question; what is of no page was written for it.
    fn says_much(&self, scale: &Scale, pages: &[Page<'_>], terms: &mut Terms) -> bool {
        self.page.is_none_or(|page| {
            let said = terms.of(&self.text, pages[page].language);
            scale.is_much(&self.text, page, &pages[page], &said)
        })
    }
}

/// A page that should have been among the documents.
#[derive(Deserialize)]
pub(super) struct Unread {
    pub(super) url: String,
    pub(super) message: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Format {
    Markdown,
    Html,
    Json,
}

pub(super) fn input_schema() -> Json {
    json!({
        "type": "object",
        "required": ["documents"],
        "additionalProperties": false,
        "properties": {
            "documents": document::list_schema(),
            "title": {"type": "string"},
            "question": {"type": "string", "maxLength": 10_000},
            "summary": {
                "description": "a text, or what `summarizer` answered",
                "type": ["string", "object", "null"]
            },
            "guide": {
                "description": "what `guide-extractor` or `walkthrough-generator` answered",
                "type": ["object", "null"]
            },
            "unread": {
                "description": "what `web.read` lists under `failed`: pages to name as not read",
                "type": "array", "items": {
                    "type": "object", "required": ["url"],
                    "properties": {
                        "url": {"type": "string"}, "message": {"type": ["string", "null"]}
                    }
                }
            },
            "run": timeline::schema(),
            "formats": {
                "description": "which files to leave; all where nothing is said",
                "type": "array", "items": {"enum": ["markdown", "html", "json"]}
            }
        }
    })
}

/// What a report says.
pub(super) struct Report<'a> {
    pub(super) title: String,
    pub(super) question: Option<&'a str>,
    pub(super) answer: Vec<Quote>,
    /// Contradictions that touch the answer, by their place in the list.
    pub(super) doubts: Vec<usize>,
    /// Those that matter to the question come first.
    pub(super) contradictions: Vec<Told>,
    /// How many of them matter to it.
    pub(super) matter: usize,
    pub(super) facts: Vec<Told>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) summary: Vec<Sentence>,
    pub(super) steps: Vec<Step>,
    /// The page that the steps are of, if it is one of these.
    pub(super) steps_of: Option<usize>,
    pub(super) pages: &'a [Page<'a>],
    /// The same, as a reader sees them.
    pub(super) sources: Vec<Cited>,
    pub(super) unread: &'a [Unread],
    pub(super) run: Option<&'a Timeline>,
    /// The model that chose the answer, if one did.
    pub(super) by: Option<Box<str>>,
}

/// What a model chose for a report.
pub(super) struct Choice {
    pub(super) answer: Vec<Quote>,
    /// What it found that sources do not agree on.
    pub(super) contradictions: Vec<Told>,
    /// Who it was: `provider/model`.
    pub(super) by: Box<str>,
}

/// A place in a page.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) page: usize,
    pub(super) range: Range<usize>,
    pub(super) heading: Option<Range<usize>>,
}

/// A passage, and what of it is told.
pub(super) struct Evidence {
    pub(super) quote: Quote,
    told: Range<usize>,
}

/// What is said of one thing: values, each with who says it.
pub(super) struct Told {
    pub(super) subject: Box<str>,
    pub(super) values: Vec<(Box<str>, Vec<Quote>)>,
}

impl Told {
    /// `8080 [1], 9090 [2][3]`, with `safe` texts and each quote's `mark`.
    pub(super) fn values_with(
        &self,
        safe: impl Fn(&str) -> String,
        mark: impl Fn(&Quote) -> String,
    ) -> String {
        let value = |(value, quotes): &(Box<str>, Vec<Quote>)| {
            format!("{} {}", safe(value), quotes.iter().map(&mark).collect::<String>())
        };
        self.values.iter().map(value).collect::<Vec<_>>().join(", ")
    }
}

/// A step of a guide.
#[derive(Deserialize, serde::Serialize)]
pub(super) struct Step {
    #[serde(alias = "do")]
    pub(super) instruction: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<String>,
}

pub(super) fn work(input: &Json, folder: &Path) -> Result<Made, Failure> {
    let input = Input::read(input)?;
    Ok(input.written(&Page::all(&input.documents), folder, None, Notes::default()))
}

impl Input {
    pub(super) fn read(input: &Json) -> Result<Self, Failure> {
        let mut input: Self = read(input)?;
        document::check(&input.documents)?;
        input.take_each_once();
        Ok(input)
    }

    /// A text that is given again, under any name, is no other source.
    fn take_each_once(&mut self) {
        let mut known: HashMap<String, usize> = HashMap::new();
        for document in std::mem::take(&mut self.documents) {
            let text = squeeze(document.text());
            match known.get(&text).filter(|_| !text.is_empty()) {
                Some(at) => self.repeats.push((*at, document.name().into())),
                None => {
                    known.insert(text, self.documents.len());
                    self.documents.push(document);
                }
            }
        }
    }

    /// Which page has this name, also where it is the name of one with the same text.
    fn page_named(&self, source: &str, pages: &[Page<'_>]) -> Option<usize> {
        let repeated = || self.repeats.iter().find(|(_, name)| name == source).map(|(at, _)| *at);
        let named = pages.iter().position(|page| page.document.name() == source);
        named.or_else(repeated).filter(|_| !source.is_empty())
    }

    /// Which page a guide says that it is of.
    fn page_of(&self, guide: &Map<String, Json>, pages: &[Page<'_>]) -> Option<usize> {
        self.page_named(guide.get("source")?.as_str()?, pages)
    }

    /// The question, if there is one.
    pub(super) fn question(&self) -> Option<&str> {
        self.question.as_deref().filter(|question| !question.trim().is_empty())
    }

    /// The report on `pages`, its answer chosen by rules or as `choice` has it.
    pub(super) fn written(
        &self,
        pages: &[Page<'_>],
        folder: &Path,
        choice: Option<Choice>,
        notes: Notes,
    ) -> Made {
        let report = make(self, pages, folder, choice);
        let mut value = report.value();
        notes.tell(&mut value);
        let wanted = |format| self.formats.as_ref().is_none_or(|formats| formats.contains(&format));
        let mut files = Vec::new();
        if wanted(Format::Markdown) {
            let text = markdown::write(&report);
            files.push(File { name: "report.md", media_type: "text/markdown", text });
        }
        if wanted(Format::Html) {
            let text = html::write(&report);
            files.push(File { name: "report.html", media_type: "text/html", text });
        }
        if wanted(Format::Json) {
            let text = format!("{value:#}\n");
            files.push(File { name: "report.json", media_type: "application/json", text });
        }
        Made { value, files }
    }
}

fn make<'a>(
    input: &'a Input,
    pages: &'a [Page<'a>],
    folder: &Path,
    choice: Option<Choice>,
) -> Report<'a> {
    let mut terms = Terms::default();
    let question = input.question();
    let near = question.map_or_else(Vec::new, |question| near(question, pages, &mut terms));
    let evidence = evidence(&near, pages, &mut terms);
    let (answer, found, by) = match (choice, question) {
        (Some(choice), _) => (choice.answer, choice.contradictions, Some(choice.by)),
        (None, Some(question)) => (answer(question, &near, pages, &mut terms), Vec::new(), None),
        (None, None) => (of_all(pages, &mut terms), Vec::new(), None),
    };
    let (all, groups) = told(pages, &mut terms);
    let tell = |contradicts: bool| {
        let told = groups.iter().filter(move |group| group.is_contradiction() == contradicts);
        told.map(|group| tell(group, &all))
    };
    let mut contradictions: Vec<Told> = tell(true).collect();
    for told in found {
        if !contradictions.iter().any(|known| known.says_as_much_as(&told)) {
            contradictions.push(told);
        }
    }
    let matters = |told: &Told, terms: &mut Terms| {
        told.touches(&answer) || question.is_none_or(|question| told.is_about(question, terms))
    };
    contradictions.sort_by_cached_key(|told| !matters(told, &mut terms));
    let matter = contradictions.iter().take_while(|told| matters(told, &mut terms)).count();
    let doubts =
        (0..contradictions.len()).filter(|at| contradictions[*at].touches(&answer)).collect();
    let mut summary = summary(input, &answer, pages);
    if let Some(question) = question {
        // What nobody asked for is no more on it.
        let scale = Scale::of(question, &near, pages, &mut terms);
        summary.retain(|said| !answer.is_empty() && said.says_much(&scale, pages, &mut terms));
    }
    let guide = input.guide.as_ref().filter(|guide| {
        let language = input.page_of(guide, pages).map(|at| pages[at].language);
        question.is_none_or(|question| wants_steps(question, guide, language, &mut terms))
    });
    Report {
        title: title(input, question),
        question,
        answer,
        doubts,
        facts: tell(false).take(FACTS).collect(),
        contradictions,
        matter,
        evidence,
        summary,
        steps: guide.map_or_else(Vec::new, steps),
        steps_of: guide.and_then(|guide| input.page_of(guide, pages)),
        pages,
        sources: Cited::all(pages, &input.repeats, folder),
        unread: &input.unread,
        run: input.run.as_ref(),
        by,
    }
}

fn title(input: &Input, question: Option<&str>) -> String {
    let title = input.title.as_deref().filter(|title| !title.trim().is_empty()).or(question);
    title.map_or_else(|| "Report".into(), plain)
}

/// The passages that have most of the question.
pub(super) fn near(question: &str, pages: &[Page<'_>], terms: &mut Terms) -> Vec<Ranked> {
    // Who asks how large something is finds it where its size is told.
    let named = measure(question).map_or("", Measure::name);
    let mut ranked = rank(&format!("{question} {named}"), pages, terms);
    ranked.truncate(CONSIDERED);
    ranked
}

/// Of these the ones that answer the question best, those that say the same once.
fn evidence(near: &[Ranked], pages: &[Page<'_>], terms: &mut Terms) -> Vec<Evidence> {
    let stems: Vec<_> = near
        .iter()
        .map(|one| {
            terms.of(&pages[one.page].text[one.passage.range.clone()], pages[one.page].language)
        })
        .collect();
    let (vectors, _) = vectors(&stems);
    let mut taken: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    for (at, one) in near.iter().enumerate() {
        let repeats = taken.iter().any(|other| vectors[at].likeness(&vectors[*other]) > THE_SAME);
        if repeats || taken.len() == EVIDENCE {
            continue;
        }
        let Some(told) = telling(one, &pages[one.page], terms) else { continue };
        let (range, heading) = (one.passage.range.clone(), one.passage.heading.clone());
        taken.push(at);
        found.push(Evidence { quote: Quote { page: one.page, range, heading }, told });
    }
    found
}

/// The first sentence or two of the paragraph or item of a passage that has most of the question;
/// `None` where it has no prose.
fn telling(one: &Ranked, page: &Page<'_>, terms: &mut Terms) -> Option<Range<usize>> {
    const LONG: usize = 320;
    const PROSE_MIN: usize = 60;
    let range = &one.passage.range;
    let mut best: Option<(usize, Range<usize>)> = None;
    let prose =
        page.blocks.iter().filter(|b| matches!(b.kind, Kind::Paragraph | Kind::Item { .. }));
    for block in prose {
        let part = block.range.start.max(range.start)..block.range.end.min(range.end);
        if part.start + PROSE_MIN > part.end {
            continue;
        }
        let said = terms.of(&page.text[part.clone()], page.language);
        let asked = one.terms.iter().filter(|term| said.contains(term)).count();
        if best.as_ref().is_none_or(|(most, _)| asked > *most) {
            best = Some((asked, part));
        }
    }
    let (_, prose) = best?;
    let first = sentences(page.text, prose.clone());
    let fits = |range: &&Range<usize>| range.end - prose.start <= LONG;
    let fitting = first.iter().take_while(fits);
    // What leads to a list or to a command says little without it.
    let last = fitting.filter(|range| !page.text[(*range).clone()].ends_with(':')).last();
    let last = last.or(first.first());
    Some(prose.start..last.map_or(prose.end, |range| range.end))
}

fn tell(group: &Group, all: &[Claim]) -> Told {
    let quote =
        |at: &usize| Quote { page: all[*at].page, range: all[*at].range.clone(), heading: None };
    let value =
        |same: &Vec<usize>| (all[same[0]].written.clone(), same.iter().map(quote).collect());
    Told { subject: group.subject.clone(), values: group.values.iter().map(value).collect() }
}

impl Told {
    /// Whether half of what it is about is asked for.
    fn is_about(&self, question: &str, terms: &mut Terms) -> bool {
        let language = Language::of(None, question);
        let asked = asked(question, language, terms);
        let subject = terms.of(&self.subject, language);
        let said = subject.iter().filter(|term| asked.contains(term)).count();
        said > 0 && 2 * said >= subject.len()
    }

    /// Whether two values of `other`, or more, are of sentences of this one.
    fn says_as_much_as(&self, other: &Self) -> bool {
        other.values.iter().filter(|(_, quotes)| self.touches(quotes)).count() >= 2
    }

    /// Whether one of its sentences is in one of `quotes`.
    fn touches(&self, quotes: &[Quote]) -> bool {
        let mut said = self.values.iter().flat_map(|value| &value.1);
        said.any(|said| {
            quotes.iter().any(|quote| {
                quote.page == said.page
                    && said.range.start < quote.range.end
                    && quote.range.start < said.range.end
            })
        })
    }
}

/// The sentences of a summary that the answer does not have already.
fn summary(input: &Input, answer: &[Quote], pages: &[Page<'_>]) -> Vec<Sentence> {
    let sentences = match &input.summary {
        None => Vec::new(),
        Some(Summary::Answer { sentences }) => sentences.clone(),
        Some(Summary::Text(text)) => text
            .split("\n\n")
            .map(|text| Sentence { text: text.into(), source: None, start: None, page: None })
            .collect(),
    };
    let told = |one: &Sentence| {
        answer.iter().any(|quote| {
            one.page == Some(quote.page) && one.start.is_some_and(|at| quote.range.contains(&at))
        })
    };
    let placed = sentences.into_iter().map(|mut one| {
        one.text = plain(&one.text);
        one.page = one.source.as_deref().and_then(|source| input.page_named(source, pages));
        one
    });
    placed.filter(|one| !one.text.is_empty() && !told(one)).collect()
}

/// Whether a guide has a place in the report: where the question asks how, or the guide has its words
/// in its title.
fn wants_steps(
    question: &str,
    guide: &Map<String, Json>,
    language: Option<Language>,
    terms: &mut Terms,
) -> bool {
    let language = language.unwrap_or_else(|| Language::of(None, question));
    let title = guide.get("title").and_then(Json::as_str).unwrap_or_default();
    let title = terms.of(title, language);
    let asked = asked(question, language, terms);
    let said = asked.iter().filter(|term| title.contains(term)).count();
    Way::of(question) == Way::How || 2 * said > asked.len()
}

fn steps(guide: &Map<String, Json>) -> Vec<Step> {
    let steps = guide.get("steps").and_then(Json::as_array).into_iter().flatten();
    steps.filter_map(|step| Step::deserialize(step).ok()).collect()
}

/// A piece of a quote that a reader takes as one.
pub(super) enum Part {
    Prose(String),
    Item(String),
    Code(String),
}

impl Report<'_> {
    /// What a quote has, in order: code as it stands, everything else as a reader sees it.
    pub(super) fn parts(&self, quote: &Quote) -> Vec<Part> {
        self.parts_at(quote.page, &quote.range)
    }

    fn parts_at(&self, page: usize, range: &Range<usize>) -> Vec<Part> {
        let page = &self.pages[page];
        let inside = page.blocks.iter().filter_map(|block| {
            let at = block.range.start.max(range.start)..block.range.end.min(range.end);
            (!at.is_empty()).then_some((block.kind, at))
        });
        let mut parts: Vec<Part> = Vec::new();
        for (kind, at) in inside {
            match (kind, parts.last_mut()) {
                (Kind::Code, _) => parts.push(Part::Code(page.text[at].trim_end().into())),
                (Kind::Item { .. }, _) => parts.push(Part::Item(page.plain(&at))),
                (_, Some(Part::Prose(before))) => {
                    before.push(' ');
                    before.push_str(&page.plain(&at));
                }
                _ => parts.push(Part::Prose(page.plain(&at))),
            }
        }
        // One item, or one line of code, is quoted as a sentence is.
        match &mut parts[..] {
            [Part::Item(only)] => parts = vec![Part::Prose(std::mem::take(only))],
            [] => parts = vec![Part::Prose(page.plain(range))],
            _ => (),
        }
        parts
    }

    /// The words at a quote, as a reader sees them.
    pub(super) fn words(&self, quote: &Quote) -> String {
        self.pages[quote.page].plain(&quote.range)
    }

    /// The evidence that the answer does not quote already, in full.
    pub(super) fn more_evidence(&self) -> impl Iterator<Item = &Evidence> {
        let quoted = |one: &Evidence| {
            let holds = |said: &Quote| {
                said.page == one.quote.page
                    && said.range.start <= one.told.start
                    && one.told.end <= said.range.end
            };
            self.answer.iter().any(holds)
        };
        self.evidence.iter().filter(move |one| !quoted(one))
    }

    /// What is told of a passage: a sentence or two.
    pub(super) fn short(&self, one: &Evidence) -> String {
        let told = self.pages[one.quote.page].plain(&one.told);
        // Only what is cut off in its middle has to say so.
        let is_whole =
            told.ends_with(|end: char| end.is_ascii_punctuation() || "。！？।…”".contains(end));
        let more = if is_whole || one.told.end == one.quote.range.end { "" } else { " …" };
        format!("{told}{more}")
    }

    pub(super) fn heading(&self, quote: &Quote) -> Option<String> {
        quote.heading.as_ref().map(|range| self.pages[quote.page].plain(range))
    }

    /// A passage's heading as the beginning of a line: with a full stop, unless it has a mark.
    pub(super) fn lead(&self, quote: &Quote) -> Option<String> {
        let heading = self.heading(quote)?;
        let stop = if heading.ends_with(['.', '?', '!', ':']) { "" } else { "." };
        Some(heading + stop)
    }

    fn value(&self) -> Json {
        let mut value = json!({
            "title": self.title,
            "answer": self.quotes(self.answer.iter()),
            "contradictions": self.all_told(&self.contradictions),
            "facts": self.all_told(&self.facts),
            "evidence": self.quotes(self.evidence.iter().map(|one| &one.quote)),
            "sources": self.sources(),
        });
        if let Some(question) = self.question {
            value["question"] = question.into();
        }
        if !self.steps.is_empty() {
            value["steps"] = json!(self.steps);
        }
        value
    }

    fn quotes<'q>(&self, quotes: impl Iterator<Item = &'q Quote>) -> Json {
        let show = |quote: &Quote| {
            let mut shown = self.pages[quote.page].quote(&quote.range);
            if let Some(heading) = self.heading(quote) {
                shown.insert("heading".into(), heading.into());
            }
            shown.insert("plain".into(), self.words(quote).into());
            Json::Object(shown)
        };
        quotes.map(show).collect()
    }

    fn all_told(&self, told: &[Told]) -> Json {
        let values = |told: &Told| -> Json {
            let show = |(value, quotes): &(Box<str>, Vec<Quote>)| json!({"value": value, "sources": self.quotes(quotes.iter())});
            told.values.iter().map(show).collect()
        };
        told.iter().map(|told| json!({"subject": told.subject, "values": values(told)})).collect()
    }

    fn sources(&self) -> Json {
        let show = |(page, cited): (&Page<'_>, &Cited)| {
            let mut source = json!({"source": page.document.name()});
            if !cited.also.is_empty() {
                source["also"] = json!(cited.also);
            }
            let more = [("title", &page.document.title), ("published", &page.document.published)];
            for (name, said) in more {
                if let Some(said) = said {
                    source[name] = said.trim().into();
                }
            }
            source
        };
        self.pages.iter().zip(&self.sources).map(show).collect()
    }
}
