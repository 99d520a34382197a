//! One row of HTTP: what is sent, which answers come back, and what they carry.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, bail, ensure};
use tidegate_tests::{Outcome, within};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::{Answer, read_answer};

/// How a row reaches the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Nginx,
    HaProxy,
}

/// What the last answer carries.
#[derive(Clone, Debug)]
pub(super) enum Trait {
    /// A header that contains this.
    Has(&'static str, &'static str),
    /// No such header.
    Lacks(&'static str),
    /// This body.
    Body(&'static str),
    /// A body that contains this.
    Says(&'static str),
    /// No body, whatever its length says.
    NoBody,
    /// The connection ends behind it.
    Closes,
    /// The connection goes on behind it.
    Stays,
}

/// One rule.
pub(super) struct Row {
    pub(super) rule: &'static str,
    pub(super) claim: &'static str,
    sent: Vec<u8>,
    /// For each answer the statuses that are right.
    answers: Vec<&'static [u16]>,
    traits: Vec<Trait>,
    /// Where a proxy answers by itself, how; nothing: the row does not concern what is behind it.
    nginx: Option<&'static [u16]>,
    haproxy: Option<&'static [u16]>,
}

/// The rule, as a sentence, what is sent, and the right statuses.
pub(super) fn row(
    rule: &'static str,
    claim: &'static str,
    sent: impl Into<Vec<u8>>,
    answers: &[&'static [u16]],
) -> Row {
    Row {
        rule,
        claim,
        sent: sent.into(),
        answers: answers.to_vec(),
        traits: Vec::new(),
        nginx: None,
        haproxy: None,
    }
}

impl Row {
    pub(super) fn with(mut self, traits: &[Trait]) -> Self {
        self.traits.extend_from_slice(traits);
        self
    }

    /// nginx answers by itself.
    pub(super) const fn nginx(mut self, statuses: &'static [u16]) -> Self {
        self.nginx = Some(statuses);
        self
    }

    /// HAProxy answers by itself.
    pub(super) const fn haproxy(mut self, statuses: &'static [u16]) -> Self {
        self.haproxy = Some(statuses);
        self
    }

    /// Both answer by themselves.
    pub(super) const fn proxies(self, statuses: &'static [u16]) -> Self {
        self.nginx(statuses).haproxy(statuses)
    }
}

/// Sends a row and looks at what comes back.
pub(super) async fn check(row: &Row, way: Way, address: SocketAddrV4) -> Outcome {
    let by_itself = match way {
        Way::Direct => None,
        Way::Nginx => row.nginx,
        Way::HaProxy => row.haproxy,
    };
    if by_itself.is_some_and(<[u16]>::is_empty) {
        return Ok(());
    }
    let mut stream = TcpStream::connect(address).await?;
    // A server that has read enough may answer and close before it has taken everything.
    let _ = stream.write_all(&row.sent).await;
    let is_head = row.sent.trim_ascii_start().starts_with(b"HEAD ");
    let mut rest = Vec::new();
    if let Some(statuses) = by_itself {
        let answer = read_answer(&mut stream, &mut rest, is_head).await?;
        let status = answer.map(|answer| answer.status);
        ensure!(
            status.is_none_or(|status| statuses.contains(&status)),
            "the proxy answers {status:?}, not {statuses:?}"
        );
        return Ok(());
    }
    let mut last = None;
    for statuses in &row.answers {
        let answer = read_answer(&mut stream, &mut rest, is_head).await?;
        let answer = answer.context("the connection ended without an answer")?;
        ensure!(
            statuses.contains(&answer.status),
            "answered {}, not {statuses:?}: {answer:?}",
            answer.status
        );
        last = Some(answer);
    }
    let last = last.context("a row without answers")?;
    for one in &row.traits {
        carries(&last, one, way, &mut stream, &mut rest).await?;
    }
    Ok(())
}

async fn carries(
    answer: &Answer,
    one: &Trait,
    way: Way,
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
) -> Result<()> {
    match *one {
        // Behind a proxy the connection is the proxy's.
        Trait::Has("connection", _) | Trait::Closes | Trait::Stays if way != Way::Direct => {}
        Trait::Has(name, value) => {
            let found = answer.header(name);
            ensure!(
                found.is_some_and(|found| found.to_lowercase().contains(&value.to_lowercase())),
                "`{name}` is {found:?}, not {value:?}: {answer:?}"
            );
        }
        Trait::Lacks(name) => ensure!(answer.header(name).is_none(), "has `{name}`: {answer:?}"),
        Trait::Body(body) => ensure!(answer.body == body.as_bytes(), "{answer:?}"),
        Trait::Says(part) => {
            let body = String::from_utf8_lossy(&answer.body);
            ensure!(body.contains(part), "does not say {part:?}: {answer:?}");
        }
        Trait::NoBody => ensure!(answer.body.is_empty(), "{answer:?}"),
        Trait::Closes => {
            let more = within("the connection ends", read_answer(stream, rest, false)).await?;
            ensure!(more.is_none(), "goes on with {more:?}");
        }
        Trait::Stays => {
            let again = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(again).await?;
            match read_answer(stream, rest, false).await? {
                Some(answer) if answer.status == 200 => {}
                other => bail!("the connection does not go on: {other:?}"),
            }
        }
    }
    Ok(())
}
