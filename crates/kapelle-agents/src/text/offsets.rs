//! From bytes to characters.

/// How many bytes there are between two known places.
const STRIDE: usize = 1024;

/// Tells how many characters are before a byte of a text, without counting from its start.
pub(crate) struct Offsets<'a> {
    text: &'a str,
    /// The characters that begin before each multiple of [`STRIDE`].
    known: Vec<usize>,
}

impl<'a> Offsets<'a> {
    /// Of this text.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut sum = 0;
        let pieces = text.as_bytes().chunks(STRIDE);
        let known = pieces.map(|piece| {
            let before = sum;
            sum += begun(piece);
            before
        });
        let known = known.collect();
        Self { text, known }
    }

    /// How many characters begin before `byte`.
    pub(crate) fn chars(&self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        let index = (byte / STRIDE).min(self.known.len().saturating_sub(1));
        let known = self.known.get(index).copied().unwrap_or(0);
        known + begun(&self.text.as_bytes()[index * STRIDE..byte])
    }
}

/// How many characters begin in `bytes`.
fn begun(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
