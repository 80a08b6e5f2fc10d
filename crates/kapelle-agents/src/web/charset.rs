//! From bytes to text: which charset a page is in, whatever it says.
//!
//! A byte order mark first, then the server's word, then the page's own, then a guess. A word that
//! the bytes give the lie is not believed: text that says it is UTF-8 and is not, and the reverse.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, REPLACEMENT, UTF_8};

/// Where a page may say it, from its start on: what browsers look at.
const PRESCAN: usize = 1024;
/// How much a guess looks at.
const GUESS_MAX: usize = 256 << 10;

/// The text of `bytes`; `header` is the charset that the server named.
pub(super) fn decode(bytes: &[u8], header: Option<&str>) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned();
    }
    let said = header.and_then(known).or_else(|| in_page(bytes));
    let encoding = match said {
        Some(encoding) if is_true(encoding, bytes) => encoding,
        _ => guess(bytes),
    };
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

fn known(label: &str) -> Option<&'static Encoding> {
    let label = label.trim().trim_matches(['"', '\'']);
    Encoding::for_label(label.as_bytes()).filter(|encoding| *encoding != REPLACEMENT)
}

/// Whether the bytes can be what they are said to be.
fn is_true(said: &'static Encoding, bytes: &[u8]) -> bool {
    if said == UTF_8 {
        return std::str::from_utf8(bytes).is_ok();
    }
    // Letters of other charsets make valid UTF-8 by accident once in a blue moon.
    if said.is_single_byte() {
        return bytes.is_ascii() || std::str::from_utf8(bytes).is_err();
    }
    !said.decode_without_bom_handling(bytes).1
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let start = &bytes[..bytes.len().min(GUESS_MAX)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(start, start.len() == bytes.len());
    detector.guess(None, Utf8Detection::Allow)
}

/// What a `<meta>` or an XML declaration at the start says.
fn in_page(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(PRESCAN)]).to_ascii_lowercase();
    if let Some(declared) = start.trim_start().strip_prefix("<?xml") {
        let declared = declared.split('>').next().and_then(labelled);
        if declared.is_some_and(|encoding| encoding.is_ascii_compatible()) {
            return declared;
        }
    }
    let mut rest = &*start;
    while let Some(at) = rest.find("<meta") {
        let tag = &rest[at..];
        let tag = &tag[..tag.find('>').unwrap_or(tag.len())];
        if let Some(encoding) = labelled(tag) {
            // A page whose own word could be read is in no encoding of two bytes a letter.
            return Some(if encoding.is_ascii_compatible() { encoding } else { UTF_8 });
        }
        rest = &rest[at + 5..];
    }
    None
}

fn labelled(tag: &str) -> Option<&'static Encoding> {
    let (_, after) = tag.split_once("charset").or_else(|| tag.split_once("encoding"))?;
    let value = after.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let end = value.find(|letter: char| letter.is_whitespace() || "\"';/>?".contains(letter));
    known(&value[..end.unwrap_or(value.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_whatever_the_page_says_of_its_charset() {
        let latin: &[u8] = b"<meta charset=iso-8859-1><p>Gr\xfc\xdfe aus K\xf6ln, sch\xf6n";
        let cases: [(&[u8], Option<&str>, &str); 9] = [
            (latin, None, "Grüße aus Köln"),
            // The server says UTF-8, and it is not.
            (latin, Some("utf-8"), "Grüße aus Köln"),
            ("<meta charset=latin1><p>Grüße aus Köln".as_bytes(), None, "Grüße aus Köln"),
            ("Grüße aus Köln".as_bytes(), Some("windows-1252"), "Grüße aus Köln"),
            (b"\xff\xfeG\0r\0\xfc\0\xdf\0e\0", Some("utf-8"), "Grüße"),
            (b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe", Some("iso-8859-1"), "Grüße"),
            (
                b"<meta http-equiv=\"Content-Type\" content=\"text/html; charset=koi8-r\">\xf0\xd2\xc9\xd7\xc5\xd4",
                None,
                "Привет",
            ),
            (b"<?xml version='1.0' encoding='windows-1251'?>\xcf\xf0\xe8\xe2\xe5\xf2", None, "Привет"),
            (b"\x82\xb1\x82\xf1\x82\xc9\x82\xbf\x82\xcd", Some("shift_jis"), "こんにちは"),
        ];
        for (bytes, header, expected) in cases {
            let text = decode(bytes, header);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_page_that_says_nothing_is_guessed() {
        let russian = "Это обычный текст на русском языке, без единого слова о своей кодировке.";
        let (bytes, _, lost) = encoding_rs::WINDOWS_1251.encode(russian);
        assert!(!lost);
        assert_eq!(decode(&bytes, None), russian);
        assert_eq!(decode(&bytes, Some("no-such-charset")), russian);
        assert_eq!(decode(russian.as_bytes(), None), russian);
    }

    #[test]
    fn charsets_that_hide_markup_are_not_believed() {
        let text = decode(b"<p>plain ascii</p>", Some("hz-gb-2312"));
        assert_eq!(text, "<p>plain ascii</p>");
    }
}
