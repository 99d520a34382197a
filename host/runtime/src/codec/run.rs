//! One instance at work: it takes jobs, calls the guest and checks what that returns.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tidegate_wire::event::Message;
use tokio::task::consume_budget;

use super::queue::Waiting;
use super::{CodecFault, CodecInput, CodecJob, CodecOutcome, CodecPart, CodecShared, Decoded};
use crate::bindings::codec::exports::tidegate::plugin::framing;
use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::instance::{Called, CodecInstance, Failure, FailureKind};
use crate::plugin::PluginError;
use crate::version::Version;

/// What of a codec's words is logged.
const LOGGED_BYTES_MAX: usize = 1024;

/// Makes an instance of a version.
pub(super) async fn instance(
    runtime: &Runtime,
    version: &Version,
    number: u32,
    output: &Arc<OutputLog>,
) -> Result<CodecInstance, PluginError> {
    let (plugin, identity) = (&version.plugin, &version.identity);
    CodecInstance::start(runtime, plugin, identity, number, output).await
}

/// A place for one instance, with the task that owns it.
pub(super) struct Seat {
    shared: Arc<CodecShared>,
    number: u32,
    version: Arc<Version>,
    /// Its limit of lines outlives instances.
    output: Arc<OutputLog>,
    /// None before the first job, and after one that broke it.
    instance: Option<CodecInstance>,
}

/// How a call ended that was tried again if that made sense.
enum Tried<T> {
    Done(T),
    Refused(String),
    Broken(String),
}

impl Seat {
    pub(super) fn new(shared: &Arc<CodecShared>, number: u32) -> Self {
        let current = shared.current.lock();
        let version = Arc::clone(&current.unwrap_or_else(PoisonError::into_inner));
        Self {
            shared: Arc::clone(shared),
            number,
            output: version.output(number),
            version,
            instance: None,
        }
    }

    /// Takes jobs until the deployment is stopped.
    pub(super) async fn work(mut self) {
        let (shared, abort) = (Arc::clone(&self.shared), self.shared.abort.clone());
        loop {
            let Some(waiting) = abort.run_until_cancelled(shared.queue.next()).await else {
                return;
            };
            let Waiting { job, tell, place } = waiting;
            shared.meters.job();
            self.follow();
            let Some(outcome) = abort.run_until_cancelled(self.job(job)).await else {
                return;
            };
            if let Some(fault) = &outcome.fault {
                shared.meters.fault(fault);
                self.report(fault);
            }
            // The connection may be gone.
            let _ = tell.send((outcome, place));
            consume_budget().await;
        }
    }

    /// Goes over to the version that serves.
    fn follow(&mut self) {
        let current = self.shared.current.lock();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, &self.version) {
            self.version = Arc::clone(&current);
            self.output = self.version.output(self.number);
            self.instance = None;
        }
    }

    async fn job(&mut self, job: CodecJob) -> CodecOutcome {
        let CodecJob {
            peer,
            state,
            send,
            input,
        } = job;
        let mut outcome = CodecOutcome {
            state,
            ..CodecOutcome::default()
        };
        for part in send {
            let encoded = match part {
                CodecPart::Raw(bytes) => Ok(bytes),
                CodecPart::Message(message) => self.encode(&peer, &mut outcome, &message).await,
            };
            match encoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => outcome.bytes.push(bytes),
                Err(fault) => {
                    outcome.fault = Some(fault);
                    return outcome;
                }
            }
        }
        if let Some(input) = input {
            match self.decode(&peer, &mut outcome.state, input).await {
                Ok(decoded) => outcome.decoded = Some(decoded),
                Err(fault) => outcome.fault = Some(fault),
            }
        }
        outcome
    }

    /// The bytes for a message; none if it is refused.
    async fn encode(
        &mut self,
        peer: &str,
        outcome: &mut CodecOutcome,
        message: &Message,
    ) -> Result<Bytes, CodecFault> {
        let state = outcome.state.clone();
        let connection = || framing::Connection {
            peer,
            state: &state,
        };
        let mut tried = self.ready().await?.encode(connection(), message).await;
        if self.broke(&tried) {
            tried = self.ready().await?.encode(connection(), message).await;
            self.broke(&tried);
        }
        match settled(tried) {
            Tried::Done(encoded) => {
                let (length, max) = (
                    encoded.bytes.len(),
                    self.shared.settings.limits.effect_bytes_max,
                );
                if length > max {
                    let text = format!("it makes {length} bytes of a message, {max} are allowed");
                    self.unsent(outcome, &text);
                    return Ok(Bytes::new());
                }
                self.keep(&mut outcome.state, encoded.state)?;
                Ok(encoded.bytes.into())
            }
            Tried::Refused(text) => {
                self.unsent(outcome, &text);
                Ok(Bytes::new())
            }
            Tried::Broken(reason) => Err(CodecFault::Broken(reason)),
        }
    }

    async fn decode(
        &mut self,
        peer: &str,
        state: &mut Bytes,
        input: CodecInput,
    ) -> Result<Decoded, CodecFault> {
        let CodecInput { mut bytes, ended } = input;
        let kept = state.clone();
        let connection = || framing::Connection { peer, state: &kept };
        let mut tried = self
            .ready()
            .await?
            .decode(connection(), &bytes, ended)
            .await;
        if self.broke(&tried) {
            tried = self
                .ready()
                .await?
                .decode(connection(), &bytes, ended)
                .await;
            self.broke(&tried);
        }
        let decoded = match settled(tried) {
            Tried::Done(decoded) => decoded,
            Tried::Refused(text) => return Err(CodecFault::Refused(text)),
            Tried::Broken(reason) => return Err(CodecFault::Broken(reason)),
        };
        let messages = self.checked(decoded.messages)?;
        let taken = decoded.taken as usize;
        if taken > bytes.len() {
            return Err(CodecFault::Nonsense(format!(
                "it takes {taken} of {} bytes",
                bytes.len()
            )));
        }
        self.keep(state, decoded.state)?;
        bytes.drain(..taken);
        let needs = decoded.needs as usize;
        let is_there = needs <= bytes.len();
        Ok(Decoded {
            messages,
            needs: if is_there { 0 } else { needs },
            // Without progress it would say the same again.
            again: is_there && needs > 0 && taken > 0,
            rest: bytes,
        })
    }

    /// The messages of one call, if they are not too many or too large.
    fn checked(&self, messages: Vec<framing::MessageResult>) -> Result<Vec<Message>, CodecFault> {
        let limits = &self.shared.settings.limits;
        let (count, max) = (messages.len(), limits.effects_max);
        if count > max {
            return Err(CodecFault::Nonsense(format!(
                "it makes {count} messages at once, {max} are allowed"
            )));
        }
        let mut all = 0_usize;
        let mut checked = Vec::with_capacity(count);
        for message in messages {
            let message = match message {
                framing::MessageResult::Text(text) => Message::Text(text.into_bytes().into()),
                framing::MessageResult::Binary(bytes) => Message::Binary(bytes.into()),
            };
            all = all.saturating_add(message.payload().len());
            checked.push(message);
        }
        let max = limits.effect_bytes_max;
        if all > max {
            return Err(CodecFault::Nonsense(format!(
                "its messages have {all} bytes together, {max} are allowed"
            )));
        }
        Ok(checked)
    }

    /// Keeps what the next call gets.
    fn keep(&self, state: &mut Bytes, new: Option<Vec<u8>>) -> Result<(), CodecFault> {
        let Some(new) = new else {
            return Ok(());
        };
        let max = self.shared.settings.state_bytes_max;
        if new.len() > max {
            return Err(CodecFault::Nonsense(format!(
                "it wants to keep {} bytes of a connection, {max} are allowed",
                new.len()
            )));
        }
        *state = new.into();
        Ok(())
    }

    /// The instance, made now if there is none.
    async fn ready(&mut self) -> Result<&mut CodecInstance, CodecFault> {
        if self.instance.is_none() {
            let (runtime, version) = (&self.shared.runtime, &self.version);
            let made = instance(runtime, version, self.number, &self.output).await;
            let made = made.map_err(|error| {
                let reason = error.to_string();
                self.shared.trouble.note(&reason);
                CodecFault::Broken(reason)
            })?;
            self.instance = Some(made);
        }
        let instance = self.instance.as_mut();
        instance.ok_or_else(|| CodecFault::Broken("it has no instance".to_owned()))
    }

    /// Drops an instance that broke, and says whether the call is worth another try.
    fn broke<T>(&mut self, called: &Called<T>) -> bool {
        let Called::Broken(failure) = called else {
            return false;
        };
        self.instance = None;
        self.shared.meters.broke(failure.kind);
        self.report_failure(failure);
        match failure.kind {
            // On a machine that stands still any call runs out of time on the clock.
            FailureKind::Trap | FailureKind::Memory | FailureKind::Exit | FailureKind::Wall => true,
            // What loops once does so again.
            FailureKind::Cpu => false,
        }
    }

    fn report(&self, fault: &CodecFault) {
        let (settings, text) = (&self.shared.settings, fault.to_string());
        let (codec, tenant) = (&*settings.name, &*settings.tenant);
        let shown = text.get(..text.floor_char_boundary(LOGGED_BYTES_MAX));
        let reason = shown.unwrap_or_default();
        match fault {
            CodecFault::Refused(_) => {
                tracing::debug!(
                    codec,
                    tenant,
                    reason,
                    "a client broke the protocol of its codec"
                );
            }
            CodecFault::Broken(_) | CodecFault::Nonsense(_) => {
                if matches!(fault, CodecFault::Nonsense(_)) {
                    self.shared.trouble.note(&text);
                }
                tracing::error!(
                    codec,
                    tenant,
                    version = &*self.version.identity.version,
                    reason,
                    "the codec failed: the connection is closed"
                );
            }
            CodecFault::Stopped => {}
        }
    }

    /// A message is not sent, and nothing else happens.
    fn unsent(&self, outcome: &mut CodecOutcome, text: &str) {
        outcome.unsent += 1;
        self.shared.meters.message_refused();
        let settings = &self.shared.settings;
        tracing::warn!(
            codec = &*settings.name,
            tenant = &*settings.tenant,
            version = &*self.version.identity.version,
            error = text
                .get(..text.floor_char_boundary(LOGGED_BYTES_MAX))
                .unwrap_or_default(),
            "the codec refused a message: it is not sent"
        );
    }

    fn report_failure(&self, failure: &Failure) {
        let settings = &self.shared.settings;
        self.shared.trouble.note(&failure.reason);
        tracing::error!(
            codec = &*settings.name,
            tenant = &*settings.tenant,
            version = &*self.version.identity.version,
            instance = self.number,
            failure = failure.kind.name(),
            reason = failure.reason,
            stderr = failure.stderr,
            backtrace = failure.backtrace,
            "the codec broke; its instance is built anew"
        );
    }
}

fn settled<T>(called: Called<T>) -> Tried<T> {
    match called {
        Called::Done(value) => Tried::Done(value),
        Called::Refused(text) => Tried::Refused(text),
        Called::Broken(failure) => Tried::Broken(failure.reason),
    }
}
