// Somebody without a token, and two with one who talk to each other and to the bot, through the page of the
// chat for strangers.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, ...tokens] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  timeout: 60_000,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
});

async function enter(token) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(30_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  await page.fill("#token", token);
  await page.click("#enter");
  return { page, errors };
}

const reads = (person, words) =>
  person.page.waitForFunction((wanted) => document.querySelector("#log").innerText.includes(wanted), words);

const says = async (person, words, how) => {
  await person.page.fill("#text", words);
  await person.page.click(how);
};

try {
  const stranger = await enter("no token");
  await reads(stranger, "not let in");
  assert.ok(await stranger.page.isDisabled("#text"));
  const ann = await enter(tokens[0]);
  await reads(ann, "You are in lobby.");
  await says(ann, "ahoy <b>all</b>", "#send");
  await reads(ann, "ahoy <b>all</b>");
  const ben = await enter(tokens[1]);
  // What was said before.
  await reads(ben, "ahoy <b>all</b>");
  await reads(ann, "ben came in.");
  await says(ben, "why is the sky blue", "#ask");
  for (const person of [ann, ben]) await reads(person, "blue sky the is why");
  assert.equal(await ann.page.locator('#log [data-kind="bot"]').count(), 1, "an answer is one line");
  assert.equal(await ben.page.locator("#log b").count(), 0, "text became markup");
  await ben.page.close();
  await reads(ann, "ben left.");
  for (const { errors } of [stranger, ann, ben]) assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
