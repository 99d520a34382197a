//! Reading HTTP answers and WebSocket frames from a socket, one at a time.

use anyhow::{Context, Result, ensure};
use tidegate_tests::within;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// One answer.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body: String = String::from_utf8_lossy(&self.body)
            .chars()
            .take(200)
            .collect();
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    fn parse(head: &str) -> Result<Self> {
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self {
            status: status.with_context(|| format!("no status in {head:?}"))?,
            headers,
            body: Vec::new(),
        })
    }
}

/// Reads more bytes; false at the end.
pub(super) async fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<bool> {
    let read = within("something is received", async {
        Ok(stream.read_buf(rest).await.unwrap_or(0))
    });
    Ok(read.await? > 0)
}

/// The next answer that is not 100; none if the connection ends before.
pub(super) async fn read_answer(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    is_head: bool,
) -> Result<Option<Answer>> {
    loop {
        let end = loop {
            match rest.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end,
                None if more(stream, rest).await? => {}
                None if rest.is_empty() => return Ok(None),
                None => {
                    let text = String::from_utf8_lossy(rest).into_owned();
                    anyhow::bail!("half an answer: {text:?}");
                }
            }
        };
        let head: Vec<u8> = rest.drain(..end + 4).collect();
        let mut answer = Answer::parse(&String::from_utf8_lossy(&head))?;
        if answer.status == 100 {
            continue;
        }
        let has_body = !is_head && answer.status >= 200 && !matches!(answer.status, 204 | 304);
        let length = answer.header("content-length").map(str::parse::<usize>);
        if !has_body {
            // Whatever comes behind it is its body, which it must not have.
        } else if answer.header("transfer-encoding").is_some() {
            while !rest.ends_with(b"0\r\n\r\n") && more(stream, rest).await? {}
            answer.body = std::mem::take(rest);
        } else if let Some(length) = length.transpose()? {
            while rest.len() < length {
                ensure!(more(stream, rest).await?, "the body is cut: {answer:?}");
            }
            answer.body = rest.drain(..length).collect();
        } else {
            while more(stream, rest).await? {}
            answer.body = std::mem::take(rest);
        }
        return Ok(Some(answer));
    }
}

/// A frame of a WebSocket, from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) payload: Vec<u8>,
}

/// The next frame; none if the connection ends before.
pub(super) async fn read_frame(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
) -> Result<Option<Frame>> {
    loop {
        let bytes = rest.as_slice();
        let (head, length) = match bytes {
            [_, length @ 0..=125, ..] => (2, usize::from(*length)),
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (10, usize::try_from(length)?)
            }
            [_, 128..=255, ..] => anyhow::bail!("a server's frame is masked"),
            _ => (usize::MAX, 0),
        };
        if let Some(frame) = head.checked_add(length).filter(|end| bytes.len() >= *end) {
            let frame: Vec<u8> = rest.drain(..frame).collect();
            return Ok(Some(Frame {
                first: frame.first().copied().unwrap_or_default(),
                payload: frame.get(head..).unwrap_or_default().to_vec(),
            }));
        }
        if !more(stream, rest).await? {
            return Ok(None);
        }
    }
}
