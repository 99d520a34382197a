//! What a message asks for: steps, and what becomes of the event after them.

use serde_json::{Value, json};
use tidegate_sdk::{Client, Error, Refused, client::ClientIdError};

use crate::arguments::Arguments;
use crate::{asking, doing, own};

/// How the event ends after its steps.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Commit,
    Fail,
    Trap,
}

/// One message, read.
pub(crate) struct Run {
    steps: Steps,
    pub(crate) then: Then,
    pub(crate) quiet: bool,
}

enum Steps {
    One(Value),
    Many(Vec<Value>),
    Wrong(String),
}

impl Run {
    pub(crate) fn read(message: &[u8]) -> Self {
        let mut message: Value = match serde_json::from_slice(message) {
            Ok(message) => message,
            Err(error) => return Self::wrong(format!("the message is not JSON: {error}")),
        };
        let quiet = message.get("quiet") == Some(&Value::Bool(true));
        let then = match message.get("then").and_then(Value::as_str) {
            None | Some("commit") => Then::Commit,
            Some("fail") => Then::Fail,
            Some("trap") => Then::Trap,
            Some(other) => return Self::wrong(format!("then {other:?}: trap or fail is expected")),
        };
        let steps = match message.get_mut("do").map(Value::take) {
            None => Steps::One(message),
            Some(Value::Array(steps)) => Steps::Many(steps),
            Some(_) => return Self::wrong("do: a list of steps is expected".to_owned()),
        };
        Self { steps, then, quiet }
    }

    fn wrong(why: String) -> Self {
        Self {
            steps: Steps::Wrong(why),
            then: Then::Commit,
            quiet: false,
        }
    }

    /// Makes the calls. One that is refused does not keep the others from being made.
    pub(crate) fn answer(&self, client: Option<Client>) -> Value {
        match &self.steps {
            Steps::One(step) => match call(step, client) {
                Ok(value) => json!({ "ok": value }),
                Err(error) => failed(&error),
            },
            Steps::Many(steps) => {
                let results = steps
                    .iter()
                    .map(|step| call(step, client).unwrap_or_else(|error| failed(&error)));
                json!({ "ok": results.collect::<Vec<_>>() })
            }
            Steps::Wrong(why) => json!({ "error": format!("invalid-argument: {why}") }),
        }
    }
}

fn call(step: &Value, client: Option<Client>) -> Result<Value, Error> {
    let arguments = Arguments::new(step, client);
    let op = arguments.text("op")?;
    if let Some(result) = doing::call(op, &arguments) {
        return result;
    }
    if let Some(result) = asking::call(op, &arguments) {
        return result;
    }
    own::call(op, &arguments).unwrap_or_else(|| {
        let why = format!("unknown op {op:?}");
        Err(Refused::InvalidArgument(why).into())
    })
}

fn failed(error: &Error) -> Value {
    json!({ "error": name_of(error) })
}

/// An error by its name in the contract, with its text.
fn name_of(error: &Error) -> String {
    if let Some(refused) = error.refused() {
        return refusal(refused);
    }
    if error.downcast_ref::<ClientIdError>().is_some() {
        return format!("invalid-argument: {error}");
    }
    format!("other: {error}")
}

/// A refusal by its name in the contract, with its text.
pub(crate) fn refusal(refused: &Refused) -> String {
    match refused {
        Refused::InvalidArgument(text) => format!("invalid-argument: {text}"),
        Refused::Offline => "offline".to_owned(),
        Refused::Timeout => "timeout".to_owned(),
        Refused::QuotaExceeded(text) => format!("quota-exceeded: {text}"),
        Refused::NotPermitted(text) => format!("not-permitted: {text}"),
        Refused::Conflict => "conflict".to_owned(),
        Refused::Other(text) => format!("other: {text}"),
    }
}
