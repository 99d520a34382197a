// The chat's page: one WebSocket to the address that served it, reconnected with backoff, and the
// JSON protocol of ../README.md. Whatever others wrote is only ever set as text.
"use strict";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15000;
const LINES_MAX = 500;
const SEEN_MAX = 20;

const $ = (id) => document.getElementById(id);
const [nick, room, enter, leave, text, send] = ["nick", "room", "enter", "leave", "text", "send"].map($);
const [log, seen, state, where] = ["log", "seen", "state", "where"].map($);

let socket = null;
let retries = 0;
// What to be again after a reconnect: the last accepted nickname and room.
let me = null;

function connect() {
  showState("connecting", "connecting");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/`);
  socket.onopen = () => {
    retries = 0;
    showState("online", "connected");
    if (me !== null) ask({ type: "enter", nick: me.nick, room: me.room });
  };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") receive(JSON.parse(data));
  };
  socket.onclose = retry;
}

// Backoff with jitter, so that a gateway that comes back is not met by everybody at once.
function retry() {
  allowTalk(false);
  const longest = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** retries);
  retries += 1;
  const wait = longest * (0.5 + Math.random() / 2);
  showState("waiting", `offline, trying again in ${Math.ceil(wait / 1000)} s`);
  setTimeout(connect, wait);
}

// Whether it went out; nothing is queued while offline.
function ask(wish) {
  if (socket?.readyState !== WebSocket.OPEN) {
    line("refused", "Not connected: nothing was sent.");
    return false;
  }
  socket.send(JSON.stringify(wish));
  return true;
}

const received = {
  entered({ nick, room, tag }) {
    me = { nick, room, tag };
    where.textContent = `· ${room}`;
    leave.hidden = false;
    enter.textContent = "Change";
    allowTalk(true);
    line("notice", "You are ", name(me), ` in ${room}.`);
    text.focus();
  },
  left() {
    me = null;
    where.textContent = "chat";
    leave.hidden = true;
    enter.textContent = "Enter";
    allowTalk(false);
    line("notice", "You left.");
  },
  said(message) {
    see(message.nick);
    line("said", name(message), `: ${message.text}`);
  },
  told(message) {
    see(message.nick);
    line("told", name(message), ` → ${message.to}: ${message.text}`);
  },
  joined(message) {
    see(message.nick);
    line("notice", name(message), " came in.");
  },
  parted(message) {
    line("notice", name(message), " left.");
  },
  renamed(message) {
    see(message.nick);
    line("notice", `${message.was} is now `, name(message), ".");
  },
  refused(message) {
    line("refused", message.text);
  },
};

function receive(message) {
  if (Object.hasOwn(received, message.type)) received[message.type](message);
}

// A name with the tag that tells it from others of the same name.
function name({ nick, tag }) {
  const both = document.createElement("span");
  const label = document.createElement("span");
  label.className = "tag";
  label.textContent = tag.replace(/^0+(?=.)/, "");
  label.title = "The number of this connection; nobody else can have it.";
  both.append(nameButton(nick), label);
  return both;
}

function nameButton(nick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "name";
  button.textContent = nick;
  button.title = `Write to ${nick} alone`;
  button.onclick = () => {
    text.value = `/msg ${nick} `;
    text.focus();
  };
  return button;
}

function line(kind, ...parts) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const item = document.createElement("li");
  item.dataset.kind = kind;
  const time = document.createElement("time");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  item.append(time, ...parts);
  log.append(item);
  while (log.children.length > LINES_MAX) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// The newest name first.
function see(nick) {
  if (me !== null && nick === me.nick) return;
  for (const item of [...seen.children]) {
    if (item.dataset.nick === nick) item.remove();
  }
  const item = document.createElement("li");
  item.dataset.nick = nick;
  item.append(nameButton(nick));
  seen.prepend(item);
  while (seen.children.length > SEEN_MAX) seen.lastChild.remove();
}

function allowTalk(allowed) {
  text.disabled = !allowed;
  send.disabled = !allowed;
}

function showState(key, words) {
  state.dataset.state = key;
  state.textContent = words;
}

// `/msg nick text`, or plain text for the room.
function wishOf(typed) {
  const [, to, rest] = /^\/msg\s+(\S+)\s+([^]+)$/.exec(typed) ?? [];
  if (to !== undefined) return { type: "tell", to, text: rest };
  if (typed.startsWith("/")) {
    line("refused", "The only command is /msg nick text.");
    return null;
  }
  return { type: "say", text: typed };
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ type: "enter", nick: nick.value.trim(), room: room.value.trim() });
});

$("desk").addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim() === "") return;
  const wish = wishOf(text.value);
  if (wish !== null && ask(wish)) text.value = "";
});

leave.addEventListener("click", () => ask({ type: "leave" }));

connect();
