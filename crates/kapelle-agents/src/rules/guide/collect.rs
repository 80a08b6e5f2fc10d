//! Steps, collected block by block.

use std::collections::BTreeMap;
use std::ops::Range;

use super::imperative::{is_told, may_be_told};
use super::shell;
use crate::text::{Block, Kind, Language, Written, plain, sentences};

/// The most lines of commands: what is longer is output or a file.
const COMMANDS_MAX: usize = 15;
/// The most steps of a guide.
const STEPS_MAX: usize = 500;

/// A step as the page tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) instruction: String,
    pub(super) element: Option<String>,
    pub(super) command: Option<String>,
    pub(super) note: Option<String>,
    pub(super) warning: Option<String>,
    pub(super) expect: Option<String>,
    pub(super) section: Option<Range<usize>>,
    pub(super) range: Range<usize>,
    /// How far its item is indented, where it is one of a numbered list.
    indent: Option<usize>,
    /// Whether it is a heading with a number.
    heading: bool,
}

impl Step {
    /// What `range` tells to do, below the heading `section`.
    pub(super) fn of(
        text: &Written<'_>,
        range: Range<usize>,
        section: Option<Range<usize>>,
    ) -> Self {
        let written = &text[range.clone()];
        Self {
            instruction: text.plain(&range).trim_end_matches(':').to_owned(),
            element: element(written, text.is_marked(&range)),
            command: inline_command(written),
            section,
            range,
            ..Self::default()
        }
    }

    /// The same, which is nothing but `command`.
    pub(super) fn only(mut self, command: String) -> Self {
        self.instruction = format!("Run: {}", command.lines().next().unwrap_or_default());
        self.element = None;
        self.command = Some(command);
        self
    }
}

/// What a sentence is to a step.
enum Role {
    Told,
    Note(String),
    Warning(String),
    Expect,
    Other,
}

/// The steps of `blocks`.
pub(super) fn collect(text: &Written<'_>, blocks: &[Block], language: Language) -> Vec<Step> {
    // Where there are numbered steps, prose around them tells about them.
    let told = told_items(text, blocks, language.code());
    let numbered = told.iter().filter(|told| **told).count();
    let mut collector = Collector {
        text,
        code: language.code(),
        found: Vec::new(),
        section: None,
        numbered: numbered >= 2,
        ahead: (None, None),
        lead: None,
    };
    for (block, told) in blocks.iter().zip(told) {
        if collector.found.len() >= STEPS_MAX {
            break;
        }
        match block.kind {
            // A list of what was mended, or of what there is, tells nobody to do anything.
            Kind::Item { number: Some(_), .. } if !told => collector.lead = None,
            _ => collector.block(block),
        }
    }
    without_strays(collector.found)
}

/// Which blocks are items of a numbered list of which most tell what to do: an item whose verb is
/// not known is a step among steps.
fn told_items(text: &str, blocks: &[Block], code: &str) -> Vec<bool> {
    let number = |block: &Block| matches!(block.kind, Kind::Item { number: Some(_), .. });
    let ends = |block: &Block| {
        matches!(block.kind, Kind::Heading(_) | Kind::Item { number: Some(0 | 1), indent: 0 })
    };
    let mut told = vec![false; blocks.len()];
    let mut start = 0;
    while start < blocks.len() {
        let more = blocks[start + 1..].iter().position(ends);
        let end = more.map_or(blocks.len(), |more| start + 1 + more);
        let items: Vec<usize> = (start..end).filter(|at| number(&blocks[*at])).collect();
        let tells = |at: &&usize| may_be_told(&text[blocks[**at].range.clone()], code);
        let most = 2 * items.iter().filter(tells).count() >= items.len();
        items.into_iter().for_each(|at| told[at] = most);
        start = end;
    }
    told
}

/// `found` without sentences that are alone in their section: one that tells somebody to do
/// something, as an answer to a question does, is no guide.
fn without_strays(found: Vec<Step>) -> Vec<Step> {
    let prose = |step: &Step| step.indent.is_none() && !step.heading && step.command.is_none();
    let place = |step: &Step| step.section.as_ref().map(|section| section.start);
    let mut in_section: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for step in &found {
        *in_section.entry(place(step)).or_default() += 1;
    }
    found.into_iter().filter(|step| !prose(step) || in_section[&place(step)] > 1).collect()
}

struct Collector<'a> {
    text: &'a Written<'a>,
    code: &'static str,
    found: Vec<Step>,
    section: Option<Range<usize>>,
    numbered: bool,
    /// A note and a warning that wait for the first step.
    ahead: (Option<String>, Option<String>),
    /// The last sentence that leads to what follows.
    lead: Option<Range<usize>>,
}

impl Collector<'_> {
    fn block(&mut self, block: &Block) {
        match block.kind {
            Kind::Heading(_) => {
                self.section = Some(block.range.clone());
                self.lead = None;
                self.heading(block);
            }
            Kind::Item { number: Some(_), indent } => self.item(block, indent),
            Kind::Item { number: None, indent } => self.bullet(block, indent),
            Kind::Paragraph => self.prose(&block.range, !self.numbered),
            Kind::Code => self.code(block),
            Kind::Row => (),
        }
    }

    /// `Step 2: Open the file` and `3. Open the file` are steps; what is below tells how.
    fn heading(&mut self, block: &Block) {
        let words = self.text.plain(&block.range);
        let Some(rest) = numbered_heading(&words) else { return };
        let at = block.range.end - rest.len().min(block.range.len());
        let start = if self.text.is_char_boundary(at) { at } else { block.range.start };
        self.push(start..block.range.end, None);
        if let Some(step) = self.found.last_mut() {
            step.heading = true;
        }
    }

    fn item(&mut self, block: &Block, indent: usize) {
        let deeper =
            self.found.last().and_then(|step| step.indent).is_some_and(|above| indent > above);
        let first = sentences(self.text, block.range.clone()).into_iter().next();
        let Some(first) = first else { return };
        if deeper {
            return self.prose(&block.range, true);
        }
        self.push(first.clone(), Some(indent));
        self.prose(&(first.end..block.range.end), false);
    }

    fn bullet(&mut self, block: &Block, indent: usize) {
        let below =
            self.found.last().and_then(|step| step.indent).is_some_and(|above| indent > above);
        if below {
            let words = self.text.plain(&block.range);
            return self.add_note(&words);
        }
        self.prose(&block.range, !self.numbered);
    }

    fn prose(&mut self, range: &Range<usize>, may_tell: bool) {
        for sentence in sentences(self.text, range.clone()) {
            let words = self.text.plain(&sentence);
            self.lead = None;
            match role(&words, self.code) {
                Role::Warning(said) => self.add_warning(&said),
                Role::Note(said) => self.add_note(&said),
                Role::Expect => self.add_expect(&words),
                Role::Told if may_tell => self.push(sentence.clone(), None),
                Role::Told => {
                    if let Some(command) = inline_command(&self.text[sentence.clone()]) {
                        self.add_command(&command);
                    }
                }
                Role::Other => (),
            }
            if words.ends_with(':') {
                self.lead = Some(sentence);
            }
        }
    }

    fn code(&mut self, block: &Block) {
        let Some(command) = shell::commands(self.text, block) else { return };
        let elsewhere = !self.found.is_empty() && self.last().is_none();
        let is_long = command.lines().count() > COMMANDS_MAX;
        if command.is_empty() || is_long || self.numbered && elsewhere {
            return;
        }
        // Of the step before, if it waits for one; else a step of its own.
        let waits = self.found.last().filter(|_| !elsewhere).is_some_and(|step| {
            step.command.is_none()
                && (step.indent.is_some()
                    || self.text[step.range.end..block.range.start]
                        .trim_matches(['`', '\n', ' ', ':'])
                        .len()
                        < 200)
        });
        match self.lead.take() {
            Some(lead) if !waits => self.push(lead, None),
            _ if !waits => self.push(block.range.clone(), None),
            _ => (),
        }
        if let Some(step) = self.found.last_mut() {
            if step.range == block.range {
                *step = std::mem::take(step).only(command);
            } else {
                step.command = Some(command);
            }
        }
    }

    fn push(&mut self, range: Range<usize>, indent: Option<usize>) {
        let (note, warning) = std::mem::take(&mut self.ahead);
        let step = Step::of(self.text, range, self.section.clone());
        self.found.push(Step { note, warning, indent, ..step });
    }

    /// The last step, unless another section has begun: what is said there is not of that step.
    fn last(&mut self) -> Option<&mut Step> {
        let section = &self.section;
        self.found.last_mut().filter(|step| step.section == *section)
    }

    fn add_note(&mut self, said: &str) {
        match self.last() {
            Some(step) => join(&mut step.note, said),
            None => join(&mut self.ahead.0, said),
        }
    }

    fn add_warning(&mut self, said: &str) {
        match self.last() {
            Some(step) => join(&mut step.warning, said),
            None => join(&mut self.ahead.1, said),
        }
    }

    fn add_expect(&mut self, said: &str) {
        if let Some(step) = self.last() {
            join(&mut step.expect, said);
        }
    }

    fn add_command(&mut self, said: &str) {
        if let Some(step) = self.last() {
            match &mut step.command {
                Some(before) => *before = format!("{before}\n{said}"),
                None => step.command = Some(said.to_owned()),
            }
        }
    }
}

pub(super) fn join(to: &mut Option<String>, said: &str) {
    match to {
        Some(before) => {
            before.push(' ');
            before.push_str(said);
        }
        None => *to = Some(said.to_owned()),
    }
}

fn role(words: &str, code: &str) -> Role {
    const NOTES: [&str; 12] = [
        "note", "tip", "hint", "info", "hinweis", "tipp", "remarque", "astuce", "nota", "consejo",
        "optional", "remember",
    ];
    const WARNINGS: [&str; 13] = [
        "warning",
        "caution",
        "danger",
        "important",
        "attention",
        "careful",
        "achtung",
        "warnung",
        "vorsicht",
        "wichtig",
        "avertissement",
        "advertencia",
        "attenzione",
    ];
    let head = words.split_once([':', '!']).filter(|parts| parts.0.len() <= 20);
    if let Some((head, rest)) = head {
        let head = head.trim_matches(|letter: char| !letter.is_alphabetic()).to_lowercase();
        let rest = rest.trim().to_owned();
        if WARNINGS.contains(&&*head) {
            return Role::Warning(rest);
        }
        if NOTES.contains(&&*head) {
            return Role::Note(rest);
        }
    }
    let lower = words.to_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    if begins(&["do not ", "don't ", "never ", "be careful", "beware"]) {
        return Role::Warning(words.to_owned());
    }
    if begins(&["note that", "keep in mind"]) {
        return Role::Note(words.to_owned());
    }
    let shows =
        [" appears", " opens", " is shown", " is displayed", " prints", " answers", " shows"];
    if begins(&["you should see", "you should now", "you will see", "you now see", "the output"])
        || begins(&["the ", "a ", "it "]) && shows.iter().any(|shows| lower.contains(shows))
    {
        return Role::Expect;
    }
    if is_told(words, code) { Role::Told } else { Role::Other }
}

/// What is left of `Step 2: …` and `2. …`.
fn numbered_heading(words: &str) -> Option<&str> {
    let lower = words.to_lowercase();
    let prefix = ["step ", "schritt ", "étape ", "paso ", "passo "]
        .iter()
        .find(|prefix| lower.starts_with(*prefix));
    let rest = match prefix {
        Some(prefix) => words.get(prefix.len()..)?,
        None => words,
    };
    let after = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if after.len() == rest.len() {
        return None;
    }
    let marked = after.trim_start_matches(['.', ':', ')', '-', '–', '—', ' ']);
    let parted = after.starts_with(['.', ':', ')', '-', '–', '—', ' '])
        && (prefix.is_some() || !after.starts_with(' '));
    (parted && !marked.is_empty() && !marked.starts_with(|letter: char| letter.is_ascii_digit()))
        .then_some(marked)
}

/// What a step acts on: what is set in bold, if it is marked at all, or in quotation marks.
fn element(written: &str, is_marked: bool) -> Option<String> {
    const PAIRS: [(&str, &str); 6] =
        [("**", "**"), ("__", "__"), ("“", "”"), ("„", "“"), ("«", "»"), ("\"", "\"")];
    let pairs = if is_marked { &PAIRS[..] } else { &PAIRS[2..] };
    pairs.iter().find_map(|(open, close)| {
        let inner = written.split_once(open)?.1.split_once(close)?.0;
        let name = plain(inner);
        (!name.is_empty() && name.len() <= 80).then_some(name)
    })
}

/// The command in a sentence: what is set as code and looks like one.
pub(super) fn inline_command(written: &str) -> Option<String> {
    let inner = written.split_once('`')?.1.split_once('`')?.0.trim();
    let verb = plain(written).to_lowercase();
    let runs =
        ["run", "execute", "type", "call", "enter", "führen", "exécutez", "ejecute", "esegui"];
    let told = runs.iter().any(|word| super::strip_lead(&verb).starts_with(word));
    (!inner.is_empty() && (inner.contains(' ') || told))
        .then(|| inner.trim_start_matches("$ ").to_owned())
}
