//! The callbacks of a plugin. Every one has a default that does nothing, so an author writes
//! only those that the plugin wants.

use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::event::{Closed, HttpRequest, Peer};
use crate::handshake::{Accepted, Verdict};
use crate::http;
use crate::message::Message;
use crate::tasks::{Finished, Task};
use crate::timers::Timer;

/// A plugin: one type, exported with [`#[tidegate_sdk::handler]`](macro@crate::handler).
///
/// One value of the type lives in each instance and sees that instance's events one at a time.
/// What must survive an instance belongs in the [session](crate::session): a trap costs the
/// instance with its memory. An error drops everything that the callback asked for; the text
/// goes to the log. An event may be run again after a loss, but its effects happen once.
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::Gateway;
///
/// struct Greeter {
///     greeting: String,
/// }
///
/// #[tidegate_sdk::handler]
/// impl Handler for Greeter {
///     fn on_start(config: &Config) -> Result<Self> {
///         let greeting = config.get("greeting")?.unwrap_or_else(|| "welcome".to_owned());
///         Ok(Self { greeting })
///     }
///
///     fn on_connect(&mut self, client: Client, peer: Peer, _: Option<HttpRequest>) -> Result {
///         log::info!("{client} came from {}", peer.address);
///         client.send(&self.greeting)
///     }
///
///     fn on_message(&mut self, client: Client, message: Message) -> Result {
///         match message.text()? {
///             "bye" => client.close_with("see you"),
///             other => bail!("unknown command {other:?}, `bye` is expected"),
///         }
///     }
/// }
///
/// # fn main() -> Result {
/// let mut gateway = Gateway::<Greeter>::start_with(r#"{"greeting":"ahoy"}"#)?;
/// let client = gateway.connect()?;
/// assert!(gateway.send(client, "what").is_err());
/// gateway.send(client, "bye")?;
/// assert_eq!(gateway.received(client), [Message::from("ahoy"), Message::from("see you")]);
/// assert!(!gateway.is_connected(client));
/// # Ok(())
/// # }
/// ```
pub trait Handler: Sized + 'static {
    /// Before the first event of an instance. An error refuses this version of the plugin: the
    /// one before it goes on serving. Effects are not permitted here, since no client is asking.
    ///
    /// If you leave it out, the attribute makes one that returns `Self::default()`.
    fn on_start(config: &Config) -> Result<Self>;

    /// Whether somebody may open a WebSocket: asked before its upgrade is answered, where the listener
    /// says so (`sign-in`); see [`handshake`](crate::handshake). Effects are not permitted,
    /// [`directory`](crate::directory) may be asked. An error lets nobody in (500).
    ///
    /// If you leave out both this and [`on_sign_in`](Self::on_sign_in), the component does not export
    /// `handshake-events`.
    fn on_handshake(&mut self, peer: Peer, request: HttpRequest) -> Result<Verdict> {
        let _ = (peer, request);
        Accepted::new().into()
    }

    /// The same for the other transports, with the first message, which is no `on_message`. The body of
    /// a rejection is sent as the last one.
    fn on_sign_in(&mut self, peer: Peer, first: Message) -> Result<Verdict> {
        let _ = (peer, first);
        Accepted::new().into()
    }

    /// The client is there and may be sent to. `request` is given for a WebSocket, whose upgrade
    /// is done.
    fn on_connect(&mut self, client: Client, peer: Peer, request: Option<HttpRequest>) -> Result {
        let _ = (client, peer, request);
        Ok(())
    }

    /// The client sent a message.
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let _ = (client, message);
        Ok(())
    }

    /// Exactly once for every `on_connect`. The last session can be read, but no longer changed.
    fn on_close(&mut self, client: Client, closed: Closed) -> Result {
        let _ = (client, closed);
        Ok(())
    }

    /// A call from outside through the Client API. `name` says what is called; what is returned,
    /// or the error's text, goes to the caller. No client is asking: effects and
    /// [`directory`](crate::directory) work, [`session`](crate::session) does not. An event like
    /// any other: run again after a loss, its effects happen once.
    ///
    /// If you leave it out, the component does not export `request-events`, and callers are told
    /// that the plugin takes no requests.
    ///
    /// ```
    /// use tidegate_sdk::prelude::*;
    /// use tidegate_sdk::testing::Gateway;
    ///
    /// #[derive(Default)]
    /// struct Shop;
    ///
    /// #[tidegate_sdk::handler]
    /// impl Handler for Shop {
    ///     fn on_request(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
    ///         match name {
    ///             "announce" => {
    ///                 gateway::to_group("customers").send(payload)?;
    ///                 let reached = directory::in_group("customers").count()?;
    ///                 Ok(reached.value.to_string().into_bytes())
    ///             }
    ///             other => bail!("unknown request {other:?}, `announce` is expected"),
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut gateway = Gateway::<Shop>::start()?;
    /// assert_eq!(gateway.request("announce", b"sale")?, b"0");
    /// assert!(gateway.request("close", b"").is_err());
    /// # Ok(())
    /// # }
    /// ```
    fn on_request(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
        let _ = payload;
        Err(Error::msg(format_args!(
            "this plugin takes no requests, so not {name:?} either"
        )))
    }

    /// Somebody asks by HTTP at a listener for WebSockets, and it is no upgrade, no health check and no
    /// file of its static folder; see [`http`]. No client is asking: effects and
    /// [`directory`](crate::directory) work, [`session`](crate::session) does not. An event like any other:
    /// run again after a loss, its effects happen once, and before the answer is sent. An error drops them
    /// and answers 500; the text goes to the log.
    ///
    /// If you leave it out, the component does not export `wasi:http/incoming-handler`, and such requests
    /// are told that there is nothing.
    fn on_http(&mut self, peer: Peer, request: http::Request) -> Result<http::Response> {
        let _ = (peer, request);
        http::Response::new(404).into()
    }

    /// A timer has run out; see [`timers`](crate::timers). `client` is given for a client's timer: its
    /// [`client`](crate::client) and [`session`](crate::session) are there then.
    ///
    /// If you leave it out, the component does not export `timer-events`, and timers run out without
    /// a word.
    fn on_timer(&mut self, client: Option<Client>, timer: Timer, payload: Vec<u8>) -> Result {
        let _ = (client, timer, payload);
        Ok(())
    }

    /// Runs a task; see [`tasks`](crate::tasks). `client` is whose event has submitted it; it may be gone.
    /// What was asked for since the last step happens with the end, if that is ok.
    ///
    /// If you leave out both this and [`on_finished`](Self::on_finished), the component does not export
    /// `task-events`.
    fn on_task(&mut self, client: Option<Client>, task: Task, payload: Vec<u8>) -> Result<Vec<u8>> {
        let _ = (client, payload);
        Err(Error::msg(format_args!(
            "this plugin runs no tasks, so not {task} either"
        )))
    }

    /// A task has ended. Comes once, among the other events of the client whose task it was; without
    /// `client` if that is gone, or it was nobody's.
    fn on_finished(&mut self, client: Option<Client>, task: Task, finished: Finished) -> Result {
        let _ = (client, task, finished);
        Ok(())
    }

    /// Half of what may wait for the client (`queue-bytes-max` of its listener) waits: send it less, or
    /// it is closed or misses messages, as its listener says. Once until
    /// [`on_buffer_drain`](Self::on_buffer_drain).
    ///
    /// If you leave out both, the component does not export `buffer-events`.
    ///
    /// ```
    /// use tidegate_sdk::prelude::*;
    /// use tidegate_sdk::testing::Gateway;
    ///
    /// #[derive(Default)]
    /// struct Ticker;
    ///
    /// #[tidegate_sdk::handler]
    /// impl Handler for Ticker {
    ///     fn on_connect(&mut self, client: Client, _: Peer, _: Option<HttpRequest>) -> Result {
    ///         client.join("ticks")
    ///     }
    ///
    ///     fn on_buffer_full(&mut self, client: Client, _: u64) -> Result {
    ///         client.leave("ticks")
    ///     }
    ///
    ///     fn on_buffer_drain(&mut self, client: Client) -> Result {
    ///         client.join("ticks")
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut gateway = Gateway::<Ticker>::start()?;
    /// let client = gateway.connect()?;
    /// gateway.fill_buffer(client, 600_000)?;
    /// assert!(gateway.members("ticks").is_empty());
    /// gateway.drain_buffer(client)?;
    /// assert_eq!(gateway.members("ticks"), [client]);
    /// # Ok(())
    /// # }
    /// ```
    fn on_buffer_full(&mut self, client: Client, queued_bytes: u64) -> Result {
        let _ = (client, queued_bytes);
        Ok(())
    }

    /// Everything that waited for such a client, then and since, is written.
    fn on_buffer_drain(&mut self, client: Client) -> Result {
        let _ = client;
        Ok(())
    }

    /// What another instance has said by [`peers::send`](crate::peers::send). A call of this instance and
    /// of no client: effects and [`directory`](crate::directory) are not permitted, it changes what the
    /// instance remembers. An error goes to the log; the message is not repeated.
    ///
    /// If you leave it out, the component does not export `peer-events`, and what others say passes by.
    fn on_peer_message(&mut self, topic: &str, payload: Vec<u8>) -> Result {
        let _ = (topic, payload);
        Ok(())
    }

    /// What the successor of this instance should know, when a new version takes its place: the last
    /// call before `on_stop`. Effects are not permitted. It has bounds of time and size of its own.
    ///
    /// `save` and [`restore`](Self::restore) come together. If you leave both out, the component
    /// does not export `state`, and every new instance starts empty.
    ///
    /// ```
    /// use tidegate_sdk::prelude::*;
    /// use tidegate_sdk::testing::Gateway;
    ///
    /// #[derive(Default)]
    /// struct Counter {
    ///     messages: u64,
    /// }
    ///
    /// #[tidegate_sdk::handler]
    /// impl Handler for Counter {
    ///     fn on_message(&mut self, client: Client, _: Message) -> Result {
    ///         self.messages += 1;
    ///         client.send(self.messages.to_string())
    ///     }
    ///
    ///     fn save(&mut self) -> Vec<u8> {
    ///         self.messages.to_le_bytes().to_vec()
    ///     }
    ///
    ///     fn restore(&mut self, from_version: &str, state: Vec<u8>) -> Result {
    ///         let Ok(bytes) = state.try_into() else {
    ///             bail!("version {from_version} counted otherwise");
    ///         };
    ///         self.messages = u64::from_le_bytes(bytes);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut gateway = Gateway::<Counter>::start()?;
    /// let client = gateway.connect()?;
    /// gateway.send(client, "")?;
    /// gateway.swap_instance()?;
    /// gateway.send(client, "")?;
    /// assert_eq!(gateway.received(client), [Message::from("1"), Message::from("2")]);
    /// # Ok(())
    /// # }
    /// ```
    fn save(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// After `on_start` and before the first event: what the instance of `from_version`, whose
    /// clients this one takes over, has saved. That may be an older version or, when this one takes
    /// its place again, a newer one: say so in the bytes if their form changes. An error starts
    /// empty, on a fresh instance.
    fn restore(&mut self, from_version: &str, state: Vec<u8>) -> Result {
        let _ = (from_version, state);
        Ok(())
    }

    /// After the last event, before the instance is dropped. Not called after a trap. Effects are
    /// not permitted.
    fn on_stop(&mut self) {}
}
