/**
 * What the scripts in this folder share: one Chromium, people in contexts of their own, and commands
 * to the test that runs the script (tests/browser/stage.py). Everything waits for conditions.
 */

import { strict as assert } from "node:assert";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const URL_ = need("CHINWAG_URL");
export const WAIT_MS = 20_000;
const PASSWORD = "correct horse battery";

function need(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run this through tests/browser`);
  return value;
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the test do something: "kill node", "start node", "kill envoy". */
export async function command(text) {
  console.log(`@ ${text}`);
  assert.equal((await answers.next()).value, "ok");
}

/** Runs a scene in a fresh Chromium, and says what the pages complained of if it fails. */
export async function play(scene) {
  const browser = await chromium.launch({
    executablePath: need("CHROMIUM"),
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--lang=en-GB",
      `--ignore-certificate-errors-spki-list=${need("CHINWAG_SPKI")}`,
    ],
  });
  const stage = new Stage(browser);
  try {
    await scene(stage);
    assert.deepEqual(stage.violations, [], "the page broke its own security policy");
    assert.deepEqual(stage.errors, [], "the page threw");
  } catch (error) {
    for (const line of stage.log.slice(-40)) console.log(line);
    await stage.tell();
    console.log(error instanceof Error ? error.stack : String(error));
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.stdin.destroy();
  }
}

class Stage {
  log = [];
  violations = [];
  errors = [];

  constructor(browser) {
    this.browser = browser;
  }

  /** What is on the screens. */
  async tell() {
    for (const context of this.browser.contexts()) {
      for (const page of context.pages()) {
        const text = await page.innerText("body", { timeout: 2_000 }).catch(String);
        console.log(`--- ${page.url()}\n${text.slice(0, 2_000)}`);
      }
    }
  }

  /** A browser profile of its own. */
  async context(options = {}) {
    const context = await this.browser.newContext({ locale: "en-GB", reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(WAIT_MS);
    return context;
  }

  async open(context, hash = "") {
    const page = await context.newPage();
    page.on("console", (message) => {
      const text = message.text();
      this.log.push(`console ${message.type()}: ${text}`);
      if (/content security policy/iu.test(text)) this.violations.push(text);
    });
    page.on("pageerror", (error) => {
      this.errors.push(String(error));
      this.log.push(`threw: ${error.stack ?? error}`);
    });
    await page.goto(`${URL_}/${hash}`);
    return page;
  }

  /** Somebody who has just signed up, in a browser of their own. */
  async person(name, options = {}) {
    const context = options.context ?? (await this.context(options));
    const page = await this.open(context);
    await signUp(page, name);
    return page;
  }
}

export async function signUp(page, name) {
  await page.getByRole("button", { name: "I am new here" }).click();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign up" }).click();
  await live(page);
}

export async function logIn(page, name) {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await live(page);
}

/** Waits until the page says nothing of its connection: it is there. */
export async function live(page) {
  await page.locator('[data-connection="live"]').waitFor({ state: "attached" });
}

/** A conversation with others; a group if it has a title. */
export async function start(page, names, title = "") {
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel(/^With/u).fill(names.join(" "));
  if (title !== "") await page.getByLabel(/^Title/u).fill(title);
  await page.getByRole("button", { name: "Start" }).click();
  await page.getByRole("heading", { name: title || names[0], level: 2, exact: true }).waitFor();
}

export async function send(page, text) {
  const box = page.getByLabel("Message", { exact: true });
  await box.fill(text);
  await box.press("Enter");
}

/** The message with a text. */
export function message(page, text) {
  return page.locator("article.message").filter({ hasText: text });
}

export async function shows(page, text) {
  await message(page, text).first().waitFor();
}

export async function enter(page, title) {
  await page.getByRole("navigation").getByRole("link", { name: new RegExp(title, "u") }).click();
  await page.getByRole("heading", { name: title, level: 2 }).waitFor();
}

/** Waits until something holds, with a look every few milliseconds. */
export async function until(what, holds, ms = WAIT_MS) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    if (await holds().catch((error) => ((last = error), false))) return;
    await new Promise((done) => setTimeout(done, 30));
  }
  throw new Error(`${what}: not within ${ms} ms${last === undefined ? "" : ` (${last})`}`);
}

/**
 * A network that can be cut: Chromium's own switch leaves open WebSockets alone. Call it before the
 * page is loaded.
 */
export async function cuttable(context) {
  const open = new Set();
  let isCut = false;
  await context.routeWebSocket(/./u, (socket) => {
    if (isCut) {
      void socket.close();
      return;
    }
    socket.connectToServer();
    open.add(socket);
  });
  return async (cut) => {
    isCut = cut;
    await context.setOffline(cut);
    if (!cut) return;
    for (const socket of open) await socket.close().catch(() => undefined);
    open.clear();
  };
}

/** A name nobody else on this server has. */
export function unique(name) {
  return `${name}${Math.random().toString(36).slice(2, 8)}`;
}

/** Keeps a picture of a state, where pictures are asked for. */
export async function picture(page, name) {
  const folder = process.env.SCREENSHOTS ?? "";
  if (folder !== "") await page.screenshot({ path: join(folder, `${name}.png`) });
}
