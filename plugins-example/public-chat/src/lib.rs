//! A chat for strangers: a signed token says who comes, each client has a rate, rooms have a history, and
//! a bot answers piece by piece. What is kept stands in sessions; the protocol is in `README.md`.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

mod bot;
mod bucket;
mod protocol;
mod rooms;
#[cfg(test)]
mod tests;
mod token;

use bucket::{Bucket, Rate};
use protocol::{FromClient, ToClient, Who};
use token::{Claims, Denied};

/// The shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;

/// The longest timer is a year.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The plugin.
pub struct PublicChat {
    secrets: Vec<String>,
    rate: Rate,
    pace: Duration,
}

/// The `config` of the plugin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// What tokens are signed with.
    secret: String,
    /// The one before, while tokens of it are still about.
    former_secret: Option<String>,
    #[serde(default = "ten")]
    burst: u32,
    #[serde(default = "two")]
    per_second: u32,
    /// Between two pieces of the bot's answer.
    #[serde(default = "hundred")]
    bot_pace_ms: u64,
}

const fn ten() -> u32 {
    10
}

const fn two() -> u32 {
    2
}

const fn hundred() -> u64 {
    100
}

/// What a session keeps of the token.
#[derive(Serialize, Deserialize)]
struct Member {
    uid: String,
    name: String,
    /// Seconds since 1970.
    until: u64,
}

impl Member {
    fn who(&self) -> Who {
        Who {
            uid: self.uid.clone(),
            name: self.name.clone(),
        }
    }
}

/// What a timer is for; its payload.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    /// The token expires.
    Expiry,
    History,
}

impl Purpose {
    fn bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

#[tidegate_sdk::handler]
impl Handler for PublicChat {
    fn on_start(config: &Config) -> Result<Self> {
        let settings: Settings = config.parse()?;
        let secrets: Vec<String> = [Some(settings.secret), settings.former_secret]
            .into_iter()
            .flatten()
            .collect();
        if secrets.iter().any(|it| it.len() < SECRET_BYTES_MIN) {
            bail!("config.secret is too short: {SECRET_BYTES_MIN} bytes or more are expected");
        }
        let (burst, per_second) = (settings.burst, settings.per_second);
        if !(5..=1000).contains(&burst) || !(1..=1000).contains(&per_second) {
            bail!(
                "config.burst is {burst} and config.per-second {per_second}: 5 to 1000 and 1 to 1000 are expected"
            );
        }
        Ok(Self {
            secrets,
            rate: Rate { burst, per_second },
            pace: Duration::from_millis(settings.bot_pace_ms.min(10_000)),
        })
    }

    fn on_handshake(&mut self, _: Peer, request: HttpRequest) -> Result<Verdict> {
        match self.claims_of(&request) {
            Ok(claims) => {
                let name = claims.name.unwrap_or_else(|| claims.sub.clone());
                let accepted = Accepted::new()
                    .uid(&claims.sub)
                    .session("uid", &claims.sub)?;
                let accepted = accepted.session("name", &name)?;
                accepted.session("until", &claims.exp)?.into()
            }
            Err(denied) => Rejected::new(401)
                .header("www-authenticate", "Bearer error=\"invalid_token\"")
                .header("content-type", "text/plain; charset=utf-8")
                .body(denied.to_string())
                .into(),
        }
    }

    fn on_connect(&mut self, client: Client, _: Peer, _: Option<HttpRequest>) -> Result {
        let Ok(member) = session::load::<Member>() else {
            // Nobody was asked: a listener without `sign-in`, or `accept` while no worker was there.
            let closing = client.closing().code(4401, "a token is expected");
            return closing.close();
        };
        let left = Duration::from_secs(member.until).saturating_sub(now());
        timers::after(left.min(365 * DAY), Purpose::Expiry.bytes()?)?;
        client.send_json(&ToClient::Welcome {
            uid: &member.uid,
            name: &member.name,
            until: member.until,
        })
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let wish = FromClient::read(&message);
        let cost = wish.as_ref().map_or(1, FromClient::cost);
        if !self.may_speak(client, cost)? {
            return Ok(());
        }
        match wish {
            Ok(wish) => act(client, wish),
            Err(text) => client.send_json(&ToClient::Refused { text: &text }),
        }
    }

    fn on_close(&mut self, _: Client, closed: Closed) -> Result {
        let Ok(member) = session::load::<Member>() else {
            return Ok(());
        };
        // Who misbehaves is found in the log.
        let code = client::closed_with()?.map(|frame| frame.code);
        let (uid, address, why) = (&member.uid, client::peer()?.address, closed.reason.name());
        log::info!("{uid} from {address} is gone: {why}, {code:?}");
        let here: rooms::Here = session::load()?;
        let Some(room) = here.room else {
            return Ok(());
        };
        let went = ToClient::Went(member.who());
        gateway::to_group(&rooms::everybody(&room)).send_json(&went)
    }

    fn on_timer(&mut self, client: Option<Client>, _: Timer, payload: Vec<u8>) -> Result {
        match (client, serde_json::from_slice(&payload)?) {
            (Some(client), Purpose::History) => rooms::history(client),
            (Some(client), Purpose::Expiry) => {
                client.closing().code(4401, "the token has expired").close()
            }
            (None, _) => Ok(()),
        }
    }

    fn on_task(&mut self, _: Option<Client>, task: Task, payload: Vec<u8>) -> Result<Vec<u8>> {
        bot::think(&task, &payload, self.pace)
    }

    fn on_finished(&mut self, client: Option<Client>, task: Task, end: Finished) -> Result {
        bot::finished(client, &task, end)
    }

    /// Whoever reads slowly does without what is worth little.
    fn on_buffer_full(&mut self, client: Client, _: u64) -> Result {
        let here: rooms::Here = session::load()?;
        here.room
            .map_or(Ok(()), |room| client.leave(&rooms::quick(&room)))
    }

    fn on_buffer_drain(&mut self, client: Client) -> Result {
        let here: rooms::Here = session::load()?;
        here.room
            .map_or(Ok(()), |room| client.join(&rooms::quick(&room)))
    }
}

impl PublicChat {
    /// Browsers cannot set headers of a WebSocket, so the query will do.
    fn claims_of(&self, request: &HttpRequest) -> Result<Claims, Denied> {
        let header = request.header("authorization");
        let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
        let token = bearer.or_else(|| request.query("token"));
        token::verify(
            token.ok_or(Denied::Missing)?,
            &self.secrets,
            now().as_secs(),
        )
    }

    /// Whether the client's rate lets it speak. Otherwise it is told to wait, and at last closed.
    fn may_speak(&self, client: Client, cost: u32) -> Result<bool> {
        let mut bucket: Bucket = session::get("bucket")?.unwrap_or_default();
        let verdict = bucket.take(now_ms(), cost, self.rate);
        session::set("bucket", &bucket)?;
        match verdict {
            bucket::Verdict::Go => return Ok(true),
            bucket::Verdict::Wait { ms: wait_ms } => {
                client.send_json(&ToClient::Slow { wait_ms })?
            }
            bucket::Verdict::Close => client.closing().code(4429, "too many messages").close()?,
        }
        Ok(false)
    }
}

fn act(client: Client, wish: FromClient) -> Result {
    let member: Member = session::load()?;
    if let FromClient::Join { room } = wish {
        return rooms::join(client, &member, &room);
    }
    let here: rooms::Here = session::load()?;
    let Some(room) = here.room else {
        let text = "join a room first";
        return client.send_json(&ToClient::Refused { text });
    };
    match wish {
        FromClient::Say { text } => rooms::say(client, member.who(), &room, text),
        FromClient::Ask { text } => {
            rooms::say(client, member.who(), &room, text.clone())?;
            bot::ask(client, &room, &member.name, text)
        }
        FromClient::Stop => bot::stop(&room),
        FromClient::Leave => rooms::leave(client, &member),
        FromClient::Typing => {
            // Only the newest is worth something, and only for those who keep up.
            let key = format!("typing:{client}");
            let typing = ToClient::Typing(member.who());
            let group = rooms::quick(&room);
            gateway::to_group(&group)
                .except(&client)
                .latest(&key)
                .send_json(&typing)
        }
        FromClient::Join { .. } => Ok(()),
    }
}

/// Since 1970.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}
