//! Where the bytes of HTTP/1 requests that have been read stand, and which request says twice how
//! long its body is: by `Content-Length` and by `Transfer-Encoding` (RFC 9112, section 6.3).
//!
//! hyper believes the latter and takes the former out of the headers, so that nobody behind it sees
//! that there were both; it ends the connection behind the answer. A proxy that believes the other one
//! may have sent what somebody else asked, so such a request is better not answered at all.
//!
//! It follows requests that are right. What is wrong with one says hyper, which reads no more of that
//! connection; here such bytes are merely lost.

/// As much of a line as is looked at.
const LINE_BYTES_MAX: usize = 64;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadPart {
    /// Lines of a head.
    Head,
    /// So much of a body.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// So much of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk.
    Trailer,
    /// Nothing that can be followed.
    Lost,
}

/// What the head that is being read has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Follows the requests of one connection.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    place: HeadPart,
    line: [u8; LINE_BYTES_MAX],
    /// Bytes of the line, whether they are kept or not.
    line_bytes: usize,
    head: Head,
    /// Heads that have come.
    count: u64,
    doubtful: Option<u64>,
}

impl Heads {
    pub(super) const fn new() -> Self {
        Self {
            place: HeadPart::Head,
            line: [0; LINE_BYTES_MAX],
            line_bytes: 0,
            head: Head {
                begun: false,
                length: None,
                chunked: false,
            },
            count: 0,
            doubtful: None,
        }
    }

    /// The number of the first request that has both, from one. None if none has come.
    pub(super) const fn doubtful(&self) -> Option<u64> {
        self.doubtful
    }

    /// More bytes of the connection.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.place != HeadPart::Lost {
            let taken = match self.place {
                HeadPart::Body(left) => {
                    let taken = clamp(left).min(bytes.len());
                    self.place = match left - taken as u64 {
                        0 => HeadPart::Head,
                        left => HeadPart::Body(left),
                    };
                    taken
                }
                HeadPart::Chunk(left) => {
                    let taken = clamp(left).min(bytes.len());
                    self.place = match left - taken as u64 {
                        0 => HeadPart::ChunkEnd,
                        left => HeadPart::Chunk(left),
                    };
                    taken
                }
                HeadPart::Head | HeadPart::Size | HeadPart::ChunkEnd | HeadPart::Trailer => {
                    self.in_line(bytes)
                }
                HeadPart::Lost => bytes.len(),
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes bytes of a line; when it is complete, it is looked at.
    fn in_line(&mut self, bytes: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', bytes);
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = self.line.get_mut(self.line_bytes..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(part) {
            *place = *byte;
        }
        self.line_bytes += part.len();
        let Some(end) = end else {
            return bytes.len();
        };
        let (buffer, length) = (self.line, self.line_bytes);
        self.line_bytes = 0;
        let line = buffer.get(..length.min(LINE_BYTES_MAX)).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.place = match self.place {
            HeadPart::Head => self.head_line(line, length > LINE_BYTES_MAX),
            HeadPart::Size => match hexadecimal(line) {
                Some(0) => HeadPart::Trailer,
                Some(size) => HeadPart::Chunk(size),
                None => HeadPart::Lost,
            },
            HeadPart::ChunkEnd => HeadPart::Size,
            HeadPart::Trailer if line.is_empty() => HeadPart::Head,
            HeadPart::Trailer | HeadPart::Body(_) | HeadPart::Chunk(_) | HeadPart::Lost => {
                self.place
            }
        };
        end + 1
    }

    fn head_line(&mut self, line: &[u8], is_cut: bool) -> HeadPart {
        if line.is_empty() {
            return match self.head.begun {
                true => self.end_of_head(),
                // Before a request line they are passed over.
                false => HeadPart::Head,
            };
        }
        if !std::mem::replace(&mut self.head.begun, true) {
            return HeadPart::Head;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = value.filter(|_| !is_cut).and_then(decimal);
            // hyper refuses what is no number, except where it does not look at it.
            self.head.length = Some(length.unwrap_or(u64::MAX));
        }
        HeadPart::Head
    }

    fn end_of_head(&mut self) -> HeadPart {
        self.count += 1;
        let head = std::mem::take(&mut self.head);
        match (head.length, head.chunked) {
            (Some(_), true) => {
                self.doubtful = Some(self.count);
                HeadPart::Lost
            }
            (None, true) => HeadPart::Size,
            (None | Some(0), false) => HeadPart::Head,
            (Some(length), false) => HeadPart::Body(length),
        }
    }
}

/// The digits that a chunk's line begins with. None if there are none, or too many.
fn hexadecimal(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = std::str::from_utf8(line.get(..digits.count())?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn decimal(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// At most what an address space holds.
fn clamp(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const SIZED: &str = "POST / HTTP/1.1\nhost: x\nContent-LENGTH:\t 61 \n\n\
                         POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n.";
    const CHUNKED: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1E;a=\"b\"\r\n\
                           Content-Length: 1\r\n\r\nGET / HTT\r\n0000\r\nContent-Length: 7\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    const TURNED: &str = "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nX: y\r\n\
                          content-length: none\r\n\r\n";

    fn passed(cuts: &[usize], requests: &str) -> Heads {
        let (mut heads, mut rest) = (Heads::new(), requests.as_bytes());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            heads.pass(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        heads
    }

    #[test]
    fn long_lines_and_lengths_that_are_no_numbers_find_nothing() {
        let long = format!(
            "GET /{0} HTTP/1.1\r\n{0}: {0}\r\nHost: x\r\n\r\n",
            "y".repeat(300)
        );
        let heads = passed(&[7], &format!("{long}{BOTH}"));
        assert_eq!((heads.count, heads.doubtful()), (2, Some(2)));
        let wrong = "POST / HTTP/1.1\r\nContent-Length: five\r\n\r\n";
        assert_eq!(passed(&[7], &format!("{wrong}{BOTH}")).doubtful(), None);
        let wrong = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n";
        assert_eq!(passed(&[7], &format!("{wrong}{BOTH}")).doubtful(), None);
    }

    proptest! {
        #[test]
        fn the_request_that_says_both_is_found_behind_any_others(
            before in proptest::collection::vec(0..3usize, 0..12),
            turned in any::<bool>(),
            cuts in proptest::collection::vec(1..90usize, 1..50),
        ) {
            let kinds = [PLAIN, SIZED, CHUNKED];
            let mut requests: String = before.iter().map(|kind| kinds[*kind]).collect();
            let heads = passed(&cuts, &requests);
            prop_assert_eq!((heads.count, heads.doubtful()), (before.len() as u64, None));
            requests.push_str(if turned { TURNED } else { BOTH });
            let heads = passed(&cuts, &requests);
            prop_assert_eq!(heads.doubtful(), Some(before.len() as u64 + 1));
        }
    }
}
