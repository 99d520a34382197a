//! How processes find each other: dialling, listening, accepting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tidegate_link::net::stream::{Connect, Connecting, Duplex, Listen};
use tokio::time::{sleep, sleep_until};

use super::clock::Clock;
use super::stream::Stream;
use super::{Host, Net, STEP_MS};

/// How one process reaches others.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(super) net: Arc<Net>,
    pub(super) host: Host,
    pub(super) clock: Clock,
}

impl Connect for Dialer {
    fn connect(&self, to: SocketAddr) -> Connecting {
        let (net, host, clock) = (self.net.clone(), self.host, self.clock.clone());
        Box::pin(async move {
            let step = Duration::from_millis(STEP_MS);
            sleep(step).await;
            loop {
                let listener = net.state().listeners.get(&to).map(|it| it.host);
                match listener {
                    None => return Err(io::ErrorKind::ConnectionRefused.into()),
                    Some(there) if net.state().is_blocked(host, there) => sleep(step).await,
                    Some(_) => break,
                }
            }
            let made = net.state().connect(host, to, clock.now_ms());
            let (number, waker) = made.ok_or(io::ErrorKind::ConnectionRefused)?;
            waker.into_iter().for_each(Waker::wake);
            let stream = Stream::new(net, number, 0, clock);
            sleep(step * 2).await;
            let stream: Box<dyn Duplex> = Box::new(stream);
            Ok(stream)
        })
    }
}

/// Where others reach one process.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) net: Arc<Net>,
    pub(super) address: SocketAddr,
    pub(super) clock: Clock,
}

impl Listen for Socket {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            let due = std::future::poll_fn(|cx| {
                let mut state = self.net.state();
                match state.listeners.get_mut(&self.address) {
                    None => Poll::Ready(None),
                    Some(listener) => match listener.incoming.front() {
                        Some(next) => Poll::Ready(Some(*next)),
                        None => {
                            listener.waker = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    },
                }
            });
            let Some((at, number)) = due.await else {
                std::future::pending::<()>().await;
                continue;
            };
            // Nothing is taken before an await, so that a cancelled call loses nothing.
            if self.clock.now_ms() < at {
                sleep_until(self.clock.instant(at)).await;
            }
            let mut state = self.net.state();
            if let Some(listener) = state.listeners.get_mut(&self.address) {
                listener.incoming.pop_front();
            }
            drop(state);
            let stream = Stream::new(self.net.clone(), number, 1, self.clock.clone());
            return Ok((stream, self.address));
        }
    }
}
