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
  // The first view says what to do, and the keyboard is where that begins.
  assert.equal(await page.evaluate(() => document.activeElement.id), "nick");
  assert.match(await page.innerText("#welcome"), /nickname/);
  assert.ok(await page.isDisabled("#text"));
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

// The contrast of each name with what it stands on (WCAG 2), in this scheme.
async function contrasts(page, colorScheme) {
  await page.emulateMedia({ colorScheme });
  return page.evaluate(() => {
    const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const luminance = (color) => {
      pixel.fillStyle = color;
      pixel.fillRect(0, 0, 1, 1);
      const parts = [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const ground = luminance(getComputedStyle(document.querySelector("#log")).backgroundColor);
    return [...document.querySelectorAll("#log .name")].map((name) => {
      const color = getComputedStyle(name).color;
      const ink = luminance(color);
      const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
      return { name: name.textContent, color, ratio };
    });
  });
}

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
  // Links are links, and nothing else is.
  await says(ben, "see https://example.org/a?b=c. javascript:alert(1) <a href='x'>x</a>");
  await reads(ann, "javascript:alert(1)");
  const links = await ann.page.$$eval("#log a", (all) =>
    all.map((link) => [link.href, link.textContent, link.rel, link.target]),
  );
  assert.deepEqual(links, [
    ["https://example.org/a?b=c", "https://example.org/a?b=c", "noopener noreferrer nofollow", "_blank"],
  ]);
  // Names differ in colour, the same everywhere, and can be read in both schemes.
  for (const scheme of ["light", "dark"]) {
    const names = await contrasts(ann.page, scheme);
    const colors = new Map();
    for (const { name, color, ratio } of names) {
      assert.ok(ratio >= 4.5, `${name} in ${color}: ${ratio}`);
      assert.equal(colors.get(name) ?? color, color, name);
      colors.set(name, color);
    }
    assert.deepEqual([...colors.keys()].sort(), ["ann", "ben"]);
    assert.equal(new Set(colors.values()).size, 2);
  }
  // Tags only where two go by one nickname.
  const tags = () => ann.page.locator(".tag:visible").count();
  assert.equal(await tags(), 0);
  const other = await enter(browsers[1], "ann");
  await isHere(ann, ["ann", "ann", "ben"]);
  assert.ok((await tags()) > 2);
  await other.page.close();
  await isHere(ann, ["ann", "ben"]);
  // A phone: one row each, nothing wider than the screen.
  await ann.page.setViewportSize({ width: 360, height: 640 });
  const tops = await ann.page.$$eval("#door input, #door button, #desk input, #desk button", (all) =>
    all.map((it) => [it.closest("form").id, Math.round(it.getBoundingClientRect().top / 8)].join()),
  );
  assert.equal(new Set(tops).size, 2, tops.join(" "));
  const [wide, screen] = await ann.page.evaluate(() => [
    document.documentElement.scrollWidth,
    window.innerWidth,
  ]);
  assert.ok(wide <= screen, `${wide} of ${screen}`);
  // A reload forgets nothing.
  await ann.page.reload();
  await ann.page.waitForSelector("#text:enabled");
  assert.equal(await ann.page.inputValue("#nick"), "ann");
  assert.equal(await ann.page.inputValue("#room"), "harbour");
  await reads(ann, "You are ann in harbour");
  await isHere(ben, ["ann", "ben"]);
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
