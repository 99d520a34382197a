//! The load generator: a WebSocket client that costs little beside any server, so that a figure
//! is the server's. Frames are encoded beforehand with a mask of zeros (each server unmasks them
//! all the same), one read takes what is there, nothing is allocated per message. It checks what
//! it gets: a wrong answer is an error, not a number.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};

/// Bytes read at once; grows for larger messages.
const INPUT_BYTES: usize = 2048;

/// No answer for so long is an error.
const STALLED: Duration = Duration::from_secs(20);

/// Time before the window that is not counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// How many connections are opened at a time.
const OPENING: usize = 64;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// One lean WebSocket connection.
#[derive(Debug)]
pub struct Lean {
    stream: TcpStream,
    input: Vec<u8>,
    filled: Range<usize>,
}

impl Lean {
    /// Connects and upgrades, from this source address if one is given.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(server: SocketAddrV4, source: Option<Ipv4Addr>) -> Result<Self> {
        Self::connect_to(server, source, "/").await
    }

    /// Connects and upgrades with this path and query.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect_to(
        server: SocketAddrV4,
        source: Option<Ipv4Addr>,
        target: &str,
    ) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let mut stream = timeout(STALLED, socket.connect(server.into())).await??;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut lean = Self {
            stream,
            input: Vec::new(),
            filled: 0..0,
        };
        timeout(STALLED, lean.upgraded())
            .await
            .context("no answer to the upgrade")??;
        Ok(lean)
    }

    async fn upgraded(&mut self) -> Result<()> {
        loop {
            let head = self.input.get(self.filled.clone()).unwrap_or_default();
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                ensure!(
                    head.starts_with(b"HTTP/1.1 101"),
                    "refused: {}",
                    String::from_utf8_lossy(head)
                );
                self.filled.start += end + 4;
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Sends encoded frames.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write(&mut self, frames: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frames).await?)
    }

    /// Begins to close as a well-behaved client does.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub async fn close(&mut self) -> Result<()> {
        self.write(&encode_as(CLOSE, &1000_u16.to_be_bytes())).await
    }

    /// The payload of the next message. Answers pings on the way.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn next(&mut self) -> Result<&[u8]> {
        loop {
            if let Some((opcode, payload)) = self.frame()? {
                match opcode {
                    TEXT | BINARY => return self.input.get(payload).context("a lost payload"),
                    PING => {
                        let bytes = self.input.get(payload).context("a lost payload")?;
                        let pong = encode_as(PONG, bytes);
                        self.write(&pong).await?;
                    }
                    CLOSE => bail!("the server closed the connection"),
                    _ => {}
                }
                continue;
            }
            self.fill().await?;
        }
    }

    /// Takes one frame out of the input: its first byte, and where its payload lies.
    fn frame(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        let input = self.input.get(self.filled.clone()).unwrap_or_default();
        let (opcode, head, length) = match *input {
            [opcode, length @ 0..126, ..] => (opcode, 2, usize::from(length)),
            [opcode, 126, a, b, ..] => (opcode, 4, usize::from(u16::from_be_bytes([a, b]))),
            [opcode, 127, a, b, c, d, e, f, g, h, ..] => {
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (opcode, 10, usize::try_from(length)?)
            }
            [_, 128..=255, ..] => bail!("the server masks its frames"),
            _ => return Ok(None),
        };
        if input.len() < head + length {
            return Ok(None);
        }
        let start = self.filled.start + head;
        self.filled.start = start + length;
        Ok(Some((opcode, start..start + length)))
    }

    async fn fill(&mut self) -> Result<()> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.filled.end == self.input.len() {
            // Half a frame at the end of the input moves to its front.
            self.input.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.filled.end == self.input.len() {
            self.input
                .resize((2 * self.input.len()).max(INPUT_BYTES), 0);
        }
        let room = self.input.get_mut(self.filled.end..).unwrap_or_default();
        let read = self.stream.read(room).await?;
        ensure!(read > 0, "the server closed the connection");
        self.filled.end += read;
        Ok(())
    }
}

/// A text frame as a client sends it.
#[must_use]
pub fn encode(payload: &[u8]) -> Vec<u8> {
    encode_as(TEXT, payload)
}

fn encode_as(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Opens many connections, from several source addresses so that ports do not run short.
///
/// # Errors
/// When one is refused.
pub async fn open(server: SocketAddrV4, connections: usize) -> Result<Vec<Lean>> {
    let mut open = Vec::with_capacity(connections);
    let mut opening = JoinSet::new();
    for number in 0..connections {
        let host = u8::try_from(2 + number / 4000 % 200)?;
        opening.spawn(Lean::connect(server, Some(Ipv4Addr::new(127, 0, 0, host))));
        if opening.len() >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            open.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}

/// Round trips per second: each connection sends one message and waits for its answer.
///
/// # Errors
/// When a connection breaks or an answer is wrong.
pub async fn round_trips(
    server: SocketAddrV4,
    connections: usize,
    payload: &[u8],
    window: Duration,
) -> Result<f64> {
    let frame: Rc<[u8]> = encode(&[b"E:", payload].concat()).into();
    let expected: Rc<[u8]> = payload.into();
    let count = Rc::new(Cell::new(0_u64));
    let tasks = LocalSet::new();
    let mut running = JoinSet::new();
    for mut lean in open(server, connections).await? {
        let (frame, expected, count) = (frame.clone(), expected.clone(), count.clone());
        running.spawn_local_on(
            async move {
                loop {
                    lean.write(&frame).await?;
                    ensure!(lean.next().await? == &*expected, "a wrong answer");
                    count.set(count.get() + 1);
                }
            },
            &tasks,
        );
    }
    tasks.run_until(rate(running, &count, window)).await
}

/// Deliveries per second to a group: one member publishes, two broadcasts are under way.
///
/// # Errors
/// When a connection breaks or a delivery is wrong.
pub async fn deliveries(
    server: SocketAddrV4,
    members: usize,
    payload: &[u8],
    window: Duration,
) -> Result<f64> {
    const GROUP: &str = "figures";
    let join = encode(format!("J:{GROUP}").as_bytes());
    let broadcast = encode(&[format!("G:{GROUP}:").as_bytes(), payload].concat());
    let expected: Rc<[u8]> = payload.into();
    let count = Rc::new(Cell::new(0_u64));
    let mut publisher = Lean::connect(server, None).await?;
    let tasks = LocalSet::new();
    let mut running = JoinSet::new();
    let (done, mut next) = tokio::sync::mpsc::channel::<()>(4);
    for mut lean in open(server, members).await? {
        lean.write(&join).await?;
        // The answer to a second command says that the first is done.
        lean.write(&encode(b"E:joined")).await?;
        ensure!(lean.next().await? == b"joined", "a wrong answer");
        let (expected, count, done) = (expected.clone(), count.clone(), done.clone());
        running.spawn_local_on(
            async move {
                loop {
                    ensure!(lean.next().await? == &*expected, "a wrong delivery");
                    count.set(count.get() + 1);
                    if count.get() % members as u64 == 0 {
                        // Whole broadcasts only: never more than two are under way.
                        let _ = done.try_send(());
                    }
                }
            },
            &tasks,
        );
    }
    publisher.write(&broadcast).await?;
    publisher.write(&broadcast).await?;
    running.spawn_local_on(
        async move {
            while next.recv().await.is_some() {
                publisher.write(&broadcast).await?;
            }
            bail!("no member is left")
        },
        &tasks,
    );
    tasks.run_until(rate(running, &count, window)).await
}

/// Counts per second over a window, after a warm-up; the tasks run on until then.
async fn rate(
    mut running: JoinSet<Result<()>>,
    count: &Cell<u64>,
    window: Duration,
) -> Result<f64> {
    let measured = async {
        sleep(WARM_UP).await;
        let (start, before) = (Instant::now(), count.get());
        sleep(window).await;
        let counted = count.get() - before;
        ensure!(counted > 0, "nothing was received for {window:?}");
        Ok(counted as f64 / start.elapsed().as_secs_f64())
    };
    tokio::select! {
        rate = measured => rate,
        ended = running.join_next() => {
            ended.context("no connections")???;
            bail!("a connection has ended")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_encoded_with_each_length_form() {
        assert_eq!(encode(b"hi"), b"\x81\x82\0\0\0\0hi");
        assert_eq!(&encode(&[7; 200])[..4], b"\x81\xfe\0\xc8");
        assert_eq!(
            encode(&[7; 70_000])[..10],
            *b"\x81\xff\0\0\0\0\0\x01\x11\x70"
        );
    }
}
