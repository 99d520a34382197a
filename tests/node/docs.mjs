// The page to try the Client API, in a browser: with a token a call from the page is answered, without
// one it is refused, and nothing is loaded from elsewhere.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, token] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  timeout: 60_000,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (line) => {
    // A refused call is an error to the console; it is one of the tries below.
    if (line.type() === "error" && !line.text().includes("401")) wrong.push(line.text());
  });
  page.on("request", (request) => {
    const address = new URL(request.url());
    if (address.protocol !== "data:" && address.origin !== new URL(url).origin) {
      wrong.push(`asks elsewhere: ${address}`);
    }
  });
  await page.goto(url);

  // Opens a call, makes it, and gives the status and the body that the page shows.
  const attempt = async (path, body) => {
    const call = page.locator(".opblock", {
      has: page.locator(`[data-path="${path}"]`),
    }).first();
    await call.waitFor();
    if (!(await call.locator(".try-out__btn").isVisible())) {
      await call.locator(".opblock-summary-control").click();
      await call.locator(".try-out__btn").click();
    }
    if (body) await call.locator("textarea.body-param__text").fill(JSON.stringify(body));
    const clear = call.locator(".btn-clear");
    if (await clear.isVisible()) await clear.click();
    await call.locator(".execute").click();
    const live = call.locator(".live-responses-table");
    await live.waitFor();
    const status = await live.locator("tbody .response-col_status").first().innerText();
    const text = await live.locator("pre.microlight, .highlight-code pre").first().innerText();
    return { status: status.trim().slice(0, 3), body: JSON.parse(text) };
  };

  const refused = await attempt("/v1/status");
  assert.equal(refused.status, "401");
  assert.equal(refused.body.error, "not-permitted");

  await page.locator(".auth-wrapper .authorize").first().click();
  await page.locator(".modal-ux input").first().fill(token);
  await page.locator(".modal-ux .authorize").click();
  await page.locator(".modal-ux .btn-done").click();

  const status = await attempt("/v1/status");
  assert.equal(status.status, "200", JSON.stringify(status));
  assert.deepEqual(status.body.missing, []);
  const sent = await attempt("/v1/messages", { to: { everyone: true }, text: "from the page" });
  assert.equal(sent.status, "200", JSON.stringify(sent));
  assert.deepEqual(sent.body, { status: "done" });
  assert.deepEqual(wrong, []);
} finally {
  await browser.close();
}
