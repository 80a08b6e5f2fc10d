//! Server-sent events, taken apart.
//!
//! **Invariant:** never more than [`EVENT_MAX`] bytes are kept, whatever the other side sends.

/// The longest event, in bytes.
pub(super) const EVENT_MAX: usize = 96 << 20;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its id, if it has one.
    pub(super) id: Option<String>,
    /// What kind it is, where that is said.
    pub(super) event: Option<String>,
    /// Its data, lines joined with line feeds.
    pub(super) data: String,
}

/// A stream that is none, or an event of over [`EVENT_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes pieces of a stream, gives events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    after_return: bool,
    frame: Frame,
    has_data: bool,
}

impl Parser {
    /// Takes the next piece; adds the events that are complete with it to `frames`.
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        frames: &mut impl Extend<Frame>,
    ) -> Result<(), Malformed> {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let is_feed_of_return = self.after_return && end == 0 && rest[0] == b'\n';
            self.after_return = rest[end] == b'\r';
            if !is_feed_of_return {
                self.keep(&rest[..end])?;
                frames.extend(self.end_line()?);
            }
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            self.after_return = false;
        }
        self.keep(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.line.len() + self.frame.data.len() + bytes.len() > EVENT_MAX {
            return Err(Malformed);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Frame>, Malformed> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| Malformed)?;
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return Ok(std::mem::take(&mut self.has_data).then_some(frame));
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.frame.event = Some(value.to_owned()),
            "id" => self.frame.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            _ => (),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\
: hello\n\nid: 1\nevent: a\ndata: {\"x\":\ndata: 1}\n\r\nid:2\r\ndata:ä\r\n\r\ndata\r\rid: 4\n\ndata: cut";

    fn all(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<Frame> {
        let (mut parser, mut frames) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.feed(&piece, &mut frames).unwrap();
        }
        frames
    }

    #[test]
    fn a_stream_gives_the_same_events_however_it_is_cut() {
        let whole = all(std::iter::once(STREAM.into()));
        let told: Vec<_> = whole.iter().map(|f| (f.id.as_deref(), &*f.data)).collect();
        assert_eq!(told, [(Some("1"), "{\"x\":\n1}"), (Some("2"), "ä"), (None, "")]);
        for size in 1..STREAM.len() {
            assert_eq!(all(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), whole, "{size}");
        }
    }

    #[test]
    fn an_endless_line_is_given_up() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let mut fed = 0;
        while parser.feed(&piece, &mut Vec::new()).is_ok() {
            fed += piece.len();
            assert!(fed <= EVENT_MAX);
        }
    }

    #[test]
    fn what_is_not_text_is_malformed() {
        assert_eq!(Parser::default().feed(b"data: \xff\n", &mut Vec::new()), Err(Malformed));
    }
}
