//! Messages in what a model says: `<AGENT_MESSAGE to="NAME">TEXT</AGENT_MESSAGE>`.
//!
//! **Invariants:** a text is read once from its beginning to its end, whatever is in it; what is not
//! whole (no `to`, no end) stays in the text; one that stands in another one, in code (a block, an indented
//! line, a span) or in a quotation is part of that text and goes nowhere: who quotes a message sends none.

use std::ops::Range;

use pulldown_cmark::{Event, Parser, Tag as MarkdownTag};

/// So many are taken out of one text.
const LETTERS_MAX: usize = 20;
const OPENS: &str = "<AGENT_MESSAGE";
const CLOSES: &str = "</AGENT_MESSAGE";

/// A message in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    /// To whom.
    pub(super) to: String,
    /// What.
    pub(super) text: String,
}

/// A tag, and what it is.
struct Tag {
    start: usize,
    end: usize,
    kind: Kind,
}

enum Kind {
    /// The place of the tag that closes it, once that is found.
    Opens {
        to: Option<String>,
        closed_by: Option<usize>,
    },
    Closes,
}

/// The text without its messages, and these.
pub(super) fn take(text: &str) -> (String, Vec<Letter>) {
    let tags = paired(tags(text));
    let (mut rest, mut letters) = (String::new(), Vec::new());
    let (mut at, mut next) = (0, 0);
    while let Some(tag) = tags.get(next) {
        next += 1;
        let Kind::Opens { to: Some(to), closed_by: Some(close) } = &tag.kind else { continue };
        if letters.len() == LETTERS_MAX {
            break;
        }
        let end = &tags[*close];
        rest.push_str(&text[at..tag.start]);
        let said = text[tag.end..end.start].trim().to_owned();
        letters.push(Letter { to: to.clone(), text: said });
        (at, next) = (end.end, close + 1);
    }
    rest.push_str(&text[at..]);
    (rest, letters)
}

/// All tags of a text that are neither in code nor quoted, in order.
fn tags(text: &str) -> Vec<Tag> {
    let (mut tags, mut at, mut quoted) = (Vec::new(), 0, quoted(text).into_iter().peekable());
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        while quoted.next_if(|range| range.end <= start).is_some() {}
        if let Some(range) = quoted.peek().filter(|range| range.start <= start) {
            at = range.end;
            continue;
        }
        let tag = opening(text, start).or_else(|| closing(text, start));
        at = tag.as_ref().map_or(start + 1, |tag| tag.end);
        tags.extend(tag);
    }
    tags
}

/// What is code or a quotation in Markdown, in order; one may be in another one.
fn quoted(text: &str) -> Vec<Range<usize>> {
    let is_quoted = |event: &Event<'_>| {
        matches!(
            event,
            Event::Code(_) | Event::Start(MarkdownTag::CodeBlock(_) | MarkdownTag::BlockQuote(_))
        )
    };
    let all = Parser::new(text).into_offset_iter();
    all.filter(|(event, _)| is_quoted(event)).map(|(_, range)| range).collect()
}

fn closing(text: &str, start: usize) -> Option<Tag> {
    let rest = text[start..].strip_prefix(CLOSES)?.trim_start().strip_prefix('>')?;
    Some(Tag { start, end: text.len() - rest.len(), kind: Kind::Closes })
}

fn opening(text: &str, start: usize) -> Option<Tag> {
    let mut rest = text[start..].strip_prefix(OPENS)?;
    let mut to: Option<String> = None;
    for _ in 0..ATTRIBUTES_MAX {
        let trimmed = rest.trim_start();
        if let Some(rest) = trimmed.strip_prefix('>') {
            let kind = Kind::Opens { to, closed_by: None };
            return Some(Tag { start, end: text.len() - rest.len(), kind });
        }
        if trimmed.len() == rest.len() {
            return None;
        }
        let (name, value, after) = attribute(trimmed)?;
        if name == "to" && to.is_none() && !value.trim().is_empty() {
            to = Some(value.trim().to_owned());
        }
        rest = after;
    }
    None
}

/// A tag has no more attributes, and none a longer value, in bytes: one that nobody closes is found soon.
const ATTRIBUTES_MAX: usize = 20;
const VALUE_MAX: usize = 200;

/// `name="value"` with either quote, and what comes after it.
fn attribute(text: &str) -> Option<(&str, &str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
    let end = text.bytes().take(VALUE_MAX).position(|byte| !is_name(char::from(byte)))?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let end = rest.bytes().skip(1).take(VALUE_MAX).position(|byte| byte == quote as u8)?;
    (!name.is_empty()).then(|| (name, &rest[1..=end], &rest[end + 2..]))
}

/// Each tag that closes closes the last one that is open.
fn paired(mut tags: Vec<Tag>) -> Vec<Tag> {
    let mut open: Vec<usize> = Vec::new();
    for at in 0..tags.len() {
        match tags[at].kind {
            Kind::Opens { .. } => open.push(at),
            Kind::Closes => {
                if let Some(opened) = open.pop()
                    && let Kind::Opens { closed_by, .. } = &mut tags[opened].kind
                {
                    *closed_by = Some(at);
                }
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(to: &str, text: &str) -> Letter {
        Letter { to: to.into(), text: text.into() }
    }

    fn taken(text: &str) -> (String, Vec<(String, String)>) {
        let (rest, letters) = take(text);
        (rest, letters.into_iter().map(|letter| (letter.to, letter.text)).collect())
    }

    #[test]
    fn a_message_is_taken_out_of_the_text() {
        let (rest, letters) =
            take("Hello <AGENT_MESSAGE to=\"b\">look\nhere </AGENT_MESSAGE>, bye");
        assert_eq!((&*rest, letters), ("Hello , bye", vec![letter("b", "look\nhere")]));
        for tag in [
            "<AGENT_MESSAGE to='b'>",
            "<AGENT_MESSAGE\n  id = 'a\"b>c' to = \"b\" >",
            "<AGENT_MESSAGE to=' b ' to='c' x:y-z.1=\"\">",
        ] {
            let (rest, letters) = take(&format!("1{tag}x</AGENT_MESSAGE >2"));
            assert_eq!((&*rest, letters), ("12", vec![letter("b", "x")]), "{tag}");
        }
    }

    #[test]
    fn what_is_not_whole_stays_where_it_is() {
        for text in [
            "<AGENT_MESSAGE to=\"b\">never closed",
            "<AGENT_MESSAGE>to nobody</AGENT_MESSAGE>",
            "<AGENT_MESSAGE to=\" \">to nobody</AGENT_MESSAGE>",
            "<AGENT_MESSAGE to=b>no quotes</AGENT_MESSAGE>",
            "<AGENT_MESSAGE to=\"b>one quote</AGENT_MESSAGE>",
            "<AGENT_MESSAGES to=\"b\">another tag</AGENT_MESSAGES>",
            "<agent_message to=\"b\">another tag</agent_message>",
            "<AGENT_MESSAGE to=\"b\"/>nothing</AGENT_MESSAGE>",
            "</AGENT_MESSAGE> first",
            "&lt;AGENT_MESSAGE to=\"b\">x</AGENT_MESSAGE>",
            "```xml\n<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n```",
            "````\n```\n<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n```\n````",
            "~~~\n```\n~~\n<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n~~~",
            "see:\n\n    <AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n",
            "- ```xml\n  <AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n  ```",
            "1) ~~~\n   <AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n   ~~~",
            "```\na\n    ```\n<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n```",
            "- > <AGENT_MESSAGE to=\"b\">quoted</AGENT_MESSAGE>\n",
            "see\n\n  \t<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n",
            "a `code\n<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>\n` span",
            "he wrote\n> <AGENT_MESSAGE to=\"b\">quoted</AGENT_MESSAGE>\n",
            "it says `<AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>` there",
            "it says ``a ` <AGENT_MESSAGE to=\"b\">code</AGENT_MESSAGE>`` there",
        ] {
            assert_eq!(take(text), (text.to_owned(), Vec::new()));
        }
        for text in ["`a` ", "it` ", "~~~\na\n~~~\n", "```a\n```\n", "```a``` ", "> a\n\n"] {
            let (rest, letters) =
                take(&format!("{text}<AGENT_MESSAGE to='b'>\n    x\n    </AGENT_MESSAGE>"));
            assert_eq!((&*rest, letters), (text, vec![letter("b", "x")]), "{text}");
        }
    }

    #[test]
    fn one_in_another_is_its_text_and_one_after_an_open_one_is_a_message() {
        let inner = "<AGENT_MESSAGE to=\"c\">in</AGENT_MESSAGE>";
        let (rest, letters) =
            take(&format!("<AGENT_MESSAGE to=\"b\">out {inner} out</AGENT_MESSAGE>"));
        assert_eq!((&*rest, letters), ("", vec![letter("b", &format!("out {inner} out"))]));
        let (rest, letters) = take(&format!("<AGENT_MESSAGE to=\"b\">oops {inner}"));
        assert_eq!((&*rest, letters), ("<AGENT_MESSAGE to=\"b\">oops ", vec![letter("c", "in")]));
        let (rest, letters) = take(&format!("<AGENT_MESSAGE>{inner}</AGENT_MESSAGE>"));
        assert_eq!(letters, [letter("c", "in")], "{rest}");
    }

    #[test]
    fn no_more_are_taken_than_are_sent() {
        let text = "<AGENT_MESSAGE to=\"b\">x</AGENT_MESSAGE>".repeat(30);
        let (rest, letters) = take(&text);
        assert_eq!((letters.len(), taken(&rest).1.len()), (20, 10));
    }

    /// Pieces put together by dice: nothing falls, nothing is lost or made up, nothing takes long.
    #[test]
    fn any_text_is_taken_apart_and_nothing_is_lost() {
        const PIECES: [&str; 16] = [
            "<AGENT_MESSAGE",
            " to=\"b\"",
            " to='ż'",
            ">",
            "</AGENT_MESSAGE>",
            "</AGENT_MESSAGE",
            "<",
            "\"",
            "'",
            "\n",
            "```",
            "żółw",
            " x=\"1\"",
            "=",
            "<AGENT_MESSAGE to=\"b\">",
            "</",
        ];
        let mut dice = 1_u64;
        let mut roll = || {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(dice >> 33).unwrap()
        };
        let mut found = 0;
        for _ in 0..20_000 {
            let text: String = (0..roll() % 40).map(|_| PIECES[roll() % PIECES.len()]).collect();
            let (rest, letters) = take(&text);
            let kept = rest.len() + letters.iter().map(|letter| letter.text.len()).sum::<usize>();
            assert!(kept <= text.len(), "{text:?}");
            assert!(letters.iter().all(|letter| text.contains(&letter.text)), "{text:?}");
            assert!(letters.iter().all(|letter| matches!(&*letter.to, "b" | "ż")), "{text:?}");
            assert_eq!(letters.is_empty(), rest == text, "{text:?}");
            found += letters.len();
        }
        assert!(found > 500, "the dice make messages: {found}");
    }

    #[test]
    fn a_hostile_text_takes_no_longer_than_another_one() {
        let rows: String = (1..1_400).map(|len| "`".repeat(len) + "<").collect();
        let pieces = [
            "<AGENT_MESSAGE to=\"b\">",
            "<AGENT_MESSAGE ",
            "<AGENT_MESSAGE x=\"",
            "<",
            "`<",
            "`<``",
        ];
        for piece in pieces.into_iter().chain([&*rows]) {
            let began = std::time::Instant::now();
            take(&piece.repeat(1_000_000 / piece.len()));
            assert!(began.elapsed().as_secs() < 5, "{piece}");
        }
    }
}
