//! Server-sent events (WHATWG HTML, section 9.2), as far as engines use them: the data of each event.

/// Most bytes of one event; an engine that sends more without an end is broken.
const LONGEST: usize = 16 << 20;

/// Takes bytes as they come and gives the data of whole events, wherever the bytes were cut.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// the line that is not over yet
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// the line before ended in a carriage return: a newline that follows belongs to it
    after_return: bool,
    begun: bool,
}

/// An event without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Events {
    /// Adds bytes and hands the data of each event that ends in them to `each`.
    ///
    /// # Errors
    /// When an event grows beyond all measure.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if self.end_line() {
                each(&self.data);
                self.data.clear();
                self.has_data = false;
            }
        }
        match self.line.len() + self.data.len() > LONGEST {
            true => Err(TooLong),
            false => Ok(()),
        }
    }

    /// The data of an event that the end of the stream cut off before its empty line: some engines leave that
    /// out after their last word.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        self.end_line();
        self.has_data.then_some(self.data)
    }

    /// Takes in a whole line; true when an event ends with it.
    fn end_line(&mut self) -> bool {
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.line.clear();
            return self.has_data;
        }
        // anything but data (names, ids, comments that keep the line alive) says nothing here
        if let Some(rest) = line.strip_prefix(b"data") {
            let value = match rest {
                [] => Some(rest),
                [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
                _ => None,
            };
            if let Some(value) = value {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
        }
        self.line.clear();
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut events, mut out) = (Events::default(), Vec::new());
        for part in parts {
            events.push(part, |data| out.push(data.to_vec())).expect("short");
        }
        out.extend(events.finish());
        out
    }

    #[test]
    fn events_are_what_the_standard_says() {
        let text = "\u{feff}: hello\ndata: one\n\ndata:two\r\ndata:  three\r\n\r\nevent: x\rid: \
                    7\rdata\r\rretry: 5\n\ndatax: no\ndata: [DONE]";
        assert_eq!(
            events([text.as_bytes()]),
            [
                b"one".to_vec(),
                b"two\n three".to_vec(),
                b"".to_vec(),
                b"[DONE]".to_vec()
            ]
        );
        assert!(events([b"".as_slice()]).is_empty());
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut events = Events::default();
        let part = vec![b'x'; 1 << 20];
        let refused = (0..20).any(|_| events.push(&part, |_| panic!("no event")).is_err());
        assert!(refused);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_events(
            lines in prop::collection::vec((prop::sample::select(vec![
                "data: {\"a\":1}", "data:é€", "data", "", "", ": keep-alive", "event: y", "data: a: b", "x",
                "data:  two spaces",
            ]), prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..24),
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c % (bytes.len() + 1)).collect();
            at.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in at {
                parts.push(&bytes[from..cut]);
                from = cut;
            }
            parts.push(&bytes[from..]);
            let whole = events([bytes]);
            prop_assert_eq!(&events(parts), &whole);
            prop_assert_eq!(events(bytes.chunks(1)), whole);
        }
    }
}
