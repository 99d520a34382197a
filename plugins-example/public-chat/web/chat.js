// The page of the chat for strangers: one WebSocket with the token in its query, reconnected with backoff,
// and the JSON protocol of ../README.md. What others wrote is only ever set as text.
"use strict";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15000;
const LINES_MAX = 500;
const TYPING_SAY_MS = 2000;
const TYPING_SHOW_MS = 5000;

const $ = (id) => document.getElementById(id);
const [log, state, here, typing, text] = ["log", "state", "here", "typing", "text"].map($);

let socket = null;
let retries = 0;
// Whether this token has ever opened the door: a page cannot see why a handshake was refused.
let welcome = false;
// Lines that are shown, by their id; answers of the bot that still grow.
const shown = new Set();
const answers = new Map();
const people = new Map();
let typingSaidAt = 0;
let typingTimer = 0;

function connect() {
  show("connecting", "connecting");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const token = encodeURIComponent($("token").value.trim());
  socket = new WebSocket(`${scheme}//${location.host}/?token=${token}`);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (Object.hasOwn(received, message.type)) received[message.type](message);
  };
  socket.onclose = ({ code, reason }) => {
    allowTalk(false);
    answers.clear();
    if (!welcome || code >= 4000) {
      const why = reason || "not let in: is the token right, and not expired?";
      show("offline", "offline");
      line("refused", why);
      return;
    }
    const wait = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** retries) * (0.5 + Math.random() / 2);
    retries += 1;
    show("waiting", "offline, trying again");
    setTimeout(connect, wait);
  };
}

function say(wish) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
}

const received = {
  welcome({ name }) {
    welcome = true;
    retries = 0;
    show("online", `connected as ${name}`);
    say({ type: "join", room: $("room").value.trim() });
  },
  joined({ room }) {
    people.clear();
    allowTalk(true);
    line("notice", `You are in ${room}.`);
    text.focus();
  },
  left() {
    allowTalk(false);
  },
  history({ lines, here: members, partial }) {
    for (const it of lines) received.said(it);
    for (const member of members) people.set(member.uid, member.name);
    showPeople();
    if (partial) line("notice", "Perhaps not all that was said: the room is large, or a gateway does not answer.");
  },
  came({ uid, name }) {
    people.set(uid, name);
    showPeople();
    line("notice", `${name} came in.`);
  },
  went({ uid, name }) {
    people.delete(uid);
    showPeople();
    line("notice", `${name} left.`);
  },
  said({ id, name, text: words, uid }) {
    // A line may be in the history and be told as well.
    if (shown.has(id)) return;
    shown.add(id);
    typing.textContent = "";
    line(uid === "bot" ? "bot" : "said", `${name}: ${words}`);
  },
  piece({ answer, number, text: words }) {
    if (!answers.has(answer)) answers.set(answer, line("bot", number === 0 ? "bot: " : "bot: … "));
    answers.get(answer).append(words);
    log.scrollTop = log.scrollHeight;
  },
  answered({ answer }) {
    answers.delete(answer);
  },
  stopped({ answer, why }) {
    answers.get(answer)?.append(` … (${why})`);
    answers.delete(answer);
  },
  typing({ name }) {
    typing.textContent = `${name} is typing…`;
    clearTimeout(typingTimer);
    typingTimer = setTimeout(() => (typing.textContent = ""), TYPING_SHOW_MS);
  },
  slow(message) {
    line("refused", `Too fast: wait ${(message["wait-ms"] / 1000).toFixed(1)} s.`);
  },
  refused({ text: why }) {
    line("refused", why);
  },
};

function line(kind, words) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const item = document.createElement("li");
  item.dataset.kind = kind;
  item.textContent = words;
  log.append(item);
  while (log.children.length > LINES_MAX) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  return item;
}

function showPeople() {
  here.textContent = people.size > 0 ? `Here: ${[...people.values()].sort().join(", ")}` : "";
}

function allowTalk(allowed) {
  for (const id of ["text", "send", "ask", "stop"]) $(id).disabled = !allowed;
  text.placeholder = allowed ? "Say something" : "Enter a room to talk";
}

function show(key, words) {
  state.dataset.state = key;
  state.textContent = words;
}

function talk(type) {
  if (text.value.trim() === "") return;
  say({ type, text: text.value });
  text.value = "";
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState === WebSocket.OPEN) {
    say({ type: "join", room: $("room").value.trim() });
    return;
  }
  welcome = false;
  connect();
});

$("desk").addEventListener("submit", (event) => {
  event.preventDefault();
  talk("say");
});
$("ask").addEventListener("click", () => talk("ask"));
$("stop").addEventListener("click", () => say({ type: "stop" }));

text.addEventListener("input", () => {
  if (Date.now() - typingSaidAt < TYPING_SAY_MS) return;
  typingSaidAt = Date.now();
  say({ type: "typing" });
});
