//! Server-sent events, as far as model providers use them.
//!
//! **Invariant:** what is kept of an event that is not complete has a limit. What is cut off at the
//! end is no event.

/// The longest event, in bytes.
const EVENT_MAX: usize = 8 << 20;
/// What may stand before a text in UTF-8.
pub(super) const MARK: &[u8] = "\u{feff}".as_bytes();

/// Splits what comes in pieces into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// The data of an event whose end has not come.
    data: Vec<u8>,
    /// The last piece ended with CR: an LF that comes next belongs to it.
    after_cr: bool,
}

/// An event that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes a piece, and shows the data of each event that it completes to `each`.
    pub(super) fn take(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        let mut rest = piece;
        if self.after_cr {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = piece.is_empty();
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (start, tail) = (&rest[..end], &rest[end + 1..]);
            if rest[end] == b'\r' {
                self.after_cr = tail.is_empty();
                rest = tail.strip_prefix(b"\n").unwrap_or(tail);
            } else {
                rest = tail;
            }
            if self.line.is_empty() {
                Self::line(&mut self.data, start, &mut each);
            } else {
                self.line.extend_from_slice(start);
                Self::line(&mut self.data, &self.line, &mut each);
                self.line.clear();
            }
            if self.data.len() > EVENT_MAX {
                return Err(TooLong);
            }
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > EVENT_MAX { Err(TooLong) } else { Ok(()) }
    }

    fn line(data: &mut Vec<u8>, line: &[u8], each: &mut impl FnMut(&[u8])) {
        let line = line.strip_prefix(MARK).unwrap_or(line);
        if line.is_empty() {
            if let Some(whole) = data.strip_suffix(b"\n") {
                each(whole);
            }
            return data.clear();
        }
        // Names of events, ids and comments say nothing that the data do not say.
        if let Some(more) = line.strip_prefix(b"data:") {
            data.extend_from_slice(more.strip_prefix(b" ").unwrap_or(more));
            data.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut all, mut events) = (Vec::new(), Events::default());
        for piece in pieces {
            let each = |data: &[u8]| all.push(String::from_utf8_lossy(data).into_owned());
            events.take(piece, each).unwrap();
        }
        all
    }

    #[test]
    fn events_end_with_an_empty_line_whatever_ends_lines() {
        let text = b"event: a\ndata: one\n\n: hi\r\ndata:two\r\ndata:  lines\r\n\r\ndata: three\r\rdata: cut";
        assert_eq!(events(&[text]), ["one", "two\n lines", "three"]);
        assert_eq!(events(&[b"id: 1\n\n\n\nretry: 3\n\n"]), Vec::<String>::new());
        assert_eq!(events(&[b"data: x\r", b"\n\r\n"]), ["x"]);
        assert_eq!(events(&[b"data:\n\n"]), [""]);
        assert_eq!(events(&[b"\xef\xbb", b"\xbfdata: x\n\n"]), ["x"]);
    }

    #[test]
    fn an_event_has_a_limit() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let ends = (0..10).map(|_| events.take(&piece, |_| {})).find(Result::is_err);
        assert_eq!(ends, Some(Err(TooLong)));
        let mut events = Events::default();
        let line = [b"data: ", &*piece, b"\n"].concat();
        let ends = (0..10).map(|_| events.take(&line, |_| {})).find(Result::is_err);
        assert_eq!(ends, Some(Err(TooLong)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_pieces_are_cut(
            text in "(data: ?[a-c]{0,3}|: x|id: 1|)(\r|\n|\r\n)([ab]|(data:[a-c]{0,2})?(\r|\n|\r\n)){0,12}",
            cuts in prop::collection::vec(0_usize..60, 0..8),
        ) {
            let whole = events(&[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&text.as_bytes()[from..]);
            prop_assert_eq!(events(&pieces), whole);
        }
    }
}
