// The bench plugin in JavaScript (QuickJS). Its protocol is in ../bench/README.md; the Rust and C
// plugins speak it too. It keeps nothing between events. The contract's `result` is a thrown
// value: a refused call throws an Error with {tag, val} as its payload, a callback fails by
// throwing a string.

import directory from "tidegate:plugin/directory@0.1.0";
import gateway from "tidegate:plugin/gateway@0.1.0";
import peers from "tidegate:plugin/peers@0.1.0";
import session from "tidegate:plugin/session@0.1.0";
import worker from "tidegate:plugin/worker@0.1.0";

const COLON = 0x3a;
const BYE = { tag: "text", val: "bye" };

const text = (val) => ({ tag: "text", val });

// QuickJS has no TextDecoder and no TextEncoder.
function fromUtf8(bytes) {
  let escaped = "";
  for (const byte of bytes) escaped += "%" + byte.toString(16).padStart(2, "0");
  try {
    return decodeURIComponent(escaped);
  } catch {
    throw "the argument is not UTF-8";
  }
}

function toUtf8(string) {
  const bytes = [];
  const escaped = encodeURIComponent(string);
  for (let i = 0; i < escaped.length; i++) {
    const hex = escaped[i] === "%";
    bytes.push(hex ? parseInt(escaped.slice(i + 1, i + 3), 16) : escaped.charCodeAt(i));
    if (hex) i += 2;
  }
  return new Uint8Array(bytes);
}

// What follows the letter and its colon, in the kind in which it came.
class Rest {
  constructor(tag, val) {
    this.tag = tag;
    this.val = val;
  }
  message() {
    return { tag: this.tag, val: this.val };
  }
  text() {
    return this.tag === "text" ? this.val : fromUtf8(this.val);
  }
  bytes() {
    return this.tag === "text" ? toUtf8(this.val) : this.val;
  }
  // A name, and what follows the next colon.
  cut() {
    const at = this.tag === "text" ? this.val.indexOf(":") : this.val.indexOf(COLON);
    if (at < 0) throw "a second colon is expected";
    const name = new Rest(this.tag, this.val.slice(0, at)).text();
    return [name, new Rest(this.tag, this.val.slice(at + 1))];
  }
}

function misbehave(client, how) {
  switch (how) {
    case "trap":
      // A thrown value that is not the contract's `string` cannot be returned: the guest traps.
      throw new Trap();
    case "spin":
      for (;;);
    case "grow": {
      const kept = [];
      // Filled, so that it costs memory and not only addresses.
      try {
        for (;;) kept.push(new Uint8Array(1 << 20).fill(0xa5));
      } catch {
        throw new Trap();
      }
    }
    case "err":
      gateway.sendToAll(text("leak"), []);
      gateway.joinGroup(client, "leak");
      throw "failing on purpose, after a send and a join";
    default:
      throw `unknown command "X:${how}": trap, spin, grow or err is expected`;
  }
}

class Trap {}

function updateSession(rest, deep) {
  const [client, more] = rest.cut();
  const [key, json] = more.cut();
  gateway.updateSession(client, [[key, json.text()]], deep);
}

const commands = {
  E: (client, rest) => gateway.sendToClient(client, rest.message()),
  G: (_, rest) => {
    const [group, payload] = rest.cut();
    gateway.sendToGroups([group], payload.message(), []);
  },
  J: (client, rest) => gateway.joinGroup(client, rest.text()),
  L: (client, rest) => gateway.leaveGroup(client, rest.text()),
  B: (_, rest) => gateway.sendToAll(rest.message(), []),
  U: (client, rest) => gateway.bindUid(client, rest.text()),
  u: (client) => gateway.unbindUid(client),
  P: (_, rest) => {
    const [uid, payload] = rest.cut();
    gateway.sendToUids([uid], payload.message(), []);
  },
  C: (_, rest) => {
    const [to, payload] = rest.cut();
    gateway.sendToClient(to, payload.message());
  },
  Y: (_, rest) => {
    const [topic, payload] = rest.cut();
    peers.send(topic, payload.bytes());
  },
  S: (_, rest) => {
    const [key, json] = rest.cut();
    session.set(key, json.text());
  },
  "?": (client, rest) => gateway.sendToClient(client, text(session.get(rest.text()) ?? "null")),
  T: (_, rest) => updateSession(rest, false),
  M: (_, rest) => updateSession(rest, true),
  I: (client) => gateway.sendToClient(client, text(client)),
  W: (client) => {
    const who = {
      tenant: worker.tenant(),
      worker: worker.workerName(),
      instance: worker.instance(),
      version: worker.pluginVersion(),
      "event-id": worker.eventId(),
      attempt: worker.attempt(),
    };
    gateway.sendToClient(client, text(JSON.stringify(who)));
  },
  O: (client, rest) => gateway.sendToClient(client, text(String(directory.isOnline(rest.text())))),
  "#": (client, rest) => {
    const group = rest.text();
    const of = group === "" ? { tag: "everyone" } : { tag: "groups", val: [group] };
    const { value, coverage } = directory.clientCount([of]);
    gateway.sendToClient(client, text(`${value}${coverage.missing.length > 0 ? "+" : ""}`));
  },
  R: (_, rest) => gateway.closeUid(rest.text(), BYE),
  K: (_, rest) => gateway.closeClient(rest.text(), BYE),
  D: (_, rest) => gateway.destroyClient(rest.text()),
  N: (_, rest) => gateway.ungroup(rest.text()),
  F: (client, rest) =>
    gateway.sendRaw({ tag: "clients", val: [client] }, rest.bytes(), []),
  X: (client, rest) => misbehave(client, rest.text()),
};

// Whatever was thrown, as the text of a failed event.
function failure(thrown) {
  if (typeof thrown === "string" || thrown instanceof Trap) return thrown;
  if (thrown?.payload !== undefined) return failure(thrown.payload);
  return thrown?.tag !== undefined ? `${thrown.tag}: ${thrown.val ?? ""}` : String(thrown);
}

function event(callback) {
  return (...given) => {
    try {
      callback(...given);
    } catch (thrown) {
      throw failure(thrown);
    }
  };
}

export const clientEvents = {
  onConnect: event((client, peer, request) => {
    const hello = request?.query.find(([name]) => name === "hello");
    if (hello !== undefined) gateway.sendToClient(client, text(hello[1]));
  }),

  onMessage: event((client, { tag, val }) => {
    const isText = tag === "text";
    const letter = isText ? val[0] : String.fromCharCode(val[0]);
    const colon = isText ? val[1] === ":" : val[1] === COLON;
    if (!colon || !Object.hasOwn(commands, letter)) {
      throw `unknown command "${letter ?? ""}:"; the bench's README lists them`;
    }
    commands[letter](client, new Rest(tag, isText ? val.slice(2) : val.subarray(2)));
  }),

  onClose: event((client, { reason, uid, groups }) => {
    const k = session.get("k") ?? "null";
    const told = `closed:${client}:${reason}:${uid ?? "-"}:${groups.join(",")}:${k}`;
    gateway.sendToGroups(["watchers"], text(told), []);
  }),
};
