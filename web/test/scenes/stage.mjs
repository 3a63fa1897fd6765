/** People in the real Chromium, before the page that the test runs. */

import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const PATIENCE_MS = 20_000;
const { CHINWAG_PAGE = "", CHINWAG_CONTROL = "", CHINWAG_SCREENSHOTS = "" } = process.env;
let browser;
let number = 0;
export const problems = [];

/** Runs a scenario, and fails if a page had an error of its own. */
export async function play(scenario) {
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
  try {
    await scenario();
    if (problems.length > 0) throw new Error(`the page had problems:\n${problems.join("\n")}`);
  } finally {
    await browser.close();
  }
}

/** Tells the test to break something: "kill envoy", "stop", "start". */
export async function control(what) {
  const answer = await fetch(CHINWAG_CONTROL, { method: "POST", body: what });
  if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
}

/** A browser of somebody's own. */
export async function newBrowser(options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  return context;
}

/** A page that notes its own errors. */
export async function newPage(context) {
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`${error}`));
  page.on("dialog", (dialog) => {
    problems.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // What the network says while a server is away is no problem of the page.
    if (message.type() === "error" && !/Failed to load|WebSocket|ERR_|status of/.test(message.text())) {
      problems.push(message.text());
    }
  });
  await page.goto(CHINWAG_PAGE);
  return page;
}

/** Somebody new, signed up. */
export async function signUp(name, options = {}) {
  const context = options.context ?? (await newBrowser(options));
  const page = await newPage(context);
  const username = `${name}${process.pid % 10_000}${(number += 1)}`;
  await page.getByRole("button", { name: "I am new here" }).click();
  await page.getByLabel("Name").fill(username);
  await page.getByLabel("Password").fill("correct horse battery");
  await page.getByRole("button", { name: "Sign up" }).click();
  await live(page);
  return { username, page, context };
}

/** Waits until the page's connection is live. */
export async function live(page) {
  await page.locator('[data-connection="live"]').waitFor({ state: "attached" });
}

/** Opens a conversation with others. */
export async function start(person, ...others) {
  const { page } = person;
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel(/^With/).fill(others.map((other) => other.username).join(", "));
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByRole("textbox", { name: "Message", exact: true }).waitFor();
}

/** Opens the conversation that comes first. */
export async function openFirst(page) {
  await page.locator(".channels li a").first().click();
  await page.getByRole("textbox", { name: "Message", exact: true }).waitFor();
}

export async function send(page, text) {
  const box = page.getByRole("textbox", { name: "Message", exact: true });
  await box.fill(text);
  await box.press("Enter");
}

/** Waits until a text is shown as a message that is stored. */
export async function shown(page, text) {
  await page.locator(".message:not(.pending) .text", { hasText: text }).last().waitFor();
}

/** Waits for what a function of the page gives. */
export async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    if (await holds()) return;
    if (Date.now() > end) throw new Error(`it does not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A picture for the docs, where they are wanted. */
export async function picture(page, name) {
  if (CHINWAG_SCREENSHOTS === "") return;
  mkdirSync(CHINWAG_SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${CHINWAG_SCREENSHOTS}/${name}.png` });
}
