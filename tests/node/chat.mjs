// Two people chat through the page of the chat example, each in a browser context of their own.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const url = process.argv[2];
const folder = await mkdtemp(join(tmpdir(), "tidegate-chromium-"));
const context = (name) =>
  chromium.launchPersistentContext(join(folder, name), {
    executablePath: process.env.CHROMIUM,
    headless: true,
    timeout: 60_000,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });

async function enter(browser, nick) {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  await page.fill("#nick", nick);
  await page.fill("#room", "harbour");
  await page.click("#enter");
  await page.waitForSelector("#text:visible");
  return { page, errors };
}

const says = async (person, text) => {
  await person.page.fill("#text", text);
  await person.page.click("#send");
};

const reads = (person, text) =>
  person.page.waitForFunction(
    (wanted) => document.querySelector("#log").innerText.includes(wanted),
    text,
  );

const isHere = (person, nicks) =>
  person.page.waitForFunction(
    (wanted) => {
      const items = [...document.querySelectorAll("#members li")];
      return items.map((item) => item.dataset.nick).join() === wanted;
    },
    nicks.join(),
  );

const browsers = [];
try {
  browsers.push(await context("ann"), await context("ben"));
  const ann = await enter(browsers[0], "ann");
  const ben = await enter(browsers[1], "ben");
  // Ann sees that Ben came, so both are in the room.
  await reads(ann, "ben");
  await isHere(ann, ["ann", "ben"]);
  await isHere(ben, ["ann", "ben"]);
  assert.equal(await ben.page.innerText("#count"), "2");
  assert.ok(await ben.page.isHidden("#partial"), "one gateway is the whole cluster");
  // Typing is seen by the other, and over when the message is there.
  await ann.page.locator("#text").pressSequentially("ahoy");
  await ben.page.waitForFunction(
    () => document.querySelector("#typing").textContent === "ann is typing…",
  );
  assert.equal(await ann.page.innerText("#typing"), "", "nobody sees oneself typing");
  await says(ann, "ahoy <b>ben</b>");
  await reads(ben, "ahoy <b>ben</b>");
  assert.equal(await ben.page.innerText("#typing"), "", "who has said it still types");
  await says(ben, "ahoy ann");
  await reads(ann, "ahoy ann");
  await says(ann, "/msg ben only for you");
  await reads(ben, "only for you");
  assert.equal(await ben.page.locator("#log b:text('ben')").count(), 0, "text became markup");
  await says(ann, "/msg nobody are you there");
  await reads(ann, "nobody goes by that nickname");
  // Somebody who types and says nothing is forgotten.
  await ben.page.locator("#text").pressSequentially("well");
  const typing = (wanted) =>
    ann.page.waitForFunction(
      (text) => document.querySelector("#typing").textContent === text,
      wanted,
    );
  await typing("ben is typing…");
  await typing("");
  await ben.page.close();
  await reads(ann, "left");
  await isHere(ann, ["ann"]);
  assert.deepEqual([...ann.errors, ...ben.errors], []);
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
  await rm(folder, { recursive: true, force: true });
}
