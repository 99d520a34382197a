//! Connect four: two who meet, lose their connections and workers, and end the same game.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Client, Cluster, Outcome, Plugin, Transport, eventually};

use super::{Talker, kill, number, swap, swapped, text};

/// A whole game that nobody wins.
const DRAW: &str = "146660203633536103043506522512202545444111";

/// A player or a watcher, and what the game looked like at last.
struct Seat {
    talker: Talker,
    side: String,
    token: String,
    table: Value,
}

impl Seat {
    /// Asks for an opponent.
    async fn play(door: SocketAddrV4, name: &str) -> Result<Self> {
        let mut talker = Talker::connect(door, "/").await?;
        talker.say(&json!({"type": "play", "name": name})).await?;
        Ok(Self {
            talker,
            side: String::new(),
            token: String::new(),
            table: Value::Null,
        })
    }

    /// Waits until it sits at a table.
    async fn seated(mut self) -> Result<Self> {
        let seated = self.talker.told("seated").await?;
        text(&seated, "side").clone_into(&mut self.side);
        text(&seated, "token").clone_into(&mut self.token);
        self.see(|_| true).await?;
        Ok(self)
    }

    /// Two who meet, the one who begins first.
    async fn pair(door: SocketAddrV4) -> Result<(Self, Self)> {
        let one = Self::play(door, "ann").await?;
        let other = Self::play(door, "bob").await?;
        Self::seated_both(one, other).await
    }

    async fn seated_both(one: Self, other: Self) -> Result<(Self, Self)> {
        let (one, other) = (one.seated().await?, other.seated().await?);
        Ok(match one.side.as_str() {
            "red" => (one, other),
            _ => (other, one),
        })
    }

    async fn watch(door: SocketAddrV4, game: &str) -> Result<Self> {
        let mut talker = Talker::connect(door, "/").await?;
        talker.say(&json!({"type": "watch", "game": game})).await?;
        let mut watcher = Self {
            talker,
            side: String::new(),
            token: String::new(),
            table: Value::Null,
        };
        watcher.see(|_| true).await?;
        Ok(watcher)
    }

    /// Comes back with the token of a player whose connection is gone.
    async fn come_back(door: SocketAddrV4, token: &str) -> Result<Self> {
        let mut talker = Talker::connect(door, "/").await?;
        talker
            .say(&json!({"type": "return", "token": token}))
            .await?;
        let back = Self {
            talker,
            side: String::new(),
            token: String::new(),
            table: Value::Null,
        };
        back.seated().await
    }

    /// Reads until the table is as it should be. What is older than what was seen is no news.
    async fn see(&mut self, right: impl Fn(&Value) -> bool) -> Result<()> {
        loop {
            let table = self.talker.told("table").await?;
            if number(&table, "version") > number(&self.table, "version") {
                self.table = table;
            }
            if right(&self.table) {
                return Ok(());
            }
        }
    }

    /// Reads until so many stones lie, which must be those of the script.
    async fn see_moves(&mut self, count: usize, script: &str) -> Result<()> {
        if text(&self.table, "moves").len() < count {
            self.see(|table| text(table, "moves").len() >= count)
                .await?;
        }
        let moves = text(&self.table, "moves");
        ensure!(script.starts_with(moves), "{moves} of {script}");
        Ok(())
    }

    async fn put(&mut self, round: u32, turn: usize, script: &str) -> Result<()> {
        let column = script.as_bytes().get(turn).map(|digit| digit - b'0');
        self.talker
            .say(&json!({"type": "put", "round": round, "turn": turn, "column": column}))
            .await
    }
}

/// Plays a script from this turn on; all see each of its moves before the next one.
async fn moves(
    players: [&mut Seat; 2],
    watcher: &mut Seat,
    round: u32,
    turns: std::ops::Range<usize>,
    script: &str,
) -> Outcome {
    let [first, second] = players;
    for turn in turns {
        let mover = if turn % 2 == 0 {
            &mut *first
        } else {
            &mut *second
        };
        mover.put(round, turn, script).await?;
        for seat in [&mut *first, &mut *second, &mut *watcher] {
            seat.see_moves(turn + 1, script).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_game_goes_through_a_swap_a_lost_connection_and_a_rematch_to_one_who_never_came_back()
-> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Game.copy_to(folder.path())?;
    let cluster = Cluster::serve()
        .other_plugin_file(&file)
        .plugin_settings("config = { turn-s = 60, grace-s = 2 }")
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let (mut red, mut yellow) = Seat::pair(door).await?;
    let game = text(&red.table, "game").to_owned();
    let mut watcher = Seat::watch(door, &game).await?;
    let script = "0101010";
    moves([&mut red, &mut yellow], &mut watcher, 1, 0..3, script).await?;
    let version = swap(&file)?;
    swapped(&cluster, &["serve"], &version).await?;
    moves([&mut red, &mut yellow], &mut watcher, 1, 3..5, script).await?;
    // The connection is gone without a word, and the game waits.
    let token = yellow.token.clone();
    drop(yellow);
    red.see(|table| table["yellow"]["here"] == false).await?;
    let mut yellow = Seat::come_back(door, &token).await?;
    ensure!(text(&yellow.table, "moves") == "01010", "{}", yellow.table);
    moves([&mut red, &mut yellow], &mut watcher, 1, 5..7, script).await?;
    for seat in [&red, &yellow, &watcher] {
        let end = json!({"winner": "red", "why": "four"});
        ensure!(seat.table["end"] == end, "{}", seat.table);
    }
    for seat in [&mut red, &mut yellow] {
        let again = json!({"type": "again", "round": 1});
        seat.talker.say(&again).await?;
    }
    for seat in [&mut red, &mut yellow, &mut watcher] {
        seat.see(|table| number(table, "round") == 2).await?;
    }
    moves([&mut yellow, &mut red], &mut watcher, 2, 0..2, "33").await?;
    drop(red);
    for seat in [&mut yellow, &mut watcher] {
        seat.see(|table| table["end"] == json!({"winner": "yellow", "why": "gone"}))
            .await?;
    }
    ensure!(yellow.table["yellow"]["wins"] == 1, "{}", yellow.table);
    Ok(())
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_lost_and_a_table_that_both_left_waits_for_them() -> Outcome {
    let cluster = Cluster::serve()
        .other_plugin_file(&Plugin::Game.path()?)
        .plugin_settings("config = { turn-s = 3, grace-s = 15 }")
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let (mut red, yellow) = Seat::pair(door).await?;
    red.put(1, 0, "3").await?;
    red.see_moves(1, "3").await?;
    let tokens = [red.token.clone(), yellow.token.clone()];
    drop((red, yellow));
    let clients = "tidegate_gateway_clients";
    eventually("both are gone", async || {
        let there = cluster.gateway(0)?.metric(clients, "").await?;
        Ok((there == 0.0).then_some(()))
    })
    .await?;
    let mut yellow = Seat::come_back(door, &tokens[1]).await?;
    let mut red = Seat::come_back(door, &tokens[0]).await?;
    ensure!(text(&red.table, "moves") == "3", "{}", red.table);
    for seat in [&mut red, &mut yellow] {
        seat.see(|table| table["end"] == json!({"winner": "red", "why": "time"}))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn promise_3_each_move_of_a_game_counts_once_though_every_worker_is_killed() -> Outcome {
    a_whole_game("router = \"hash\"\nrouter-key = \"session:game\"").await
}

#[tokio::test]
async fn promise_3_it_does_so_if_any_worker_may_have_any_event() -> Outcome {
    a_whole_game("router = \"rand\"").await
}

async fn cluster(router: &str, file: &Path) -> Result<Cluster> {
    Cluster::apart(3, 3)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .settings(&format!("[[tenant]]\n{router}"))
        .other_plugin_file(file)
        .plugin_settings("config = { turn-s = 60, grace-s = 60 }")
        .start()
        .await
}

async fn a_whole_game(router: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Game.copy_to(folder.path())?;
    let mut cluster = cluster(router, &file).await?;
    let doors = doors(&cluster).await?;
    let (one, other) = (
        Seat::play(doors[0], "ann").await?,
        Seat::play(doors[1], "bob").await?,
    );
    kill(&mut cluster, "worker-2").await?;
    let (mut red, mut yellow) = Seat::seated_both(one, other).await?;
    let game = text(&red.table, "game").to_owned();
    let mut watcher = Seat::watch(doors[2], &game).await?;
    let mut from = 0;
    for (turn, worker) in [(4, "worker-0"), (11, "worker-1"), (18, "worker-2")] {
        moves([&mut red, &mut yellow], &mut watcher, 1, from..turn, DRAW).await?;
        // Under way when the worker dies, whichever has it.
        let mover = if turn % 2 == 0 { &mut red } else { &mut yellow };
        mover.put(1, turn, DRAW).await?;
        kill(&mut cluster, worker).await?;
        for seat in [&mut red, &mut yellow, &mut watcher] {
            seat.see_moves(turn + 1, DRAW).await?;
        }
        from = turn + 1;
    }
    let version = swap(&file)?;
    moves([&mut red, &mut yellow], &mut watcher, 1, from..28, DRAW).await?;
    let workers = ["worker-0", "worker-1", "worker-2"];
    swapped(&cluster, &workers, &version).await?;
    // A connection is lost with a worker, and it does not know whether its last move has counted.
    for (turn, worker) in [(28, "worker-1"), (29, "worker-2")] {
        let (drops, stays) = match turn % 2 {
            0 => (&mut red, &mut yellow),
            _ => (&mut yellow, &mut red),
        };
        drops.put(1, turn, DRAW).await?;
        let token = drops.token.clone();
        kill(&mut cluster, worker).await?;
        *drops = Seat::come_back(doors[2], &token).await?;
        drops.put(1, turn, DRAW).await?;
        for seat in [drops, stays, &mut watcher] {
            seat.see_moves(turn + 1, DRAW).await?;
        }
    }
    moves([&mut red, &mut yellow], &mut watcher, 1, 30..42, DRAW).await?;
    for seat in [&red, &yellow, &watcher] {
        ensure!(text(&seat.table, "moves") == DRAW, "{}", seat.table);
        let end = json!({"winner": null, "why": "full"});
        ensure!(seat.table.get("end") == Some(&end), "{}", seat.table);
    }
    Ok(())
}

#[tokio::test]
async fn a_player_whose_gateway_is_lost_comes_back_through_another_one_or_has_lost() -> Outcome {
    let mut cluster = Cluster::apart(3, 2)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .settings("[register]\nlease-ms = 2000\ngrace-ms = 500")
        .other_plugin_file(&Plugin::Game.path()?)
        .plugin_settings("config = { turn-s = 60, grace-s = 10 }")
        .start()
        .await?;
    let doors = doors(&cluster).await?;
    let one = Seat::play(doors[0], "ann").await?;
    let other = Seat::play(doors[1], "bob").await?;
    let (one, other) = (one.seated().await?, other.seated().await?);
    // Yellow holds the table.
    let (lost, mut red, mut yellow) = match one.side.as_str() {
        "red" => (1, one, other),
        _ => (0, other, one),
    };
    let game = text(&red.table, "game").to_owned();
    let mut watcher = Seat::watch(doors[2], &game).await?;
    moves([&mut red, &mut yellow], &mut watcher, 1, 0..3, DRAW).await?;
    eventually("its custodians know yellow", async || {
        let unguarded = "tidegate_gateway_unguarded_clients";
        let left = cluster.gateway(lost)?.metric(unguarded, "").await?;
        Ok((left == 0.0).then_some(()))
    })
    .await?;
    cluster.gateway_mut(lost)?.kill().await?;
    red.see(|table| table["yellow"]["here"] == false).await?;
    let mut yellow = Seat::come_back(doors[2], &yellow.token).await?;
    moves([&mut red, &mut yellow], &mut watcher, 1, 3..5, DRAW).await?;
    eventually("its custodians know yellow", async || {
        let unguarded = "tidegate_gateway_unguarded_clients";
        let left = cluster.gateway(2)?.metric(unguarded, "").await?;
        Ok((left == 0.0).then_some(()))
    })
    .await?;
    cluster.gateway_mut(2)?.kill().await?;
    red.see(|table| table["end"] == json!({"winner": "red", "why": "gone"}))
        .await
}

#[tokio::test]
async fn many_who_come_at_once_find_one_opponent_each_though_workers_are_killed() -> Outcome {
    let mut cluster = cluster("router = \"rand\"", &Plugin::Game.path()?).await?;
    let doors = doors(&cluster).await?;
    let mut seats = Vec::new();
    for number in 0..40 {
        let door = doors[number % doors.len()];
        seats.push(Seat::play(door, &format!("player-{number}")).await?);
        if number % 10 == 5 {
            kill(&mut cluster, &format!("worker-{}", number % 3)).await?;
        }
    }
    let mut games: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for seat in seats {
        let seat = seat.seated().await?;
        let game = text(&seat.table, "game").to_owned();
        let is_new = games.entry(game).or_default().insert(seat.side.clone());
        ensure!(is_new, "two are {}: {}", seat.side, seat.table);
    }
    let pairs = games.values().all(|sides| sides.len() == 2);
    ensure!(pairs && games.len() == 20, "{games:?}");
    Ok(())
}

/// The addresses of the gateways.
async fn doors(cluster: &Cluster) -> Result<[SocketAddrV4; 3]> {
    let door = |number| cluster.gateway(number)?.listener(Transport::Ws);
    let doors = [door(0)?, door(1)?, door(2)?];
    meshed(&doors).await?;
    Ok(doors)
}

/// Waits until the gateways know each other: those who hold tables are asked for at all of them.
async fn meshed(doors: &[SocketAddrV4]) -> Outcome {
    for door in doors {
        let mut talker = Talker(Client::web_socket(*door, "/").await?);
        eventually("every gateway answers", async || {
            talker.say(&json!({"type": "games"})).await?;
            let games = talker.told("games").await?;
            Ok((games.get("partial") == Some(&json!(false))).then_some(()))
        })
        .await?;
    }
    Ok(())
}
