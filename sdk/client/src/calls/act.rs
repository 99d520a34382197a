//! Doing. Each call is one commit under an idempotency key of its own, so that it is repeated
//! without being done twice; a client without keys repeats only what was never taken.

use serde::Serialize;

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::types::{
    Action, Batch, Bind, Close, CloseUid, Done, Group, Member, Message, OneClient, Send,
    SessionEntries, SetSession, UpdateSession,
};

fn new_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn one(client: &str) -> OneClient {
    OneClient {
        client: client.to_owned(),
    }
}

fn member(client: &str, group: &str) -> Member {
    Member {
        client: client.to_owned(),
        group: group.to_owned(),
    }
}

impl Client {
    /// Sends a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(&self, send: &Send) -> Result<Done, Error> {
        self.own_commit("/v1/messages", send).await
    }

    /// Sends a message under a key of the caller: with the same key it is sent once, also if this
    /// process ends in between. Gateways remember keys for ten minutes.
    ///
    /// # Errors
    /// See [`Error`]; a conflict if the key was used for something else.
    pub async fn send_with_key(&self, send: &Send, key: &str) -> Result<Done, Error> {
        Call::act("/v1/messages", send, key)?.make(self).await
    }

    /// Ends a task; what it has committed stays. Nothing happens if there is none of this id, so it may be
    /// repeated.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_task(&self, task: &str) -> Result<Done, Error> {
        Call::delete("/v1/tasks").part(task)?.make(self).await
    }

    /// Does several things in one commit, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch(&self, actions: Vec<Action>) -> Result<Done, Error> {
        self.own_commit("/v1/batch", &Batch { actions }).await
    }

    /// The same under a key of the caller.
    ///
    /// # Errors
    /// See [`Error`]; a conflict if the key was used for something else.
    pub async fn batch_with_key(&self, actions: Vec<Action>, key: &str) -> Result<Done, Error> {
        let batch = Batch { actions };
        Call::act("/v1/batch", &batch, key)?.make(self).await
    }

    /// Under a key that nobody else knows, or under none.
    async fn own_commit(&self, path: &str, body: &impl Serialize) -> Result<Done, Error> {
        let call = match self.keys {
            true => Call::act(path, body, &new_key()),
            false => Call::once(path, body),
        };
        call?.make(self).await
    }

    /// A batch of one: names of any kind can stand in a body, not in a URL.
    async fn act(&self, action: Action) -> Result<Done, Error> {
        self.batch(vec![action]).await
    }

    /// Closes a client once its queue and the farewell are written.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn close(&self, client: &str, farewell: Option<Message>) -> Result<Done, Error> {
        let client = client.to_owned();
        self.act(Action::Close(Close {
            client,
            farewell,
            code: None,
            reason: None,
        }))
        .await
    }

    /// Closes a client at once and drops what is queued.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy(&self, client: &str) -> Result<Done, Error> {
        self.act(Action::Destroy(one(client))).await
    }

    /// Closes all clients of a uid. With a close code: an action of a [`batch`](Self::batch).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn close_uid(&self, uid: &str, farewell: Option<Message>) -> Result<Done, Error> {
        let uid = uid.to_owned();
        self.act(Action::CloseUid(CloseUid {
            uid,
            farewell,
            code: None,
            reason: None,
        }))
        .await
    }

    /// Gives a client a uid.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bind(&self, client: &str, uid: &str) -> Result<Done, Error> {
        let (client, uid) = (client.to_owned(), uid.to_owned());
        self.act(Action::Bind(Bind { client, uid })).await
    }

    /// Takes a client's uid away.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unbind(&self, client: &str) -> Result<Done, Error> {
        self.act(Action::Unbind(one(client))).await
    }

    /// Adds a client to a group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join(&self, client: &str, group: &str) -> Result<Done, Error> {
        self.act(Action::Join(member(client, group))).await
    }

    /// Takes a client out of a group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn leave(&self, client: &str, group: &str) -> Result<Done, Error> {
        self.act(Action::Leave(member(client, group))).await
    }

    /// Removes every member of a group; they stay connected.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ungroup(&self, group: &str) -> Result<Done, Error> {
        let group = group.to_owned();
        self.act(Action::Ungroup(Group { group })).await
    }

    /// Replaces a client's session.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_session(&self, client: &str, entries: SessionEntries) -> Result<Done, Error> {
        let client = client.to_owned();
        self.act(Action::SetSession(SetSession { client, entries }))
            .await
    }

    /// Sets some keys of a client's session; `deep` merges objects key by key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_session(
        &self,
        client: &str,
        entries: SessionEntries,
        deep: bool,
    ) -> Result<Done, Error> {
        let update = UpdateSession {
            client: client.to_owned(),
            entries,
            deep,
        };
        self.act(Action::UpdateSession(update)).await
    }

    /// Removes every key of a client's session.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_session(&self, client: &str) -> Result<Done, Error> {
        self.act(Action::DeleteSession(one(client))).await
    }
}
