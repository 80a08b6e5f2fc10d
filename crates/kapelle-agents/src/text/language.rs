//! Which language a text is in, and how its words are stemmed.

use rust_stemmers::Algorithm;
use whatlang::{Detector, Lang, Script};

use super::stop;

/// How much of a text is looked at: more tells no more, and costs.
const LOOKED_AT: usize = 1500;
/// The least confidence at which a guess is taken, and for scripts of few languages.
const CONFIDENT: f64 = 0.5;
const CONFIDENT_BY_SCRIPT: f64 = 0.02;

/// Languages that can be told apart here, by their ISO 639-1 code. Those with an algorithm are
/// stemmed; the others are searched by their words as they stand.
const KNOWN: [(&str, Lang, Option<Algorithm>); 29] = [
    ("ar", Lang::Ara, Some(Algorithm::Arabic)),
    ("bg", Lang::Bul, None),
    ("cs", Lang::Ces, None),
    ("da", Lang::Dan, Some(Algorithm::Danish)),
    ("de", Lang::Deu, Some(Algorithm::German)),
    ("el", Lang::Ell, Some(Algorithm::Greek)),
    ("en", Lang::Eng, Some(Algorithm::English)),
    ("es", Lang::Spa, Some(Algorithm::Spanish)),
    ("fa", Lang::Pes, None),
    ("fi", Lang::Fin, Some(Algorithm::Finnish)),
    ("fr", Lang::Fra, Some(Algorithm::French)),
    ("he", Lang::Heb, None),
    ("hi", Lang::Hin, None),
    ("hu", Lang::Hun, Some(Algorithm::Hungarian)),
    ("it", Lang::Ita, Some(Algorithm::Italian)),
    ("ja", Lang::Jpn, None),
    ("ko", Lang::Kor, None),
    ("nl", Lang::Nld, Some(Algorithm::Dutch)),
    ("no", Lang::Nob, Some(Algorithm::Norwegian)),
    ("pl", Lang::Pol, None),
    ("pt", Lang::Por, Some(Algorithm::Portuguese)),
    ("ro", Lang::Ron, Some(Algorithm::Romanian)),
    ("ru", Lang::Rus, Some(Algorithm::Russian)),
    ("sv", Lang::Swe, Some(Algorithm::Swedish)),
    ("th", Lang::Tha, None),
    ("tr", Lang::Tur, Some(Algorithm::Turkish)),
    ("uk", Lang::Ukr, None),
    ("vi", Lang::Vie, None),
    ("zh", Lang::Cmn, None),
];

/// One of the known languages, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Language(Option<u8>);

impl Language {
    /// The language of `said`, such as `en`, `en-GB` or `no`; without it, that of `text`.
    pub(crate) fn of(said: Option<&str>, text: &str) -> Self {
        said.and_then(Self::named).unwrap_or_else(|| Self::detect(text))
    }

    /// The language that a tag names; `None` if it is not known here.
    pub(crate) fn named(tag: &str) -> Option<Self> {
        let code = tag.split(['-', '_']).next().unwrap_or_default().trim().to_ascii_lowercase();
        let code = if code == "nb" || code == "nn" { "no" } else { &code };
        Self::position(|known| known.0 == code)
    }

    /// The language that a text seems to be in. The small words tell at once, where there are some;
    /// letters in threes tell the rest.
    pub(crate) fn detect(text: &str) -> Self {
        let sample = head(text, LOOKED_AT);
        if let Some(code) = stop::vote(sample) {
            return Self::named(code).unwrap_or(Self(None));
        }
        let langs = KNOWN.iter().map(|known| known.1).collect();
        let guess = Detector::with_allowlist(langs).detect(sample);
        guess
            .filter(|guess| {
                let latin = guess.script() == Script::Latin;
                guess.confidence() >= if latin { CONFIDENT } else { CONFIDENT_BY_SCRIPT }
            })
            .and_then(|guess| Self::position(|known| known.1 == guess.lang()))
            .unwrap_or(Self(None))
    }

    /// Its code, or `und`.
    pub(crate) fn code(self) -> &'static str {
        self.known().map_or("und", |known| known.0)
    }

    /// How its words are stemmed. What is in no known language is taken for English: most of it are
    /// lists of names and commands in English.
    pub(super) fn algorithm(self) -> Option<Algorithm> {
        self.known().map_or(Some(Algorithm::English), |known| known.2)
    }

    fn known(self) -> Option<&'static (&'static str, Lang, Option<Algorithm>)> {
        self.0.and_then(|index| KNOWN.get(usize::from(index)))
    }

    fn position(is: impl Fn(&(&str, Lang, Option<Algorithm>)) -> bool) -> Option<Self> {
        let index = KNOWN.iter().position(is)?;
        Some(Self(u8::try_from(index).ok()))
    }
}

/// The first bytes of `text`, up to `max`, whole characters only.
fn head(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
