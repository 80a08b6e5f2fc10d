//! Small words: they tell the language, and nothing else.

use super::words::words;

/// The least number of small words that settle which language it is, and where they are of one
/// language only.
const HITS_MIN: usize = 6;
const HITS_MIN_ALONE: usize = 2;

/// The small words of the languages read most; each list is sorted.
const LISTS: [(&str, &[&str]); 7] = [
    (
        "de",
        &[
            "aber", "alle", "als", "also", "am", "an", "auch", "auf", "aus", "bei", "bis", "da",
            "damit", "dann", "das", "dass", "dem", "den", "der", "des", "die", "dies", "diese",
            "dieser", "dieses", "doch", "durch", "ein", "eine", "einem", "einen", "einer", "eines",
            "er", "es", "für", "haben", "hat", "ich", "ihr", "ihre", "im", "in", "ist", "kann",
            "kein", "keine", "mit", "nach", "nicht", "noch", "nur", "oder", "sehr", "sein",
            "seine", "sich", "sie", "sind", "so", "um", "und", "uns", "unter", "vom", "von", "vor",
            "war", "was", "wenn", "werden", "wie", "wir", "wird", "wo", "zu", "zum", "zur", "über",
        ],
    ),
    (
        "en",
        &[
            "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
            "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have",
            "he", "her", "here", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just",
            "may", "me", "my", "no", "not", "of", "on", "or", "our", "out", "she", "should", "so",
            "some", "such", "than", "that", "the", "their", "them", "then", "there", "these",
            "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where",
            "which", "while", "who", "why", "will", "with", "would", "you", "your",
        ],
    ),
    (
        "es",
        &[
            "a", "al", "como", "con", "cuando", "de", "del", "desde", "donde", "el", "ella", "en",
            "entre", "era", "es", "esta", "este", "esto", "está", "están", "fue", "ha", "hay",
            "la", "las", "le", "lo", "los", "mas", "muy", "más", "no", "o", "para", "pero", "por",
            "porque", "puede", "que", "qué", "se", "ser", "si", "sin", "sobre", "son", "su", "sus",
            "también", "un", "una", "y", "ya",
        ],
    ),
    (
        "fr",
        &[
            "au", "aussi", "aux", "avec", "ce", "ces", "cette", "comme", "d", "dans", "de", "des",
            "du", "elle", "en", "est", "et", "il", "ils", "je", "l", "la", "le", "les", "leur",
            "mais", "ne", "nous", "on", "ont", "ou", "où", "par", "pas", "peut", "plus", "pour",
            "qu", "que", "qui", "sa", "se", "ses", "si", "son", "sont", "sur", "un", "une", "vous",
            "à", "être",
        ],
    ),
    (
        "it",
        &[
            "a", "ad", "al", "alla", "anche", "che", "chi", "ci", "come", "con", "da", "dal",
            "dalla", "dei", "del", "della", "delle", "di", "e", "gli", "ha", "i", "il", "in", "la",
            "le", "lo", "ma", "nel", "nella", "non", "o", "per", "più", "può", "quando", "questa",
            "questo", "se", "si", "sono", "su", "un", "una", "è",
        ],
    ),
    (
        "nl",
        &[
            "aan", "als", "bij", "dan", "dat", "de", "deze", "die", "dit", "door", "een", "en",
            "er", "geen", "het", "hij", "hoe", "in", "is", "je", "kan", "maar", "meer", "met",
            "naar", "niet", "nog", "of", "om", "ook", "op", "over", "te", "tot", "uit", "van",
            "voor", "wat", "worden", "wordt", "zijn",
        ],
    ),
    (
        "pt",
        &[
            "a", "ao", "aos", "as", "com", "como", "da", "das", "de", "do", "dos", "e", "ela",
            "ele", "em", "entre", "está", "foi", "há", "isso", "mais", "mas", "na", "nas", "no",
            "nos", "não", "o", "os", "ou", "para", "pela", "pelo", "pode", "por", "quando", "que",
            "se", "sem", "ser", "seu", "sua", "são", "também", "um", "uma", "é",
        ],
    ),
];

/// Whether `word`, in small letters, says nothing in the language `code`.
pub(super) fn is_stop(code: &str, word: &str) -> bool {
    let code = if code == "und" { "en" } else { code };
    let list = LISTS.iter().find(|list| list.0 == code);
    list.is_some_and(|list| list.1.binary_search(&word).is_ok())
}

/// The language whose small words are in `sample`, if they clearly are. It asks for twice as many as
/// of the next language: many of these words are in several lists.
pub(super) fn vote(sample: &str) -> Option<&'static str> {
    let mut hits = [0_usize; LISTS.len()];
    for (_, word) in words(sample) {
        // A capital begins a sentence or a name; either way the other words tell.
        for (list, hits) in LISTS.iter().zip(&mut hits) {
            *hits += usize::from(list.1.binary_search(&word).is_ok());
        }
    }
    let (best, most) = hits.iter().enumerate().max_by_key(|(_, hits)| **hits)?;
    let next = hits.iter().enumerate().filter(|(index, _)| *index != best).map(|(_, hits)| *hits);
    let next = next.max().unwrap_or(0);
    let least = if next == 0 { HITS_MIN_ALONE } else { HITS_MIN };
    let clear = *most >= least && *most >= 2 * next;
    clear.then_some(LISTS[best].0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lists_are_sorted() {
        for (code, list) in super::LISTS {
            assert!(list.is_sorted(), "{code}");
        }
    }
}
