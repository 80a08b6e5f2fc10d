//! A key in what comes from outside: found by its value, in any of the ways it is written there.
//!
//! **Invariant:** whatever a provider says, its key among it, leaves [`super::client`] with `[key]` in the
//! key's place: answers, calls of tools, errors, and what is shown while an answer comes. A key of fewer
//! than eight characters is none: `ollama` and its like stand in texts of their own right.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use url::form_urlencoded::byte_serialize;

use super::{Delta, Part, Reply, Stop};

/// What stands in a key's place.
const SHOWN: &str = "[key]";
/// Shorter ones are words that local servers take for a key.
const KEY_MIN: usize = 8;

/// Those of all keys that were read here: for what is said where nobody knows which key it is about.
static KNOWN: Mutex<Vec<Veil>> = Mutex::new(Vec::new());

/// `text` without any key that this process has read: for what a panic says.
#[must_use]
pub fn without_keys(text: &str) -> String {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().fold(text.to_owned(), |text, veil| veil.text(&text).into_owned())
}

/// What a key looks like, longest first; nothing where there is no key.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Veil(Box<[Box<str>]>);

impl Veil {
    /// That of `key`.
    pub(super) fn of(key: &str) -> Self {
        if key.len() < KEY_MIN {
            return Self::default();
        }
        let quoted = Json::from(key).to_string();
        let url: String = byte_serialize(key.as_bytes()).collect();
        let plain =
            [key.to_owned(), quoted[1..quoted.len() - 1].to_owned(), url.to_lowercase(), url];
        let mut forms: Vec<Box<str>> = plain.into_iter().map(Into::into).collect();
        // In base64 it looks different by its place in what is encoded.
        forms.extend((0..3).flat_map(|before| encoded(key, before)));
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        forms.dedup();
        Self(forms.into())
    }

    /// Has [`without_keys`] know it too.
    pub(super) fn remember(&self) {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(self) {
            known.push(self.clone());
        }
    }

    /// `text` without the key.
    pub(super) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        for form in self.0.iter().filter(|form| text.len() >= form.len()) {
            if clean.contains(&**form) {
                clean = clean.replace(&**form, SHOWN).into();
            }
        }
        clean
    }

    /// `json` without the key, in whatever text of it.
    pub(super) fn json(&self, json: &mut Json) {
        match json {
            Json::String(text) => {
                if let Cow::Owned(clean) = self.text(text) {
                    *text = clean;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Json::Object(map) => {
                map.values_mut().for_each(|value| self.json(value));
                if map.keys().any(|name| matches!(self.text(name), Cow::Owned(_))) {
                    let named =
                        |(name, value): (String, Json)| (self.text(&name).into_owned(), value);
                    *map = std::mem::take(map).into_iter().map(named).collect();
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    /// `reply` without the key.
    pub(super) fn reply(&self, reply: &mut Reply) {
        for part in &mut reply.parts {
            match part {
                Part::Text { text } => self.word(text),
                Part::ToolCall { id, name, input } => {
                    self.word(id);
                    self.word(name);
                    self.json(input);
                }
                Part::ToolResult { id, text, .. } => {
                    self.word(id);
                    self.word(text);
                }
                Part::Raw { block } => self.json(block),
            }
        }
        self.word(&mut reply.model);
        if let Some(request) = &mut reply.request {
            self.word(request);
        }
        if let Stop::Refused(why) = &mut reply.stop {
            self.word(why);
        }
    }

    /// `failure` without the key.
    pub(super) fn failure(&self, mut failure: Failure) -> Failure {
        self.word(&mut failure.message);
        self.word(&mut failure.code);
        failure
    }

    fn word(&self, text: &mut Box<str>) {
        if let Cow::Owned(clean) = self.text(text) {
            *text = clean.into();
        }
    }

    /// How much of the end of `text` the key may begin with, in bytes.
    fn begun(&self, text: &str) -> usize {
        let starts = |form: &str, len| form.get(..len).is_some_and(|start| text.ends_with(start));
        let begun = |form: &str| (1..form.len()).rev().find(|len| starts(form, *len));
        self.0.iter().filter_map(|form| begun(form)).max().unwrap_or(0)
    }
}

/// What `key` is in base64 behind so many other bytes, without the letters that depend on these or on what
/// follows.
fn encoded(key: &str, before: usize) -> [Box<str>; 2] {
    let bytes = [&[0; 3][..before], key.as_bytes()].concat();
    let letters = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
    [STANDARD.encode(&bytes)[letters.clone()].into(), URL_SAFE.encode(&bytes)[letters].into()]
}

/// What is shown of an answer while it comes: what may be the beginning of a key waits for what follows.
#[derive(Default)]
pub(super) struct Shown {
    held: String,
    is_thought: bool,
}

impl Shown {
    /// Shows `delta` to `on`, but for what may begin a key.
    pub(super) fn hear(&mut self, veil: &Veil, delta: &Delta<'_>, on: &mut dyn FnMut(Delta<'_>)) {
        let (text, is_thought) = match delta {
            Delta::Text(text) => (*text, false),
            Delta::Thought(text) => (*text, true),
            Delta::Begun(headers) => return on(Delta::Begun(headers)),
            Delta::Tool(name) => {
                self.rest(on);
                return on(Delta::Tool(&veil.text(name)));
            }
        };
        if self.is_thought != is_thought {
            self.rest(on);
            self.is_thought = is_thought;
        }
        self.held.push_str(text);
        if let Cow::Owned(clean) = veil.text(&self.held) {
            self.held = clean;
        }
        let held = self.held.split_off(self.held.len() - veil.begun(&self.held));
        self.rest(on);
        self.held = held;
    }

    /// Shows what has waited.
    pub(super) fn rest(&mut self, on: &mut dyn FnMut(Delta<'_>)) {
        let text = std::mem::take(&mut self.held);
        if !text.is_empty() {
            on(if self.is_thought { Delta::Thought(&text) } else { Delta::Text(&text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = r#"sk-a/b"c+4711"#;

    #[test]
    fn a_key_is_found_however_it_is_written() {
        let veil = Veil::of(KEY);
        let url: String = byte_serialize(KEY.as_bytes()).collect();
        let mut written = vec![KEY.to_owned(), json!(KEY).to_string(), url.to_lowercase(), url];
        for beside in ["", "x", "xy", "user:"] {
            let bytes = format!("{beside}{KEY}{beside}");
            written.extend([STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)]);
        }
        for text in written {
            let clean = veil.text(&text);
            assert!(clean.contains(SHOWN) && clean.len() < SHOWN.len() + 20, "{text}: {clean}");
        }
        let mut json = json!({"a": [{KEY: format!("it is {KEY}, {KEY}")}], "b": 1});
        veil.json(&mut json);
        assert_eq!(json, json!({"a": [{SHOWN: "it is [key], [key]"}], "b": 1}));
        // A word that stands for a key is no secret.
        assert_eq!(Veil::of("ollama").text("run ollama"), "run ollama");
        assert_eq!(Veil::default().text("sk-a"), "sk-a");
    }

    /// Whatever key there is, and whatever text: no slice ends in the middle of a letter.
    #[test]
    fn any_text_is_shown_without_any_key() {
        let letters = ['s', 'k', '-', 'Ä', 'ß', '日', '𒀀', '\u{202e}', '"', '\\', '\n', ' ', '1'];
        let mut dice = 7_u64;
        let mut roll = |sides: usize| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(dice >> 33).unwrap() % sides
        };
        for _ in 0..3_000 {
            let mut word =
                |len: usize| (0..len).map(|_| letters[roll(letters.len())]).collect::<String>();
            let (key, before, after) = (word(9), word(6), word(6));
            let veil = Veil::of(&key);
            let half: String = key.chars().take(5).collect();
            let text = format!("{before}{key}{after}{half}{key}{half}");
            let (mut shown, mut seen) = (Shown::default(), String::new());
            let mut on = |delta: Delta<'_>| match delta {
                Delta::Text(text) => seen.push_str(text),
                other => panic!("{other:?}"),
            };
            for piece in text.chars() {
                shown.hear(&veil, &Delta::Text(piece.encode_utf8(&mut [0; 4])), &mut on);
            }
            shown.rest(&mut on);
            assert!(!seen.contains(&key) && seen.contains(SHOWN), "{key:?} in {text:?}: {seen:?}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_key_wherever_it_is_cut() {
        let veil = Veil::of(KEY);
        let text = format!("key: {KEY}sk-a. sk");
        for cut in (0..=text.len()).flat_map(|a| (a..=text.len()).map(move |b| (a, b))) {
            let (mut shown, mut seen) = (Shown::default(), String::new());
            let mut on = |delta: Delta<'_>| match delta {
                Delta::Text(text) => seen.push_str(text),
                other => panic!("{other:?}"),
            };
            for piece in [&text[..cut.0], &text[cut.0..cut.1], &text[cut.1..]] {
                shown.hear(&veil, &Delta::Text(piece), &mut on);
            }
            shown.rest(&mut on);
            assert_eq!(seen, "key: [key]sk-a. sk", "{cut:?}");
        }
    }
}
