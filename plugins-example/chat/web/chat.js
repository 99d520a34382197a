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

// Nickname and room of this window and of this browser, and whether the window was in the room.
const KEPT = "tidegate-chat";
// What a sentence ends with is no part of a link.
const LINK = /https?:\/\/[^\s<>"]+/gi;
const LINK_END = /[.,;:!?'")\]}]+$/;

const $ = (id) => document.getElementById(id);
const [nick, room, enter, leave, text, send] = ["nick", "room", "enter", "leave", "text", "send"].map($);
const [log, state, where, typing] = ["log", "state", "where", "typing"].map($);
const [members, count, partial] = ["members", "count", "partial"].map($);
const welcome = $("welcome");

let socket = null;
let retries = 0;
// What to be again after a reconnect: the last accepted nickname and room.
let me = null;
// Who is in the room, by `keyOf`; who left since the list was asked for; how many are not listed.
const here = new Map();
let gone = null;
let unlisted = 0;
// Nicknames that two clients had at once: their tags are shown.
const shared = new Set();
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
    keep({ nick, room }, true);
    welcome.hidden = true;
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
    if (me !== null) keep(me, false);
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
    line("said", name(message), ": ", ...linked(message.text));
  },
  told(message) {
    line("told", name(message), ` → ${message.to}: `, ...linked(message.text));
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
      if (!gone?.has(keyOf(member))) settle(member);
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

// A name with the tag that tells it from others of the same name, shown where there are some.
function name({ nick, tag }) {
  const others = [...here.values()].some((it) => it.nick === nick && it.tag !== tag);
  if (others) share(nick);
  const both = document.createElement("span");
  const label = document.createElement("span");
  label.className = "tag";
  label.dataset.nick = nick;
  label.hidden = !shared.has(nick);
  label.textContent = shortTag(tag);
  label.title = "The number of this connection; nobody else can have it.";
  both.append(nameButton(nick, tag), label);
  return both;
}

const shortTag = (tag) => tag.replace(/^0+(?=.)/, "");

// From now on the tags of this nickname are shown, in earlier lines too.
function share(nick) {
  shared.add(nick);
  for (const label of document.querySelectorAll(".tag")) {
    if (label.dataset.nick === nick) label.hidden = false;
  }
}

// The same for one nickname everywhere.
function hueOf(nick) {
  let hash = 0;
  for (const letter of nick) hash = (hash * 31 + letter.codePointAt(0)) % 65_521;
  // Neighbours in the hash are far apart on the wheel.
  return (hash * 137.508) % 360;
}

function nameButton(nick, tag) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "name";
  button.style.setProperty("--hue", hueOf(nick).toFixed(1));
  button.textContent = nick;
  button.title = `Write to ${nick} alone (connection ${shortTag(tag)})`;
  button.onclick = () => {
    text.value = `/msg ${nick} `;
    text.focus();
  };
  return button;
}

function isWeb(address) {
  try {
    return /^https?:$/.test(new URL(address).protocol);
  } catch {
    return false;
  }
}

// A text with its links: text and anchors, never markup.
function linked(words) {
  const parts = [];
  let end = 0;
  for (const match of words.matchAll(LINK)) {
    const address = match[0].replace(LINK_END, "");
    if (!isWeb(address)) continue;
    const link = document.createElement("a");
    link.href = address;
    link.textContent = address;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    parts.push(words.slice(end, match.index), link);
    end = match.index + address.length;
  }
  parts.push(words.slice(end));
  return parts;
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

function settle(member) {
  const others = [...here.values()].some((it) => it.nick === member.nick && it.tag !== member.tag);
  if (others) share(member.nick);
  here.set(keyOf(member), member);
}

function come({ nick, tag }) {
  gone?.delete(keyOf({ nick, tag }));
  settle({ nick, tag });
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
  text.placeholder = allowed ? "Say something, or /msg nick text" : "Enter a room to talk";
  text.disabled = !allowed;
  send.disabled = !allowed;
}

// Storage may be forbidden; then nothing is remembered.
function keep({ nick, room }, inside) {
  try {
    const kept = JSON.stringify({ nick, room, inside });
    sessionStorage.setItem(KEPT, kept);
    if (inside) localStorage.setItem(KEPT, kept);
  } catch {
    return;
  }
}

// Fills the form with what this window, or else this browser, was last; enters again if this window
// was inside.
function remember() {
  try {
    const own = sessionStorage.getItem(KEPT);
    const kept = JSON.parse(own ?? localStorage.getItem(KEPT) ?? "{}");
    if (typeof kept.nick !== "string" || typeof kept.room !== "string") return;
    nick.value = kept.nick;
    room.value = kept.room;
    if (own !== null && kept.inside) me = { nick: kept.nick, room: kept.room };
  } catch {
    return;
  }
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

remember();
nick.focus();
connect();
