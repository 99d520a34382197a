// The chat's page: one WebSocket to the address that served it, reconnected with backoff, and the
// JSON protocol of ../README.md. Whatever others wrote is only ever set as text.
"use strict";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15000;
const LINES_MAX = 500;
// Who is typing is told at most so often, and forgotten after a while.
const TYPING_SAY_MS = 2000;
const TYPING_SHOW_MS = 5000;
// After a list of members that may lack some.
const ASK_AGAIN_MS = 5000;

const $ = (id) => document.getElementById(id);
const [nick, room, enter, leave, text, send] = ["nick", "room", "enter", "leave", "text", "send"].map($);
const [log, state, where, typing] = ["log", "state", "where", "typing"].map($);
const [members, count, partial] = ["members", "count", "partial"].map($);

let socket = null;
let retries = 0;
// What to be again after a reconnect: the last accepted nickname and room.
let me = null;
// Who is in the room, by `keyOf`; who left since the list was asked for; how many are not listed.
const here = new Map();
let gone = null;
let unlisted = 0;
// Who is typing, and the timer that forgets it.
const typists = new Map();
let typingSaidAt = 0;
let askAgain = 0;

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
  emptyRoom();
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
    emptyRoom();
    // Asked now, so nobody is missed: who comes or goes from here on is told.
    askWho();
    text.focus();
  },
  left() {
    me = null;
    where.textContent = "chat";
    leave.hidden = true;
    enter.textContent = "Enter";
    allowTalk(false);
    emptyRoom();
    line("notice", "You left.");
  },
  said(message) {
    stopTyping(message);
    line("said", name(message), `: ${message.text}`);
  },
  told(message) {
    line("told", name(message), ` → ${message.to}: ${message.text}`);
  },
  joined(message) {
    come(message);
    line("notice", name(message), " came in.");
  },
  parted(message) {
    leaveRoom(message);
    line("notice", name(message), " left.");
  },
  renamed(message) {
    leaveRoom({ nick: message.was, tag: message.tag });
    come(message);
    line("notice", `${message.was} is now `, name(message), ".");
  },
  members(message) {
    for (const member of message.members) {
      // A notice that somebody left may overtake the list.
      if (!gone?.has(keyOf(member))) here.set(keyOf(member), member);
    }
    gone = null;
    unlisted = Math.max(0, message.count - message.members.length);
    partial.hidden = !message.partial;
    clearTimeout(askAgain);
    if (message.partial) askAgain = setTimeout(askWho, ASK_AGAIN_MS);
    showMembers();
  },
  typing(message) {
    clearTimeout(typists.get(keyOf(message))?.timer);
    const timer = setTimeout(() => stopTyping(message), TYPING_SHOW_MS);
    typists.set(keyOf(message), { nick: message.nick, timer });
    showTyping();
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

// Two clients of one nickname differ by their tags.
const keyOf = ({ nick, tag }) => `${nick} ${tag}`;

function askWho() {
  if (me === null || socket?.readyState !== WebSocket.OPEN) return;
  gone = new Set();
  ask({ type: "who" });
}

function come({ nick, tag }) {
  gone?.delete(keyOf({ nick, tag }));
  here.set(keyOf({ nick, tag }), { nick, tag });
  showMembers();
}

function leaveRoom(who) {
  gone?.add(keyOf(who));
  if (!here.delete(keyOf(who)) && unlisted > 0) unlisted -= 1;
  stopTyping(who);
  showMembers();
}

function emptyRoom() {
  here.clear();
  gone = null;
  unlisted = 0;
  partial.hidden = true;
  clearTimeout(askAgain);
  for (const { timer } of typists.values()) clearTimeout(timer);
  typists.clear();
  showMembers();
  showTyping();
}

function showMembers() {
  const sorted = [...here.values()].sort((a, b) => keyOf(a).localeCompare(keyOf(b)));
  members.replaceChildren(
    ...sorted.map((member) => {
      const item = document.createElement("li");
      item.dataset.nick = member.nick;
      item.append(name(member));
      return item;
    }),
  );
  if (unlisted > 0) {
    const item = document.createElement("li");
    item.textContent = `and ${unlisted} more`;
    members.append(item);
  }
  count.textContent = here.size + unlisted > 0 ? String(here.size + unlisted) : "";
}

function stopTyping(who) {
  clearTimeout(typists.get(keyOf(who))?.timer);
  typists.delete(keyOf(who));
  showTyping();
}

function showTyping() {
  const nicks = [...new Set([...typists.values()].map(({ nick }) => nick))].sort();
  if (nicks.length === 0) typing.textContent = "";
  else if (nicks.length <= 3) {
    typing.textContent = `${nicks.join(", ")} ${nicks.length === 1 ? "is" : "are"} typing…`;
  } else typing.textContent = "Several people are typing…";
}

// A command is nobody's business.
function sayTyping() {
  const now = Date.now();
  const worth = text.value.trim() !== "" && !text.value.startsWith("/");
  if (!worth || me === null || now - typingSaidAt < TYPING_SAY_MS) return;
  if (socket?.readyState !== WebSocket.OPEN) return;
  typingSaidAt = now;
  ask({ type: "typing" });
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
  if (wish !== null && ask(wish)) {
    text.value = "";
    typingSaidAt = 0;
  }
});

text.addEventListener("input", sayTyping);

leave.addEventListener("click", () => ask({ type: "leave" }));

connect();
