// Two people play through the page of the game, one of them over a lost connection, and a third watches.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const url = process.argv[2];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  timeout: 60_000,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
});

async function open() {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(30_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  await page.waitForSelector('#state[data-state="online"]');
  return { page, errors };
}

async function play(name) {
  const person = await open();
  await person.page.fill("#name", name);
  await person.page.click("#play");
  return person;
}

const news = (person, words) =>
  person.page.waitForFunction((wanted) => document.querySelector("#news").textContent.includes(wanted), words);

const stones = (person, count) =>
  person.page.waitForFunction(
    (wanted) => document.querySelectorAll("#board [data-stone]").length === wanted,
    count,
  );

const put = (person, column) => person.page.click(`#board [data-column="${column}"]`);

try {
  const people = [await play("ann"), await play("ben")];
  for (const { page } of people) await page.waitForSelector('#red[data-here="true"]');
  const first = await people[0].page.$eval("#board button", (button) => !button.disabled);
  const [red, yellow] = first ? people : people.toReversed();
  await news(red, "Your turn.");
  assert.ok(await yellow.page.isDisabled('#board [data-column="0"]'), "it is not yellow's turn");
  const watcher = await open();
  await watcher.page.click("#games button");
  await put(red, 0);
  await news(yellow, "Your turn.");
  await put(yellow, 1);
  for (const person of [...people, watcher]) await stones(person, 2);
  assert.ok(await watcher.page.isDisabled('#board [data-column="0"]'), "a watcher plays");
  // A page that is loaded anew takes its seat again.
  await yellow.page.reload();
  await stones(yellow, 2);
  await news(red, "Your turn.");
  for (const [person, column] of [[red, 0], [yellow, 1], [red, 0], [yellow, 1], [red, 0]]) {
    await news(person, "Your turn.");
    await put(person, column);
  }
  await news(red, "You win: four in a row.");
  await news(yellow, "wins: four in a row.");
  await stones(watcher, 7);
  for (const { page } of people) await page.click("#again");
  for (const person of [...people, watcher]) await stones(person, 0);
  await news(yellow, "Your turn.");
  await red.page.click("#leave");
  await news(yellow, "You win: the other one has given up.");
  await red.page.waitForSelector("#door:visible");
  for (const { errors } of [...people, watcher]) assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
