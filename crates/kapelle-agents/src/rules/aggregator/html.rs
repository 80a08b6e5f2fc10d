//! A report as one HTML file: no script, nothing loaded, light and dark, for a phone and for paper.
//!
//! **Invariant:** what comes from a page is text, wherever it stands.

use super::report::{Part, Quote, Report, Told};
use super::timeline::Timeline;

/// On paper only what is small is kept on one page: what is large would leave half of the one before empty.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5c636b;--line:#d9dde1;--paper:#fff;--tint:#f4f6f8;--mark:#0b57b0;--warn:#9a3412;--warn-tint:#fff4ed}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--soft:#9aa3ab;--line:#363c42;--paper:#16181b;--tint:#1f2327;--mark:#8ab8f5;--warn:#fdba74;--warn-tint:#2b1d14}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}\
main{max-width:44rem;margin:0 auto;padding:2rem 1.1rem 4rem}\
h1{font-size:1.7rem;line-height:1.2;margin:0 0 1.2rem}\
h2{font-size:1.15rem;margin:2.4rem 0 .7rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}\
p{margin:.6rem 0}a{color:var(--mark)}sup{line-height:0}sup a{text-decoration:none}\
.answer p:first-child{font-size:1.15rem}\
.doubt,.told.apart{background:var(--warn-tint);border-left:4px solid var(--warn);padding:.6rem .9rem;margin:.8rem 0}\
.told{margin:.6rem 0}.told ul{margin:.4rem 0 0;padding-left:1.2rem;color:var(--soft);font-size:.93rem}\
blockquote{margin:.8rem 0;padding:.6rem .9rem;background:var(--tint);border-left:4px solid var(--line)}\
pre{background:var(--tint);padding:.6rem .8rem;overflow-x:auto;font-size:.9rem}\
ol.sources small{color:var(--soft);display:block}\
figure.run{margin:1rem 0}figure.run svg{display:block;overflow:visible}figure.run text{font-size:13px;fill:var(--ink)}\
figure.run .soft{fill:var(--soft)}figure.run line{stroke:var(--line)}figcaption{color:var(--soft);font-size:.85rem;margin-top:.6rem}\
.bar{fill:var(--mark);print-color-adjust:exact;-webkit-print-color-adjust:exact}.bar.bad{fill:var(--warn)}\
@media print{body{font-size:11pt}main{max-width:none;padding:0}h2{break-after:avoid}pre,.doubt{break-before:avoid}p,.doubt,blockquote,.told li,.sources li,figure.run svg{break-inside:avoid}\
.told:not(:has(li:nth-child(5))){break-inside:avoid}}";

/// The report.
pub(super) fn write(report: &Report<'_>) -> String {
    let mut writer = Writer { report, out: String::new() };
    let title = safe(&report.title);
    writer.add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    writer.add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    writer
        .add(&format!("<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"));
    writer.add(&format!("<h1>{title}</h1>\n"));
    writer.answer();
    let (matter, others) = report.contradictions.split_at(report.matter);
    writer.told("What the sources do not agree on", matter);
    writer.steps();
    let also = if matter.is_empty() { "What" } else { "What else" };
    writer.told(&format!("{also} the sources do not agree on"), others);
    writer.evidence();
    writer.told("What several sources say", &report.facts);
    writer.list();
    writer.unread();
    writer.by();
    writer.run();
    writer.add("</main>\n</body>\n</html>\n");
    // A mark stays with the word before it; what comes from a page has no tags.
    writer.out.replace(" <sup>", "&nbsp;<sup>")
}

struct Writer<'a> {
    report: &'a Report<'a>,
    out: String,
}

impl Writer<'_> {
    fn add(&mut self, html: &str) {
        self.out.push_str(html);
    }

    fn head(&mut self, title: &str) {
        self.add(&format!("<h2>{title}</h2>\n"));
    }

    fn answer(&mut self) {
        let report = self.report;
        self.add("<section class=\"answer\">\n");
        for quote in &report.answer {
            self.quote(quote);
        }
        if report.answer.is_empty() {
            self.add("<p>The sources do not answer this.</p>\n");
        }
        for at in &report.doubts {
            let told = &report.contradictions[*at];
            let line = format!(
                "<p class=\"doubt\"><b>The sources disagree on {}:</b> {}.</p>\n",
                safe(&told.subject),
                self.values(told)
            );
            self.add(&line);
        }
        self.add("</section>\n");
        if !report.summary.is_empty() {
            self.head("More on this");
        }
        for said in &report.summary {
            let mark = said.page.map_or_else(String::new, |page| self.mark_of(page));
            self.add(&format!("<p>{} {mark}</p>\n", safe(&said.text)));
        }
    }

    /// A quote by its parts, its source at the end of the first.
    fn quote(&mut self, quote: &Quote) {
        let mut mark = format!(" {}", self.mark(quote));
        for part in self.report.parts(quote) {
            match part {
                Part::Prose(said) => self.add(&format!("<p>{}{mark}</p>\n", safe(&said))),
                Part::Item(said) => self.add(&format!("<ul><li>{}{mark}</li></ul>\n", safe(&said))),
                Part::Code(code) => {
                    self.add(&format!("<pre><code>{}</code></pre>\n", safe(&code)));
                    continue;
                }
            }
            mark.clear();
        }
        if !mark.is_empty() {
            self.add(&format!("<p>{}</p>\n", mark.trim_start()));
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
            let apart = told.values.len() > 1;
            let class = if apart { "told apart" } else { "told" };
            let line = format!(
                "<div class=\"{class}\"><b>{}</b>: {}",
                safe(&told.subject),
                self.values(told)
            );
            self.add(&line);
            if apart {
                self.add("<ul>\n");
                for quote in told.values.iter().flat_map(|value| &value.1) {
                    let line = format!(
                        "<li>“{}” {}</li>\n",
                        safe(&self.report.words(quote)),
                        self.mark(quote)
                    );
                    self.add(&line);
                }
                self.add("</ul>");
            }
            self.add("</div>\n");
        }
    }

    fn steps(&mut self) {
        if self.report.steps.is_empty() {
            return;
        }
        let of = self.report.steps_of.map_or_else(String::new, |page| self.mark_of(page));
        self.head(format!("Steps {of}").trim_end());
        self.add("<ol>\n");
        for step in &self.report.steps {
            self.add(&format!("<li>{}", safe(&step.instruction)));
            if let Some(command) = &step.command {
                self.add(&format!("<pre><code>{}</code></pre>", safe(command)));
            }
            if let Some(warning) = &step.warning {
                self.add(&format!("<p class=\"doubt\"><b>Careful:</b> {}</p>", safe(warning)));
            }
            self.add("</li>\n");
        }
        self.add("</ol>\n");
    }

    fn evidence(&mut self) {
        let report = self.report;
        for (at, one) in report.more_evidence().enumerate() {
            if at == 0 {
                self.head("Evidence");
            }
            let lead = report.lead(&one.quote);
            let heading = lead.map_or_else(String::new, |lead| format!("<b>{}</b> ", safe(&lead)));
            let line = format!(
                "<blockquote>{heading}{} {}</blockquote>\n",
                safe(&report.short(one)),
                self.mark(&one.quote)
            );
            self.add(&line);
        }
    }

    fn list(&mut self) {
        self.head("Sources");
        self.add("<ol class=\"sources\">\n");
        for source in &self.report.sources {
            let title = safe(&source.title);
            let title = match &source.url {
                Some(url) => format!("<a href=\"{}\">{title}</a>", safe(url)),
                None => title,
            };
            let repeated = source.repeated().unwrap_or_default();
            let published = source.published.as_deref().unwrap_or_default();
            let mut more = vec![&*source.place, published, &repeated];
            more.retain(|said| !said.is_empty() && *said != source.title);
            let more = safe(&more.join(" · "));
            self.add(&format!(
                "<li id=\"s{}\">{title} <small>{more}</small></li>\n",
                source.number
            ));
        }
        self.add("</ol>\n");
    }

    fn unread(&mut self) {
        if self.report.unread.is_empty() {
            return;
        }
        self.head("What could not be read");
        self.add("<ul>\n");
        for page in self.report.unread {
            let why = page.message.as_deref().map_or_else(String::new, |why| format!(": {why}"));
            self.add(&format!("<li>{}{}</li>\n", safe(&page.url), safe(&why)));
        }
        self.add("</ul>\n");
    }

    fn by(&mut self) {
        if let Some(by) = &self.report.by {
            let by = safe(by);
            self.add(&format!(
                "<p>The answer was chosen among the sentences of these sources by {by}.</p>\n"
            ));
        }
    }

    fn run(&mut self) {
        if let Some(picture) = self.report.run.and_then(Timeline::html) {
            self.head("How this was made");
            self.add(&picture);
        }
    }

    fn mark(&self, quote: &Quote) -> String {
        self.mark_of(quote.page)
    }

    fn mark_of(&self, page: usize) -> String {
        let number = self.report.sources[page].number;
        format!("<sup><a href=\"#s{number}\">[{number}]</a></sup>")
    }
}

pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What a page must not hold, and no reader sees.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => (),
            _ => safe.push(letter),
        }
    }
    safe
}
