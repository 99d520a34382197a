//! Whether somebody may become a client: the tenant's handler is asked, within the listener's time.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_wire::effect::Reply;
use tidegate_wire::event::{Arrival, EventKind, Message};
use tidegate_wire::handshake::{Accepted, Rejected, SignIn};
use tidegate_wire::query::RequestError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::connection::home::Home;
use crate::gateway::settings::{ListenerSettings, SignInPolicy};

const UNAVAILABLE: &str = "Nobody can be signed in here at the moment: try again later.";
const SILENT: &str = "Sign in with the first message.";
const FAILED: &str = "Whoever decides who may come has failed.";

/// What the handler says; if it cannot be asked, what the listener's policy says.
pub(in crate::gateway) async fn ask(
    home: &dyn Home,
    listener: &ListenerSettings,
    arrival: Arc<Arrival>,
    said: SignIn,
) -> Result<Accepted, Rejected> {
    let without_handler = || match listener.sign_in {
        SignInPolicy::Off | SignInPolicy::Accept => Ok(Accepted::default()),
        SignInPolicy::Reject => Err(rejected(503, UNAVAILABLE)),
    };
    if !home.is_served(&listener.tenant) {
        return without_handler();
    }
    let kind = EventKind::Handshake { arrival, said };
    let replied = match home.ask_handler(&listener.tenant, kind, listener.sign_in_time) {
        Ok(replied) => match timeout(listener.sign_in_time, replied).await {
            Ok(Ok(replied)) => replied,
            Ok(Err(_gone)) => Err(RequestError::Ending),
            Err(_elapsed) => Err(RequestError::Timeout),
        },
        Err(error) => Err(error),
    };
    match replied {
        Ok(Reply::Accepted(accepted)) => Ok(*accepted),
        Ok(Reply::Rejected(rejected)) => Err(*rejected),
        // A version that does not decide who may come.
        Err(RequestError::Unhandled) => without_handler(),
        Err(RequestError::Timeout | RequestError::Overloaded(_) | RequestError::Ending) => {
            Err(rejected(503, UNAVAILABLE))
        }
        Ok(Reply::Ok(_) | Reply::Failed(_) | Reply::Unhandled | Reply::Http(_))
        | Err(
            RequestError::Failed(_)
            | RequestError::DeadLettered
            | RequestError::Reused
            | RequestError::Forgotten,
        ) => Err(rejected(500, FAILED)),
    }
}

/// A stranger signs in by its first message.
pub(in crate::gateway) async fn introduce(
    home: Rc<dyn Home>,
    connection: Rc<Connection>,
    first: oneshot::Receiver<Message>,
) {
    let listener = &connection.listener;
    let verdict = match timeout(listener.sign_in_time, first).await {
        Ok(Ok(message)) => {
            let (arrival, said) = (connection.arrival().clone(), SignIn::Message(message));
            ask(&*home, listener, arrival, said).await
        }
        // It is gone.
        Ok(Err(_)) => return,
        Err(_elapsed) => Err(rejected(408, SILENT)),
    };
    home.signed_in(&connection, verdict);
}

fn rejected(status: u16, body: &str) -> Rejected {
    let retry = (status == 503).then(|| ("retry-after".to_owned(), "1".to_owned()));
    Rejected {
        status,
        headers: retry.into_iter().collect(),
        body: body.as_bytes().to_vec().into(),
    }
}
