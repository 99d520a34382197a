//! A chat: rooms are groups, nicknames are uids, and both are remembered in the session. The JSON
//! protocol is in `README.md`. The plugin keeps nothing in memory, so any instance may serve any
//! message. It checks everything a client says before it does anything, because a refusal is an
//! answer, and an answer commits what was done before it.

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;

mod protocol;
#[cfg(test)]
mod tests;

use protocol::{FromClient, Room, ToClient, Who};

/// The plugin.
#[derive(Default)]
pub struct Chat;

/// What the chat remembers of a client. No nickname: it has not entered.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    nick: Option<String>,
    room: Option<String>,
}

#[tidegate_sdk::handler]
impl Handler for Chat {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let wish = match FromClient::read(&message) {
            Ok(wish) => wish,
            Err(why) => {
                return client.send_json(&ToClient::Refused {
                    text: &why.to_string(),
                });
            }
        };
        match (wish, present()?) {
            (FromClient::Enter { nick, room }, before) => {
                enter(client, before.as_ref(), nick, Room(room))
            }
            (FromClient::Say { text }, Some((nick, room))) => {
                let who = Who::new(&client, &nick);
                let said = ToClient::Said {
                    who,
                    room: &room.0,
                    text: &text,
                };
                gateway::to_group(&room.group()).send_json(&said)
            }
            (FromClient::Tell { to, text }, Some((nick, _))) => {
                let told = ToClient::Told {
                    who: Who::new(&client, &nick),
                    to: &to,
                    text: &text,
                };
                gateway::to_uids(&[&to, &nick]).send_json(&told)
            }
            (FromClient::Leave, Some((nick, room))) => leave(client, &nick, &room),
            (FromClient::Say { .. } | FromClient::Tell { .. } | FromClient::Leave, None) => client
                .send_json(&ToClient::Refused {
                    text: "choose a nickname and a room first",
                }),
        }
    }

    fn on_close(&mut self, client: Client, _: Closed) -> Result {
        let Some((nick, room)) = present()? else {
            return Ok(());
        };
        let parted = ToClient::Parted {
            who: Who::new(&client, &nick),
            room: &room.0,
        };
        gateway::to_group(&room.group()).send_json(&parted)
    }
}

/// Nickname and room of the client whose event it is, if it has entered.
fn present() -> Result<Option<(String, Room)>> {
    let Remembered { nick, room } = session::load()?;
    Ok(nick.zip(room.map(Room)))
}

fn enter(client: Client, before: Option<&(String, Room)>, nick: String, room: Room) -> Result {
    let who = Who::new(&client, &nick);
    match before {
        Some((old_nick, old_room)) if *old_room == room => {
            if *old_nick != nick {
                let renamed = ToClient::Renamed {
                    who,
                    room: &room.0,
                    was: old_nick,
                };
                gateway::to_group(&room.group()).send_json(&renamed)?;
            }
        }
        Some((old_nick, old_room)) => {
            part(client, old_nick, old_room)?;
            join(client, who, &room)?;
        }
        None => join(client, who, &room)?,
    }
    client.bind_uid(&nick)?;
    client.send_json(&ToClient::Entered { who, room: &room.0 })?;
    session::store(&Remembered {
        nick: Some(nick.clone()),
        room: Some(room.0.clone()),
    })
}

fn leave(client: Client, nick: &str, room: &Room) -> Result {
    part(client, nick, room)?;
    client.unbind_uid()?;
    session::clear()?;
    client.send_json(&ToClient::Left)
}

/// The notice goes to those who were there before.
fn join(client: Client, who: Who<'_>, room: &Room) -> Result {
    let joined = ToClient::Joined { who, room: &room.0 };
    gateway::to_group(&room.group()).send_json(&joined)?;
    client.join(&room.group())
}

/// The notice goes to those who stay.
fn part(client: Client, nick: &str, room: &Room) -> Result {
    client.leave(&room.group())?;
    let parted = ToClient::Parted {
        who: Who::new(&client, nick),
        room: &room.0,
    };
    gateway::to_group(&room.group()).send_json(&parted)
}
