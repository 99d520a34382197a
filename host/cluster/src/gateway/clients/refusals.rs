//! Clients for whom a gateway has no room: each is counted, the log says so now and then, and a
//! bounded number at a time is told by HTTP when to come again. Others are closed without a word,
//! which is the only answer that costs a full gateway nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Counter;
use tidegate_watchdog::tolerate;
use tidegate_wire::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long one may take to ask and to take its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How much of a request is read.
const REQUEST_BYTES_MAX: usize = 16 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";
/// When it may come again, in seconds.
const RETRY_AFTER: u32 = 5;
/// How often the log says it.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Those of one listener.
pub(in crate::gateway) struct Refusals {
    listener: Name,
    places: Arc<Semaphore>,
    counted: Counter,
    /// Refused since the log has said so.
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    pub(in crate::gateway) fn new(listener: Name, places: Arc<Semaphore>) -> Self {
        Self {
            listener,
            places,
            counted: metrics::counter!("tidegate_gateway_refused_connections_total"),
            untold: 0,
            told: None,
        }
    }

    /// There is no room for this one, which speaks HTTP or does not.
    pub(in crate::gateway) fn refuse(&mut self, socket: TcpStream, is_http: bool) {
        self.counted.increment(1);
        self.tell();
        if is_http && let Ok(place) = self.places.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let answer = timeout(ANSWER_WITHIN, answer(socket));
                // A client that is gone, or too slow, is not waited for.
                let _ = tolerate(answer).await;
                drop(place);
            });
        }
    }

    fn tell(&mut self) {
        self.untold += 1;
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < TELL_EVERY) {
            return;
        }
        tracing::warn!(listener = %self.listener, refused = self.untold,
            "connections are refused: as many clients are connected as connections-max allows");
        (self.told, self.untold) = (Some(now), 0);
    }
}

/// Reads the request, so that closing the connection does not destroy the answer, and answers.
async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let (mut request, mut searched) = (Vec::new(), 0);
    // However it dribbles in, nothing is searched twice but what may be the begin of the end.
    while memchr::memmem::find(request.get(searched..).unwrap_or_default(), HEAD_END).is_none() {
        searched = request.len().saturating_sub(HEAD_END.len() - 1);
        let read = socket.read_buf(&mut request).await?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let body = "As many clients are connected here as may be: try again later.\n";
    let date = httpdate::fmt_http_date(SystemTime::now());
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER}\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ndate: {date}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    while socket.read_buf(&mut request).await? > 0 && request.len() <= REQUEST_BYTES_MAX {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_however_it_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let mut client = connecting.await.unwrap();
        client.set_nodelay(true).unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let answering = tokio::spawn(answer(served));
        for byte in b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text:?}");
        assert!(text.contains("\r\nretry-after: 5\r\n"), "{text:?}");
        drop(client);
        answering.await.unwrap().unwrap();
    }
}
