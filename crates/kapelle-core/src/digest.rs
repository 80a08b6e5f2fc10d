//! The name of a value by its content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::ids::{BadId, serde_as_text};

/// SHA-256 of a value's bytes, shown as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest made of these bytes, as a store keeps them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without `sha256:`; a file name.
    #[must_use]
    pub fn hex(&self) -> String {
        self.with_digits(str::to_owned)
    }

    /// Shows the digits without taking memory for them: an entry names many digests.
    fn with_digits<T>(&self, show: impl FnOnce(&str) -> T) -> T {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        show(str::from_utf8(&hex).expect("digits are ASCII"))
    }
}

/// Digests what comes in pieces.
#[derive(Clone, Default)]
pub struct Digester(sha2::Sha256);

impl Digester {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.with_digits(|hex| f.write_str(hex))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(text, "a digest (`sha256:` and 64 hexadecimal digits)");
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 {
            return Err(bad());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(bad);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

serde_as_text!(Digest);

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of `abc`, as everybody knows it.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn pieces_have_the_digest_of_the_whole() {
        let mut digester = Digester::default();
        digester.update(b"a");
        digester.update(b"bc");
        assert_eq!(digester.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn a_digest_is_read_as_it_is_shown() {
        let digest = Digest::of(b"abc");
        assert_eq!((digest.hex(), digest.to_string()), (ABC.to_owned(), format!("sha256:{ABC}")));
        assert_eq!(format!("{digest:?}"), digest.to_string());
        assert_eq!(digest.as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!([ABC, &digest.to_string()].map(str::parse), [Ok(digest), Ok(digest)]);
        for bad in ["", "sha256:", &ABC[1..], &ABC.replace('f', "g"), &format!("{ABC}00")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
