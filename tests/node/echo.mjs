// Speaks the bench protocol with the library `ws`: kinds, sizes, pings, groups, close.
import assert from "node:assert/strict";
import { once } from "node:events";
import { WebSocket } from "ws";

const url = process.argv[2];
setTimeout(() => assert.fail("not within 20 s"), 20_000).unref();

class Client {
  constructor(options) {
    this.socket = new WebSocket(url, options);
    this.received = [];
    this.waiting = [];
    this.socket.on("message", (data, binary) => {
      const message = binary ? data : data.toString();
      const waiting = this.waiting.shift();
      waiting ? waiting(message) : this.received.push(message);
    });
  }
  opened() {
    return once(this.socket, "open");
  }
  next() {
    return this.received.length > 0
      ? Promise.resolve(this.received.shift())
      : new Promise((resolve) => this.waiting.push(resolve));
  }
  ask(message) {
    this.socket.send(message);
    return this.next();
  }
}

const one = new Client();
const two = new Client({ perMessageDeflate: false });
await Promise.all([one.opened(), two.opened()]);

assert.equal(await one.ask("E:Grüße"), "Grüße");
assert.deepEqual(await one.ask(Buffer.from("E:\0ÿ", "latin1")), Buffer.from("\0ÿ", "latin1"));
for (const size of [0, 1, 125, 126, 65_535, 65_536, 500_000]) {
  const payload = "x".repeat(size);
  assert.equal(await two.ask("E:" + payload), payload, `${size} bytes`);
}
one.socket.send("E:in ", { fin: false });
one.socket.send("parts", { fin: true });
assert.equal(await one.next(), "in parts");
one.socket.ping("are you there?");
const [pong] = await once(one.socket, "pong");
assert.equal(pong.toString(), "are you there?");

for (const client of [one, two]) {
  client.socket.send("J:g");
  assert.equal(await client.ask("E:joined"), "joined");
}
one.socket.send("G:g:to both");
assert.equal(await one.next(), "to both");
assert.equal(await two.next(), "to both");

const closed = once(two.socket, "close");
const id = await two.ask("I:");
one.socket.send(`K:${id}`);
assert.equal(await two.next(), "bye");
assert.equal((await closed)[0], 1000);

const closing = once(one.socket, "close");
one.socket.close(1000);
assert.equal((await closing)[0], 1000);
