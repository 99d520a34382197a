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

/// The most members of a room that are listed; the others are only counted.
const MEMBERS_MAX: u32 = 500;

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
        match present()? {
            Some((nick, room)) => inside(client, &nick, &room, wish),
            None => outside(client, wish),
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

/// What somebody asks for who has not entered yet.
fn outside(client: Client, wish: FromClient) -> Result {
    match wish {
        FromClient::Enter { nick, room } => enter(client, None, &nick, &Room(room)),
        FromClient::Say { .. }
        | FromClient::Tell { .. }
        | FromClient::Who
        | FromClient::Typing
        | FromClient::Leave => client.send_json(&ToClient::Refused {
            text: "choose a nickname and a room first",
        }),
    }
}

/// What somebody in a room asks for.
fn inside(client: Client, nick: &str, room: &Room, wish: FromClient) -> Result {
    let who = Who::new(&client, nick);
    match wish {
        FromClient::Enter {
            nick: new,
            room: to,
        } => enter(client, Some((nick, room)), &new, &Room(to)),
        FromClient::Say { text } => {
            let said = ToClient::Said {
                who,
                room: &room.0,
                text: &text,
            };
            gateway::to_group(&room.group()).send_json(&said)
        }
        FromClient::Tell { to, text } => tell(client, nick, &to, &text),
        FromClient::Who => members(client, room),
        FromClient::Typing => {
            // Kept nowhere: who reads it forgets it after some seconds.
            let typing = ToClient::Typing { who, room: &room.0 };
            let group = room.group();
            let others = gateway::to_group(&group).except(&client);
            others.send_json(&typing)
        }
        FromClient::Leave => leave(client, nick, room),
    }
}

/// To all clients of a nickname and the sender's own. An answer that is not sure keeps no message
/// from being sent.
fn tell(client: Client, nick: &str, to: &str, text: &str) -> Result {
    if let Ok(online) = directory::are_uids_online(&[to])
        && online.is_whole()
        && online.value == [false]
    {
        return client.send_json(&ToClient::Refused {
            text: "nobody goes by that nickname",
        });
    }
    let told = ToClient::Told {
        who: Who::new(&client, nick),
        to,
        text,
    };
    gateway::to_uids(&[to, nick]).send_json(&told)
}

/// Who is in a room, on whichever gateway.
fn members(client: Client, room: &Room) -> Result {
    let here = directory::in_group(&room.group());
    let page = here.clone().infos(Fields::UID).limit(MEMBERS_MAX).page()?;
    let listed = page.items.iter();
    let members: Vec<_> = listed
        .filter_map(|info| Some(Who::new(&info.client, info.uid.as_deref()?)))
        .collect();
    let (count, whole) = if page.next.is_some() {
        let count = here.count()?;
        (count.value, count.is_whole())
    } else {
        (members.len() as u64, true)
    };
    client.send_json(&ToClient::Members {
        room: &room.0,
        members,
        count,
        partial: !(whole && page.is_whole()),
    })
}

/// Nickname and room of the client whose event it is, if it has entered.
fn present() -> Result<Option<(String, Room)>> {
    let Remembered { nick, room } = session::load()?;
    Ok(nick.zip(room.map(Room)))
}

fn enter(client: Client, before: Option<(&str, &Room)>, nick: &str, room: &Room) -> Result {
    let who = Who::new(&client, nick);
    match before {
        Some((old_nick, old_room)) if old_room == room => {
            if old_nick != nick {
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
            join(client, who, room)?;
        }
        None => join(client, who, room)?,
    }
    client.bind_uid(nick)?;
    client.send_json(&ToClient::Entered { who, room: &room.0 })?;
    session::store(&Remembered {
        nick: Some(nick.to_owned()),
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
