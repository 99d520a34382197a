// The game's page: one WebSocket to the address that served it, reconnected with backoff, and the JSON
// protocol of ../README.md. A player that was connected anew takes its seat again by its token, and
// says its last move again: one that has counted does not count twice.
"use strict";

const RETRY_MS_MIN = 300;
const RETRY_MS_MAX = 5000;
const HOVER_MS = 100;
const ROWS = 6;
const COLUMNS = 7;
const KEPT = "tidegate-game";

const $ = (id) => document.getElementById(id);
const [board, news, state, table, door] = ["board", "news", "state", "table", "door"].map($);

let socket = null;
let retries = 0;
let side = null;
let token = sessionStorage.getItem(KEPT);
let watched = null;
let view = null;
// A move that was said and not yet seen.
let said = null;
let hoveredAt = 0;

function connect() {
  show("connecting", "connecting");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/`);
  socket.onopen = () => {
    retries = 0;
    show("online", "connected");
    if (token !== null) say({ type: "return", token });
    else if (watched !== null) say({ type: "watch", game: watched });
    say({ type: "games" });
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (Object.hasOwn(received, message.type)) received[message.type](message);
  };
  socket.onclose = ({ code }) => {
    // Another window has this seat: this one does not take it back.
    if (code === 4001) forget();
    const wait = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** retries) * (0.5 + Math.random() / 2);
    retries += 1;
    show("waiting", "offline, trying again");
    setTimeout(connect, wait);
  };
}

function say(wish) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
}

function keep(value) {
  token = value;
  if (value === null) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, value);
}

function forget() {
  keep(null);
  side = watched = view = said = null;
  table.hidden = true;
  door.hidden = false;
}

const received = {
  waiting() {
    news.textContent = "Waiting…";
    door.hidden = true;
    table.hidden = false;
  },
  seated(message) {
    keep(message.token);
    side = message.side;
    if (said !== null) say(said);
  },
  table(message) {
    const newer = view?.game !== message.game || message.version > view.version;
    if (!newer) return;
    view = message;
    const over = said !== null && (view.round !== said.round || view.moves.length > said.turn);
    if (over) said = null;
    draw();
  },
  hover({ side: whose, column }) {
    for (const button of board.children) {
      button.classList.toggle("pointed", Number(button.dataset.column) === column && whose !== side);
    }
  },
  games({ games, partial }) {
    const items = games.map((game) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.game = game.game;
      button.textContent = `${game.red} and ${game.yellow}, ${game.moves} moves`;
      button.onclick = () => {
        if (token !== null) return;
        watched = game.game;
        say({ type: "watch", game: watched });
      };
      item.append(button);
      return item;
    });
    if (items.length === 0 || partial) {
      const item = document.createElement("li");
      item.textContent = partial ? "Perhaps not all: a gateway does not answer." : "None now.";
      items.push(item);
    }
    $("games").replaceChildren(...items);
  },
  left: forget,
  refused({ text }) {
    news.textContent = text;
    said = null;
    // A token whose game is over.
    if (token !== null && view === null) forget();
  },
};

function draw() {
  door.hidden = true;
  table.hidden = false;
  board.querySelectorAll("i").forEach((place) => place.removeAttribute("data-stone"));
  board.querySelectorAll("[data-last]").forEach((place) => place.removeAttribute("data-last"));
  const heights = Array(COLUMNS).fill(0);
  const other = view.first === "red" ? "yellow" : "red";
  [...view.moves].forEach((digit, turn) => {
    const place = board.children[digit].children[heights[digit]];
    heights[digit] += 1;
    place.dataset.stone = turn % 2 === 0 ? view.first : other;
    if (turn === view.moves.length - 1) place.dataset.last = "true";
  });
  for (const colour of ["red", "yellow"]) {
    const player = view[colour];
    const label = $(colour);
    label.textContent = `${player.name}${colour === side ? " (you)" : ""} · ${player.wins}`;
    label.dataset.here = String(player.here);
    label.dataset.turn = String(view.mover === colour);
  }
  const mine = side !== null && view.mover === side;
  for (const button of board.children) button.disabled = !mine;
  news.textContent = words(mine);
  $("again").hidden = side === null || view.end === null || view[side].again;
  $("resign").hidden = side === null || view.end !== null;
}

function words(mine) {
  if (view.end !== null) {
    const { winner, why } = view.end;
    if (winner === null) return "The board is full: nobody has won.";
    const how = {
      four: "four in a row",
      time: "the other one was too slow",
      gone: "the other one did not come back",
      resigned: "the other one has given up",
    };
    return `${winner === side ? "You win" : `${view[winner].name} wins`}: ${how[why]}.`;
  }
  const away = ["red", "yellow"].find((colour) => !view[colour].here);
  if (away !== undefined) return `${view[away].name} is away; the game waits a while.`;
  return mine ? "Your turn." : `It is ${view[view.mover].name}'s turn.`;
}

for (let column = 0; column < COLUMNS; column += 1) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.column = String(column);
  button.ariaLabel = `Column ${column + 1}`;
  for (let row = 0; row < ROWS; row += 1) button.append(document.createElement("i"));
  button.onclick = () => {
    said = { type: "put", round: view.round, turn: view.moves.length, column };
    say(said);
  };
  button.onpointerenter = () => {
    if (side === null || Date.now() - hoveredAt < HOVER_MS) return;
    hoveredAt = Date.now();
    say({ type: "hover", column });
  };
  board.append(button);
}

function show(key, text) {
  state.dataset.state = key;
  state.textContent = text;
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  say({ type: "play", name: $("name").value.trim() });
});
$("again").addEventListener("click", () => say({ type: "again", round: view.round }));
$("resign").addEventListener("click", () => say({ type: "resign", round: view.round }));
$("leave").addEventListener("click", () => say({ type: "leave" }));
$("look").addEventListener("click", () => say({ type: "games" }));

connect();
