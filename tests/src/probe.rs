//! A client of the probe plugin, which runs any call of the contract inside an event and answers
//! with its result. What others send meanwhile is kept apart from the answers.

use std::collections::VecDeque;
use std::net::SocketAddrV4;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::{Client, Received, Transport};

/// What a call gave: its value, or the name of its error.
pub type Answer = Result<Value, String>;

/// A client that a probe serves.
#[derive(Debug)]
pub struct Probe {
    client: Client,
    id: String,
    inbox: VecDeque<Received>,
}

impl Probe {
    /// Connects a WebSocket; `query`, like `uid=U&group=G&group=H`, is what it is at once.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(address: SocketAddrV4, query: &str) -> Result<Self> {
        Self::greet(Client::web_socket(address, &format!("/?{query}")).await?).await
    }

    /// Connects over any kind of listener.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn over(transport: Transport, address: SocketAddrV4) -> Result<Self> {
        Self::greet(Client::connect(transport, address).await?).await
    }

    async fn greet(mut client: Client) -> Result<Self> {
        let id = client.text().await.context("the probe tells the id")?;
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(id.len() == 20 && id.chars().all(hex), "{id:?} is no id");
        Ok(Self {
            client,
            id,
            inbox: VecDeque::new(),
        })
    }

    /// Its client id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends a request to the probe without waiting for its answer.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn tell(&mut self, request: &Value) -> Result<()> {
        self.client.send(&request.to_string()).await
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn ask(&mut self, request: &Value) -> Result<Answer> {
        self.tell(request).await?;
        loop {
            let received = self
                .client
                .next()
                .await
                .with_context(|| format!("waiting for the answer to {request}"))?;
            match answer(&received) {
                Some(answer) => return Ok(answer),
                None if matches!(received, Received::Closed(_)) => {
                    bail!("the connection ends before the answer to {request}")
                }
                None => self.inbox.push_back(received),
            }
        }
    }

    /// The next message that is no answer, or the end.
    ///
    /// # Errors
    /// When nothing comes before the deadline.
    pub async fn next(&mut self) -> Result<Received> {
        match self.inbox.pop_front() {
            Some(received) => Ok(received),
            None => self.client.next().await,
        }
    }

    /// The next message that is no answer, as JSON: a text, `{"binary": [bytes]}`, or
    /// `{"closed": code}`.
    ///
    /// # Errors
    /// When nothing comes before the deadline.
    pub async fn heard(&mut self) -> Result<Value> {
        Ok(match self.next().await? {
            Received::Text(text) => json!(text),
            Received::Binary(bytes) => json!({"binary": bytes.to_vec()}),
            Received::Closed(code) => json!({"closed": code}),
        })
    }

    /// Everything that came unasked so far and was not looked at yet. Also a barrier: what this
    /// client sent before has been handled.
    ///
    /// # Errors
    /// When the probe does not answer.
    pub async fn rest(&mut self) -> Result<Value> {
        let asked = self.ask(&json!({"op": "event_id"})).await?;
        ensure!(asked.is_ok(), "event_id: {asked:?}");
        let mut rest = Vec::new();
        while !self.inbox.is_empty() {
            rest.push(self.heard().await?);
        }
        Ok(Value::Array(rest))
    }

    /// Reads until the connection ends; gives what came before that.
    ///
    /// # Errors
    /// When it is still open at the deadline.
    pub async fn last_words(&mut self) -> Result<Value> {
        let mut words = Vec::new();
        loop {
            let heard = self.heard().await?;
            if heard.get("closed").is_some() {
                return Ok(Value::Array(words));
            }
            words.push(heard);
        }
    }

    /// Closes as a well-behaved client does.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub async fn close(self) -> Result<()> {
        self.client.close().await
    }
}

/// The name of an error as the probe and problems write it: what stands before the colon.
#[must_use]
pub fn error_name(text: &str) -> String {
    text.split(':').next().unwrap_or_default().to_owned()
}

fn answer(received: &Received) -> Option<Answer> {
    let Received::Text(text) = received else {
        return None;
    };
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return None;
    };
    if let Some(value) = object.get("ok") {
        return Some(Ok(value.clone()));
    }
    let error = object.get("error")?.as_str()?;
    Some(Err(error_name(error)))
}
