//! Many clients of one gateway.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::connection::Connection;
use super::gateway::Gateway;

/// Clients that connect, or are answered, at a time.
const AT_A_TIME: usize = 256;
/// No answer for so long is a loss.
const STALLED: Duration = Duration::from_secs(60);
/// Every so many clients a word is said.
const WORD: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Crowd {
    clients: Vec<Member>,
    came: usize,
}

/// One client, and how many messages it has sent and got answered.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: Connection,
    pub(super) sent: u64,
}

impl Member {
    async fn come(gateway: &Gateway, number: usize) -> Result<Self> {
        let mut connection = gateway.connect(number).await?;
        let first = timeout(STALLED, connection.next()).await;
        let first = first.with_context(|| format!("client {number} is not greeted"))??;
        ensure!(first.starts_with(b"id:"), "a wrong first answer");
        Ok(Self {
            connection,
            sent: 0,
        })
    }

    /// Sends a message with this tail and gets its answer.
    async fn say(&mut self, tail: &str) -> Result<()> {
        let text = format!("{}{tail}", self.sent);
        self.connection.send(&text).await?;
        let answer = timeout(STALLED, self.connection.next()).await;
        let answer = answer.context("an answer is lost")??;
        let due = format!("{}:{}", self.sent, self.sent + 1);
        ensure!(
            answer == due.as_bytes(),
            "a wrong answer where {due} was due"
        );
        self.sent += 1;
        Ok(())
    }
}

impl Crowd {
    /// Connects so many clients.
    ///
    /// # Errors
    /// When one is refused.
    pub(super) async fn come(
        &mut self,
        gateway: &Gateway,
        clients: usize,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        for first in (0..clients).step_by(AT_A_TIME) {
            let numbers = first..(first + AT_A_TIME).min(clients);
            let came = try_join_all(numbers.map(|number| Member::come(gateway, number))).await?;
            self.clients.extend(came);
            word(self.clients.len(), clients, "clients have come", say);
        }
        self.came = clients;
        Ok(())
    }

    /// Gives each a session of so many bytes.
    ///
    /// # Errors
    /// When an answer is lost.
    pub(super) async fn fill(&mut self, bytes: usize, say: &mut dyn FnMut(String)) -> Result<()> {
        let (all, mut done) = (self.clients.len(), 0);
        let tail = format!("*{bytes}");
        for some in self.clients.chunks_mut(AT_A_TIME) {
            try_join_all(some.iter_mut().map(|it| it.say(&tail))).await?;
            done += some.len();
            word(done, all, "sessions are set", say);
        }
        Ok(())
    }

    /// Changes so many sessions at least, one after the other by each client. Returns how many.
    ///
    /// # Errors
    /// When an answer is lost.
    pub(super) async fn change(&mut self, changes: usize, bytes: usize) -> Result<usize> {
        let (tail, mut done) = (format!("*{bytes}"), 0);
        while done < changes {
            for some in self.clients.chunks_mut(AT_A_TIME) {
                try_join_all(some.iter_mut().map(|it| it.say(&tail))).await?;
                done += some.len();
            }
        }
        Ok(done)
    }

    /// Takes some of them out, evenly.
    ///
    /// # Errors
    /// When there are not so many.
    pub(super) fn take(&mut self, count: usize) -> Result<Vec<Member>> {
        ensure!(self.clients.len() >= count, "fewer than {count} clients");
        let step = self.clients.len() / count;
        let places = (0..count).rev().map(|nth| nth * step);
        Ok(places
            .map(|place| self.clients.swap_remove(place))
            .collect())
    }

    /// Each is connected and has its session: it gets another answer, in order.
    ///
    /// # Errors
    /// When one is not.
    pub(super) async fn all_are_there(&mut self) -> Result<()> {
        for some in self.clients.chunks_mut(AT_A_TIME) {
            try_join_all(some.iter_mut().map(|it| it.say(""))).await?;
        }
        Ok(())
    }
}

fn word(done: usize, all: usize, what: &str, say: &mut dyn FnMut(String)) {
    if done / WORD != done.saturating_sub(AT_A_TIME) / WORD || done == all {
        say(format!("{done} of {all} {what}"));
    }
}
