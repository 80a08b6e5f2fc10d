//! From bytes to text: byte order marks, other charsets, line ends.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::{FILE_MAX, Oddities, Useless};

/// The text of `bytes`. What is no UTF-8 is read as what it may be, with a warning.
pub(super) fn decode(bytes: &[u8], odd: &mut Oddities) -> Result<String, Useless> {
    if bytes.len() > FILE_MAX {
        return Err(Useless::new(1, "the file is over 1 MiB"));
    }
    let text = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => {
            odd.note(1, format!("the file begins with a byte order mark of {}", encoding.name()));
            let (text, is_odd) = encoding.decode_without_bom_handling(&bytes[mark..]);
            if is_odd {
                odd.note(1, format!("not all of the file is {}", encoding.name()));
            }
            text.into_owned()
        }
        None => without_mark(bytes, odd),
    };
    if let Some(at) = text.find('\0') {
        return Err(Useless::new(line_at(&text, at), "the file is no text"));
    }
    // Old Macs had no other end of a line; on Windows it is one of two.
    if let Some(at) = text.find('\r') {
        odd.note(line_at(&text, at), "lines end as on Windows or old Macs");
    }
    // Old Macs had no other end of a line; on Windows it is one of two.
    Ok(if text.contains('\n') { text } else { text.replace('\r', "\n") })
}

fn without_mark(bytes: &[u8], odd: &mut Oddities) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            let text = String::from_utf8_lossy(bytes);
            if is_mostly_utf8(&text) {
                odd.note(line, format!("this is no {}, and is left out", UTF_8.name()));
                return text.into_owned();
            }
            odd.note(line, format!("this is no {}, and is read as Windows-1252", UTF_8.name()));
            WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()
        }
    }
}

/// Whether of what is no ASCII more is UTF-8 than not: in other charsets hardly any of it is.
fn is_mostly_utf8(lossy: &str) -> bool {
    let odd = lossy.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    lossy.chars().filter(|c| !c.is_ascii()).count() > 2 * odd
}

/// The line, from 1 on, in which `at` is.
pub(super) fn line_at(text: &str, at: usize) -> u32 {
    let ends = text[..at].bytes().filter(|byte| *byte == b'\n').count();
    u32::try_from(ends + 1).unwrap_or(u32::MAX)
}
