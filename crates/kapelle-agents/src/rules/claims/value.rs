//! Values in a sentence: numbers with their units, versions, dates, yes and no.
//!
//! **Invariant:** two values are equal if they mean the same: `1.5 GB` and `1500 MB`, `March 1, 2026`
//! and `2026-03-01`, `ten` and `10`.

use std::ops::Range;

use jiff::civil::Date;

use crate::text::words;

/// A value and where it is in the sentence.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) range: Range<usize>,
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// In the base unit of its dimension.
    Quantity(f64, Dimension),
    Version(Vec<u32>),
    /// A year, with its month and day where they are said.
    Date {
        year: i16,
        month: Option<i8>,
        day: Option<i8>,
    },
    /// Yes or no to a question, such as whether it is enabled.
    Flag(bool, Question),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    Count,
    Seconds,
    Bytes,
    Percent,
    /// By the sign of its currency.
    Money(char),
    Metres,
    Grams,
    Degrees,
    Hertz,
}

/// What a yes or no answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Enabled,
    Supported,
    Required,
    Allowed,
    /// Whether it comes first; no: last.
    First,
    /// Whether it is so at all.
    So,
}

impl Value {
    /// Whether both are answers to one kind of question.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(_, one), Self::Quantity(_, other)) => one == other,
            (Self::Flag(_, one), Self::Flag(_, other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether both mean the same, as far as both say.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(one, _), Self::Quantity(other, _)) => {
                (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
            }
            (Self::Version(one), Self::Version(other)) => {
                let most = one.len().max(other.len());
                let part = |version: &[u32], at| version.get(at).copied().unwrap_or(0);
                (0..most).all(|at| part(one, at) == part(other, at))
            }
            (
                Self::Date { year, month, day },
                Self::Date { year: year2, month: month2, day: day2 },
            ) => year == year2 && same(*month, *month2) && same(*day, *day2),
            _ => self == other,
        }
    }
}

fn same(one: Option<i8>, other: Option<i8>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Whether `text` has a number, a date or a version.
pub(crate) fn has_value(text: &str) -> bool {
    !values(text).is_empty()
}

/// How many values `text` has, of this dimension where one is given, that are not `known`.
pub(crate) fn measured(
    text: &str,
    wanted: Option<Dimension>,
    known: impl Fn(&str) -> bool,
) -> usize {
    let is = |found: &&Found| match (&found.value, wanted) {
        (_, None) => true,
        (Value::Quantity(_, dimension), Some(wanted)) => *dimension == wanted,
        (Value::Version(_) | Value::Date { .. } | Value::Flag(..), Some(_)) => false,
    };
    let new = |found: &&Found| !known(&text[found.range.clone()]);
    values(text).iter().filter(is).filter(new).count()
}

/// The values of `text`, in order. Numbers that only point somewhere, such as `step 3`, are none.
pub(super) fn values(text: &str) -> Vec<Found> {
    let words: Vec<(Range<usize>, String)> =
        words(text).map(|(range, word)| (range, word.to_lowercase())).collect();
    let mut found: Vec<Found> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let reader = Reader { text, words: &words, at };
        match reader.date().or_else(|| reader.version()).or_else(|| reader.quantity()) {
            Some((value, count)) => {
                let range = words[at].0.start..words[at + count - 1].0.end;
                let range = with_sign(text, range, &value);
                found.push(Found { value, range });
                at += count;
            }
            None => at += 1,
        }
    }
    found
}

struct Reader<'a> {
    text: &'a str,
    words: &'a [(Range<usize>, String)],
    at: usize,
}

impl Reader<'_> {
    fn word(&self, ahead: usize) -> &str {
        self.words.get(self.at + ahead).map_or("", |word| &word.1)
    }

    fn before(&self) -> &str {
        self.at.checked_sub(1).map_or("", |at| &self.words[at].1)
    }

    /// What stands between the word `ahead` and the one after it.
    fn gap(&self, ahead: usize) -> &str {
        let (Some(one), Some(next)) =
            (self.words.get(self.at + ahead), self.words.get(self.at + ahead + 1))
        else {
            return "";
        };
        // Words of scripts without spaces overlap: then there is nothing between them.
        self.text.get(one.0.end..next.0.start).unwrap_or_default()
    }

    /// `2026-03-01`, `March 1, 2026`, `1 March 2026`, `March 2026`.
    fn date(&self) -> Option<(Value, usize)> {
        let part = |ahead: usize| self.word(ahead).parse::<i16>().ok();
        let year = |ahead| part(ahead).filter(|year| (1500..2200).contains(year));
        if let (Some(year), "-", "-") = (year(0), self.gap(0), self.gap(1)) {
            let (month, day) = (part(1)?, part(2)?);
            return date(year, month, Some(day)).map(|date| (date, 3));
        }
        if let Some(month) = month(self.word(0)) {
            let day = self.word(1).trim_end_matches(['s', 't', 'n', 'd', 'r', 'h']).parse().ok();
            if let (Some(day), Some(year)) = (day, year(2)) {
                return date(year, month, Some(day)).map(|date| (date, 3));
            }
            return date(year(1)?, month, None).map(|date| (date, 2));
        }
        let day = self.word(0).trim_end_matches(['s', 't', 'n', 'd', 'r', 'h']).parse().ok()?;
        let month = month(self.word(1))?;
        date(year(2)?, month, Some(day)).map(|date| (date, 3))
    }

    /// `v2`, `1.2.3`, `version 1.2`.
    fn version(&self) -> Option<(Value, usize)> {
        let word = self.word(0);
        let (digits, marked) = match word.strip_prefix('v') {
            Some(digits) => (digits, true),
            None => (word, matches!(self.before(), "version" | "versions" | "release")),
        };
        let parts: Option<Vec<u32>> = digits.split('.').map(|part| part.parse().ok()).collect();
        let parts = parts.filter(|parts| parts.len() >= 3 || marked)?;
        Some((Value::Version(parts), 1))
    }

    fn quantity(&self) -> Option<(Value, usize)> {
        if matches!(
            self.before(),
            "step"
                | "figure"
                | "table"
                | "section"
                | "chapter"
                | "page"
                | "part"
                | "line"
                | "example"
                | "issue"
                | "rfc"
                | "iso"
                | "level"
                | "day"
                | "week"
        ) {
            return None;
        }
        let range = &self.words[self.at].0;
        let touching = self.text[..range.start].chars().next_back();
        // Part of a name, a path, an address or a range.
        if touching.is_some_and(|mark| "#/-–_:.@%".contains(mark) || mark.is_alphanumeric()) {
            return None;
        }
        let after = &self.text[range.end..];
        let (number, unit) = number(self.word(0))?;
        let leads_on = after.starts_with(['/', '_', ':', '@', '–']) && !after.starts_with(": ");
        if leads_on
            || after.starts_with('-') && after[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            return None;
        }
        if let Some(unit) = unit {
            let (factor, dimension) = scale(unit)?;
            return Some((Value::Quantity(number * factor, dimension), 1));
        }
        if after.starts_with('%') || after.starts_with(" %") {
            return Some((Value::Quantity(number, Dimension::Percent), 1));
        }
        if let Some(sign) = sign(&self.text[..range.start], after) {
            return Some((Value::Quantity(number, Dimension::Money(sign)), 1));
        }
        let near = matches!(self.gap(0), " " | "-" | "\u{a0}" | "\n");
        match scale(self.word(1)).filter(|_| near) {
            Some((factor, dimension)) => Some((Value::Quantity(number * factor, dimension), 2)),
            None => Some((Value::Quantity(number, Dimension::Count), 1)),
        }
    }
}

/// The sign of a currency at either side of a number, with a space between or without.
fn sign(before: &str, after: &str) -> Option<char> {
    let before = before.strip_suffix([' ', '\u{a0}']).unwrap_or(before).chars().next_back();
    let after = after.strip_prefix([' ', '\u{a0}']).unwrap_or(after).chars().next();
    [before, after].into_iter().flatten().find(|sign| "$€£".contains(*sign))
}

/// The place of a number with the sign that says what it is of: `€299`, `50 %`.
fn with_sign(text: &str, range: Range<usize>, value: &Value) -> Range<usize> {
    let sign = match value {
        Value::Quantity(_, Dimension::Money(sign)) => *sign,
        Value::Quantity(_, Dimension::Percent) => '%',
        _ => return range,
    };
    let (before, after) = (&text[..range.start], &text[range.end..]);
    let start = before.trim_end_matches([' ', '\u{a0}']).strip_suffix(sign).map(str::len);
    let rest = after.trim_start_matches([' ', '\u{a0}']).strip_prefix(sign).map(str::len);
    match start {
        Some(start) => start..range.end,
        None => range.start..rest.map_or(range.end, |rest| text.len() - rest),
    }
}

fn date(year: i16, month: i16, day: Option<i16>) -> Option<Value> {
    let month = i8::try_from(month).ok()?;
    let day = day.map(|day| i8::try_from(day).ok());
    let day = match day {
        Some(day) => Some(day?),
        None => None,
    };
    Date::new(year, month, day.unwrap_or(1)).ok()?;
    Some(Value::Date { year, month: Some(month), day })
}

fn month(word: &str) -> Option<i16> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let is = |month: &&str| *month == word || word.len() == 3 && month.starts_with(word);
    let at = MONTHS.iter().position(is)?;
    i16::try_from(at + 1).ok()
}

/// The number that a word begins with, and the unit stuck to it.
fn number(word: &str) -> Option<(f64, Option<&str>)> {
    const NAMED: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    // `one` is more often a word for a thing than a number.
    if let Some(at) = NAMED.iter().position(|named| *named == word && word != "one") {
        return Some((f64::from(u8::try_from(at).ok()?), None));
    }
    match word {
        "fifteen" => return Some((15.0, None)),
        "twenty" => return Some((20.0, None)),
        "thirty" => return Some((30.0, None)),
        "sixty" => return Some((60.0, None)),
        "ninety" => return Some((90.0, None)),
        "hundred" => return Some((100.0, None)),
        _ => (),
    }
    let digits = word.len()
        - word.trim_start_matches(|c: char| c.is_ascii_digit() || ".,".contains(c)).len();
    let (digits, unit) = word.split_at(digits);
    let number = plain_number(digits)?;
    Some((number, Some(unit).filter(|unit| !unit.is_empty())))
}

/// `10,000` has groups, `1.5` a fraction.
fn plain_number(digits: &str) -> Option<f64> {
    let groups: Vec<&str> = digits.split(',').collect();
    let grouped = groups.len() > 1 && groups[1..].iter().all(|group| group.len() == 3);
    let text = if grouped { groups.concat() } else { digits.replace(',', ".") };
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What one of a unit is in the base unit.
fn scale(unit: &str) -> Option<(f64, Dimension)> {
    use Dimension::{Bytes, Degrees, Grams, Hertz, Metres, Money, Percent, Seconds};
    Some(match unit {
        "ns" | "nanosecond" | "nanoseconds" => (1e-9, Seconds),
        "µs" | "us" | "microsecond" | "microseconds" => (1e-6, Seconds),
        "ms" | "millisecond" | "milliseconds" => (1e-3, Seconds),
        "s" | "sec" | "secs" | "second" | "seconds" => (1.0, Seconds),
        "min" | "mins" | "minute" | "minutes" => (60.0, Seconds),
        "h" | "hr" | "hrs" | "hour" | "hours" => (3600.0, Seconds),
        "d" | "day" | "days" => (86_400.0, Seconds),
        "week" | "weeks" => (604_800.0, Seconds),
        "month" | "months" => (2_629_746.0, Seconds),
        "year" | "years" => (31_556_952.0, Seconds),
        "byte" | "bytes" => (1.0, Bytes),
        "kb" | "kilobyte" | "kilobytes" => (1e3, Bytes),
        "mb" | "megabyte" | "megabytes" => (1e6, Bytes),
        "gb" | "gigabyte" | "gigabytes" => (1e9, Bytes),
        "tb" | "terabyte" | "terabytes" => (1e12, Bytes),
        "kib" => (1024.0, Bytes),
        "mib" => (1_048_576.0, Bytes),
        "gib" => (1_073_741_824.0, Bytes),
        "tib" => (1_099_511_627_776.0, Bytes),
        "percent" => (1.0, Percent),
        "dollar" | "dollars" | "usd" => (1.0, Money('$')),
        "euro" | "euros" | "eur" => (1.0, Money('€')),
        "pounds" | "gbp" => (1.0, Money('£')),
        "mm" | "millimetres" | "millimeters" => (1e-3, Metres),
        "cm" | "centimetres" | "centimeters" => (1e-2, Metres),
        "m" | "metre" | "metres" | "meter" | "meters" => (1.0, Metres),
        "km" | "kilometre" | "kilometres" | "kilometer" | "kilometers" => (1e3, Metres),
        "g" | "gram" | "grams" => (1.0, Grams),
        "kg" | "kilogram" | "kilograms" => (1e3, Grams),
        "°c" | "celsius" => (1.0, Degrees),
        "hz" => (1.0, Hertz),
        "khz" => (1e3, Hertz),
        "mhz" => (1e6, Hertz),
        "ghz" => (1e9, Hertz),
        _ => return None,
    })
}
