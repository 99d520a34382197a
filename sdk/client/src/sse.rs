//! Server-sent events: bytes in pieces ⇄ events. Pure; an event has a bound.

use crate::error::Error;

/// A longer event is none of the feed: a close lists at most some thousand groups.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name.
    pub(crate) name: String,
    /// Its data; lines are joined.
    pub(crate) data: String,
}

/// What has come so far.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    event: Event,
}

impl Events {
    /// Takes a piece and gives the events that it completes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + self.event.data.len() + part.len() > EVENT_BYTES_MAX {
                return Err(Error::Answer("an event of the feed is too long".to_owned()));
            }
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(&line)?);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<Option<Event>, Error> {
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::Answer("the feed is not UTF-8".to_owned()))?
            .trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok((!event.data.is_empty()).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments have an empty field; others mean nothing here.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": alive\n\nevent: joined\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:x\n\n";

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let wanted = [
            Event {
                name: "joined".into(),
                data: "{\"a\":\n1}".into(),
            },
            Event {
                name: String::new(),
                data: "x".into(),
            },
        ];
        for size in 1..TEXT.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in TEXT.as_bytes().chunks(size) {
                found.extend(events.take(piece).unwrap());
            }
            assert_eq!(found, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..8).try_for_each(|_| events.take(&piece).map(drop));
        assert!(taken.is_err());
    }
}
