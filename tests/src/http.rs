//! The smallest HTTP client: bytes go out, a response comes back. Tests use it to be rude, too.

use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
