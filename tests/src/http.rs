//! The smallest HTTP client: bytes go out, a response comes back. Tests use it to be rude, too.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::wait::within;

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// `GET target`.
///
/// # Errors
/// When nobody listens or no response comes.
pub async fn get(address: SocketAddrV4, target: &str) -> Result<Response> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes()).await
}

/// Sends these bytes and reads a response until the other end closes.
///
/// # Errors
/// When nobody listens or no response comes.
pub async fn exchange(address: SocketAddrV4, request: &[u8]) -> Result<Response> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        // A server that has read enough may answer and close before it has taken everything.
        let written = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        if bytes.is_empty() {
            written?;
            read?;
        }
        parse(&bytes)
    };
    within(&format!("{address} answers an HTTP request"), answered).await
}

fn parse(bytes: &[u8]) -> Result<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("not an HTTP response: {text:?}"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status in {head:?}"))?;
    Ok(Response {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// A connection that is kept for several requests.
pub struct Kept {
    stream: BufReader<TcpStream>,
}

impl Kept {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddrV4) -> Result<Self> {
        let stream = BufReader::new(TcpStream::connect(address).await?);
        Ok(Self { stream })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The next response; only its head if it answers `HEAD`.
    ///
    /// # Errors
    /// When none comes, or one that does not say its length.
    pub async fn response(&mut self, is_head: bool) -> Result<Response> {
        let mut head = String::new();
        let stream = &mut self.stream;
        let read = async {
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await? == 0 {
                    bail!("the connection ended behind {head:?}");
                }
            }
            let mut response = parse(head.as_bytes())?;
            let length = response.header("content-length");
            let length: usize = length.unwrap_or("0").parse()?;
            if !is_head {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                response.body = String::from_utf8_lossy(&body).into_owned();
            }
            Ok(response)
        };
        within("an HTTP response", read).await
    }
}

impl Response {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
