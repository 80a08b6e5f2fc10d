//! A report as Markdown.
//!
//! **Invariant:** what comes from a page cannot make a heading, a link or markup of its own.

use super::cite::Cited;
use super::report::{Part, Quote, Report, Told};

/// The report.
pub(super) fn write(report: &Report<'_>) -> String {
    let mut writer = Writer { report, out: String::new() };
    writer.answer();
    let (matter, others) = report.contradictions.split_at(report.matter);
    writer.told("What the sources do not agree on", matter);
    writer.steps();
    let also = if matter.is_empty() { "What" } else { "What else" };
    writer.told(&format!("{also} the sources do not agree on"), others);
    writer.evidence();
    writer.told("What several sources say", &report.facts);
    writer.sources();
    writer.unread();
    writer.by();
    writer.links();
    writer.out
}

struct Writer<'a> {
    report: &'a Report<'a>,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn head(&mut self, title: &str) {
        self.line(&format!("\n## {title}\n"));
    }

    fn answer(&mut self) {
        let report = self.report;
        self.line(&format!("# {}\n", safe(&report.title)));
        for quote in &report.answer {
            self.quote(quote);
        }
        if report.answer.is_empty() {
            self.line("The sources do not answer this.\n");
        }
        for at in &report.doubts {
            let told = &report.contradictions[*at];
            self.line(&format!(
                "**The sources disagree on {}:** {}.\n",
                safe(&told.subject),
                self.values(told)
            ));
        }
        if !report.summary.is_empty() {
            self.head("More on this");
        }
        for said in &report.summary {
            let mark = said.page.map_or_else(String::new, |page| self.mark_of(page));
            self.line(format!("{} {mark}\n", safe(&said.text)).trim_start_matches(' '));
        }
    }

    /// A quote by its parts, its source at the end of the first.
    fn quote(&mut self, quote: &Quote) {
        let mut mark = format!(" {}", self.mark(quote));
        for part in self.report.parts(quote) {
            match part {
                Part::Prose(said) => self.line(&format!("{}{mark}\n", safe(&said))),
                Part::Item(said) => self.line(&format!("- {}{mark}\n", safe(&said))),
                Part::Code(code) => {
                    let fence = fence(&code);
                    self.line(&format!("{fence}\n{code}\n{fence}\n"));
                    continue;
                }
            }
            mark.clear();
        }
        if !mark.is_empty() {
            self.line(&format!("{}\n", mark.trim_start()));
        }
    }

    fn values(&self, told: &Told) -> String {
        told.values_with(safe, |quote| self.mark(quote))
    }

    fn told(&mut self, title: &str, all: &[Told]) {
        if all.is_empty() {
            return;
        }
        self.head(title);
        for told in all {
            let line = format!("- **{}**: {}", safe(&told.subject), self.values(told));
            self.line(&line);
            if told.values.len() > 1 {
                for quote in told.values.iter().flat_map(|value| &value.1) {
                    let line =
                        format!("  - “{}” {}", safe(&self.report.words(quote)), self.mark(quote));
                    self.line(&line);
                }
            }
        }
    }

    fn steps(&mut self) {
        if self.report.steps.is_empty() {
            return;
        }
        let of = self.report.steps_of.map_or_else(String::new, |page| self.mark_of(page));
        self.head(format!("Steps {of}").trim_end());
        for (at, step) in self.report.steps.iter().enumerate() {
            let marker = format!("{}. ", at + 1);
            self.line(&format!("{marker}{}", safe(&step.instruction)));
            // What belongs to an item stands as far in as its words.
            let inner = " ".repeat(marker.len());
            if let Some(command) = &step.command {
                let fence = fence(command);
                let lines = command.lines().map(|line| format!("{inner}{line}"));
                let lines = lines.collect::<Vec<_>>().join("\n");
                self.line(&format!("\n{inner}{fence}\n{lines}\n{inner}{fence}\n"));
            }
            if let Some(warning) = &step.warning {
                let space = if step.command.is_some() { "" } else { "\n" };
                self.line(&format!("{space}{inner}**Careful:** {}\n", safe(warning)));
            }
        }
    }

    fn evidence(&mut self) {
        let report = self.report;
        for (at, one) in report.more_evidence().enumerate() {
            if at == 0 {
                self.head("Evidence");
            }
            let lead = report.lead(&one.quote);
            let heading = lead.map_or_else(String::new, |lead| format!("**{}** ", safe(&lead)));
            self.line(&format!(
                "> {heading}{} {}\n",
                safe(&report.short(one)),
                self.mark(&one.quote)
            ));
        }
    }

    fn sources(&mut self) {
        self.head("Sources");
        for source in &self.report.sources {
            let number = source.number;
            let mut line = match &source.url {
                Some(_) => format!("{number}. [{}][{number}]", safe(&source.title)),
                None => format!("{number}. {}", safe(&source.title)),
            };
            // A web page's address is what its link says already.
            let is_said = source.url.as_deref() == Some(&source.place);
            if !is_said && source.place != source.title && !source.place.is_empty() {
                line.push_str(&format!(", {}", safe(&source.place)));
            }
            if let Some(published) = &source.published {
                line.push_str(&format!(", {}", safe(published)));
            }
            if let Some(repeated) = source.repeated() {
                line.push_str(&format!(" ({})", safe(&repeated)));
            }
            self.line(&line);
        }
    }

    /// Where the numbers lead, once for each, so that lines can be read as they are.
    fn links(&mut self) {
        let linked = |source: &Cited| Some((source.number, source.url.clone()?));
        for (at, (number, url)) in self.report.sources.iter().filter_map(linked).enumerate() {
            let space = if at == 0 { "\n" } else { "" };
            self.line(&format!("{space}[{number}]: <{}>", url.replace(['<', '>'], "")));
        }
    }

    fn unread(&mut self) {
        if self.report.unread.is_empty() {
            return;
        }
        self.head("What could not be read");
        for page in self.report.unread {
            let why = page.message.as_deref().map_or_else(String::new, |why| format!(": {why}"));
            self.line(&format!("- {}{}", safe(&page.url), safe(&why)));
        }
    }

    fn by(&mut self) {
        if let Some(by) = &self.report.by {
            self.line(&format!(
                "\nThe answer was chosen among the sentences of these sources by {}.",
                safe(by)
            ));
        }
    }

    /// The number of a quote's source, linked where it can be.
    fn mark(&self, quote: &Quote) -> String {
        self.mark_of(quote.page)
    }

    fn mark_of(&self, page: usize) -> String {
        let source = &self.report.sources[page];
        match &source.url {
            Some(_) => format!("[[{}]]", source.number),
            None => format!("[{}]", source.number),
        }
    }
}

/// `text` with nothing in it that Markdown takes for a mark.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    // Whether only space, and whether only a number, stands before in the line.
    let (mut begins, mut numbers) = (true, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let item =
            numbers && ".)".contains(letter) && letters.peek().is_none_or(|next| *next == ' ');
        if "\\`*_[]<>#|~&".contains(letter) || begins && "+-=".contains(letter) || item {
            safe.push('\\');
        }
        safe.push(letter);
        numbers = letter.is_ascii_digit() && (begins || numbers);
        begins = letter == '\n' || begins && letter.is_whitespace();
    }
    safe
}

/// A fence that `code` does not have.
fn fence(code: &str) -> String {
    let mut fence = String::from("```");
    while code.contains(&fence) {
        fence.push('`');
    }
    fence
}
