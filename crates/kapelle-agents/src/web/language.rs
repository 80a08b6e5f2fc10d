//! Which language a text is in: what its words say, else what the page says of itself.

use whatlang::{Lang, detect};

/// How much of a text is looked at, in characters.
const LOOK: usize = 800;
/// From how many letters on the words are believed rather than the page.
const SURE: usize = 120;

/// The language as ISO 639-1 has it (639-3 where that has none); `None` if nothing is known.
pub(super) fn language(text: &str, said: Option<&str>) -> Option<String> {
    let said = said.and_then(primary);
    // From the middle: pages of all languages begin with English words.
    let skip = text.floor_char_boundary(text.len().saturating_sub(4 * LOOK) / 2);
    let sample: String = text[skip..].chars().take(LOOK).collect();
    let found = detect(&sample);
    let Some(found) = found else { return said };
    let sure = found.is_reliable() && sample.chars().count() >= SURE;
    let code = short(found.lang());
    if sure || said.is_none() && found.confidence() > 0.5 { Some(code.to_owned()) } else { said }
}

/// `en` of `en-GB`.
fn primary(tag: &str) -> Option<String> {
    let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let fits = (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_lowercase());
    fits.then_some(primary)
}

fn short(lang: Lang) -> &'static str {
    // In the order of ISO 639-3; those without a short code keep their long one.
    const SHORT: [(&str, &str); 69] = [
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "nb"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
    ];
    let code = lang.code();
    SHORT.binary_search_by_key(&code, |(long, _)| *long).map_or(code, |at| SHORT[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_believed_where_there_are_enough_of_them() {
        let german = "Wer einen Dienst betreibt, der Tag und Nacht erreichbar sein soll, braucht \
            einen Plan für den Fall, dass die Festplatte voll ist, und für den, dass sie ausfällt.";
        assert_eq!(language(german, Some("en-US")).as_deref(), Some("de"));
        assert_eq!(language(german, None).as_deref(), Some("de"));
        assert_eq!(language("OK", Some("fr_CA")).as_deref(), Some("fr"));
        assert_eq!(language("", Some("x")), None);
        assert_eq!(language("12 34", None), None);
    }

    #[test]
    fn every_short_code_is_found() {
        for (long, shorter) in
            [("ces", "cs"), ("vie", "vi"), ("afr", "af"), ("cmn", "zh"), ("yid", "yi")]
        {
            assert_eq!(short(Lang::from_code(long).unwrap()), shorter);
        }
        for lang in Lang::all() {
            assert!(
                short(*lang) == "zu" || *lang == Lang::Zul || short(*lang).len() == 2,
                "{lang:?}"
            );
        }
    }
}
