//! The client: one gateway's URL, one token, a pool of connections.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Longer than the gateway takes to give a partial answer.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);

/// A way to a gateway for one tenant. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
    pub(crate) deadline: Duration,
    /// When calls have ended, whatever their own deadlines are.
    pub(crate) ends: Option<Instant>,
    pub(crate) retries: bool,
    pub(crate) patient: bool,
    pub(crate) keys: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// With defaults. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Result<Self, Error> {
        Self::builder(base).token(token).build()
    }

    /// To choose more than URL and token.
    pub fn builder(base: impl Into<String>) -> Builder {
        Builder {
            base: base.into(),
            token: String::new(),
            deadline: DEADLINE,
            retries: true,
            patient: true,
            keys: true,
        }
    }

    /// The same client for work of several calls: from now on they all end within this time, each with
    /// its repetitions and within its own deadline.
    #[must_use]
    pub fn ending_within(&self, within: Duration) -> Self {
        Self {
            ends: Some(Instant::now() + within),
            ..self.clone()
        }
    }

    /// The gateway's URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// What a client may be told.
#[derive(Clone)]
pub struct Builder {
    base: String,
    token: String,
    deadline: Duration,
    retries: bool,
    patient: bool,
    keys: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builder({})", self.base)
    }
}

impl Builder {
    /// The token; it decides the tenant.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// How long each call may take, with its repetitions; 10 s by default. Commands and requests
    /// add it to the time that they are given.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether calls that failed are made again if that is safe; by default they are.
    #[must_use]
    pub const fn retries(mut self, retries: bool) -> Self {
        self.retries = retries;
        self
    }

    /// Whether a gateway that cannot be connected to is tried again; by default it is, until the
    /// deadline. A person rather sees the reason at once.
    #[must_use]
    pub const fn patient(mut self, patient: bool) -> Self {
        self.patient = patient;
        self
    }

    /// Whether actions without a key of the caller get one of their own; by default they do, and are
    /// repeated without being done twice. Each key is kept by one gateway of the cluster, any of them:
    /// while that one is silent the action fails, whomever it concerns. Without keys an action needs
    /// the gateway that is asked and those of the clients alone, and is repeated only if it was not
    /// taken.
    #[must_use]
    pub const fn keys(mut self, keys: bool) -> Self {
        self.keys = keys;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is none, there is no token, or the token cannot stand in a header.
    pub fn build(self) -> Result<Client, Error> {
        let base = self.base.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base).map_err(|error| {
            let like = "one like http://127.0.0.1:7280 is right";
            Error::Setting(format!("{base:?} is not a URL: {error}; {like}"))
        })?;
        let tls = cfg!(feature = "tls");
        if !(url.scheme() == "http" || (tls && url.scheme() == "https")) {
            let wanted = if tls { "http or https" } else { "http" };
            return Err(Error::Setting(format!(
                "{base:?} has the scheme {:?}, {wanted} is right",
                url.scheme()
            )));
        }
        if self.token.is_empty() {
            return Err(Error::Setting("the token is empty".to_owned()));
        }
        if !self.token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the token has characters that cannot stand in a header: printable \
                           ASCII without spaces is right";
            return Err(Error::Setting(message.to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none());
        if url.scheme() == "http" || is_loopback(&url) {
            // A proxy of the environment (`http_proxy`, `all_proxy`) would be given the token in
            // clear, and does not know this machine's own ports.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::Setting(format!("no HTTP client: {error}")))?;
        Ok(Client {
            http,
            base,
            token: self.token,
            deadline: self.deadline,
            ends: None,
            retries: self.retries,
            patient: self.patient,
            keys: self.keys,
        })
    }
}

/// Whether a URL leads to this machine.
fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_this_machine_are_known() {
        for (url, loopback) in [
            ("http://127.0.0.1:7280", true),
            ("http://127.8.9.10", true),
            ("https://[::1]:7280/", true),
            ("https://[::ffff:127.0.0.1]/", true),
            ("https://localhost", true),
            ("https://api.localhost:1", true),
            ("https://10.0.0.1", false),
            ("https://localhost.example", false),
            ("https://[2001:db8::1]", false),
        ] {
            let parsed = reqwest::Url::parse(url).expect(url);
            assert_eq!(is_loopback(&parsed), loopback, "{url}");
        }
    }
}
