//! A reader of the live feed: server-sent events as they come over the wire.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Api;
use crate::wait::within;

/// What the kernel keeps for a narrow reader.
const NARROW_BYTES: u32 = 16 << 10;

/// An open feed.
#[derive(Debug)]
pub struct Feed {
    stream: BufReader<TcpStream>,
}

/// One event of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its `event:`.
    pub kind: String,
    /// Its `data:`.
    pub data: Value,
}

impl Feed {
    /// Opens the feed with this query, like `kind=joined&group=red`, and reads its first event,
    /// which tells the coverage: what happens from now on is told.
    ///
    /// # Errors
    /// When it is refused, or its first event is another.
    pub async fn open(api: &Api, query: &str) -> Result<Self> {
        Self::with(TcpSocket::new_v4()?, api, query).await
    }

    /// Opens the feed as one who takes in little at a time.
    ///
    /// # Errors
    /// When it is refused, or its first event is another.
    pub async fn narrow(api: &Api, query: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(NARROW_BYTES)?;
        Self::with(socket, api, query).await
    }

    async fn with(socket: TcpSocket, api: &Api, query: &str) -> Result<Self> {
        // The older version has no chunks: what comes is what was written.
        let head = api.head("GET", &format!("/v1/feed?{query}"), "HTTP/1.0");
        let mut feed = within("the feed opens", async {
            let mut stream = socket.connect(api.address().into()).await?;
            stream.write_all(format!("{head}\r\n").as_bytes()).await?;
            Ok(Self {
                stream: BufReader::new(stream),
            })
        })
        .await?;
        let status = feed.line().await?;
        ensure!(status.contains(" 200 "), "the feed is refused: {status}");
        let mut is_events = false;
        loop {
            let line = feed.line().await?.to_lowercase();
            if line.is_empty() {
                break;
            }
            is_events |= line.starts_with("content-type: text/event-stream");
        }
        ensure!(is_events, "the feed is no event stream");
        let first = feed.next().await?;
        ensure!(first.kind == "coverage", "the first event is {first:?}");
        let whole = first.data == serde_json::json!({"missing": []});
        ensure!(whole, "not all gateways are watched: {}", first.data);
        Ok(feed)
    }

    /// The next event; heartbeats are read over.
    ///
    /// # Errors
    /// When none comes before the deadline, or something that is none.
    pub async fn next(&mut self) -> Result<Told> {
        let (mut kind, mut data) = (None, None);
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some(("", _heartbeat)) => {}
                Some(("event", value)) => kind = Some(value.trim().to_owned()),
                Some(("data", value)) => data = Some(serde_json::from_str(value.trim())?),
                Some(("id" | "retry", _)) => {}
                Some(_) => bail!("{line:?} is no line of an event"),
                None if line.is_empty() => {
                    if let (Some(kind), Some(data)) = (kind.take(), data.take()) {
                        return Ok(Told { kind, data });
                    }
                }
                None => bail!("{line:?} is no line of an event"),
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        let stream = &mut self.stream;
        within("the feed goes on", async {
            let mut line = String::new();
            let read = stream.read_line(&mut line).await?;
            ensure!(read > 0, "the feed has ended");
            line.truncate(line.trim_end().len());
            Ok(line)
        })
        .await
        .context("a line of the feed")
    }
}
