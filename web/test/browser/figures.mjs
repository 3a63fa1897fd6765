/** What a person waits for: a page that opens, and a message that comes. Prints one line of JSON. */

import { enter, live, play, send, shows, start, unique } from "./stage.mjs";

const OPENINGS = 11;
const SENDS = 101;
const ROWS = 60;

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  await start(ann, [bobName]);
  for (let row = 1; row <= ROWS; row++) await send(ann, `row ${row}`);
  await enter(bob, annName);
  await shows(bob, `row ${ROWS}`);
  await shows(ann, `row ${ROWS}`);
  await ann.locator("article.pending").first().waitFor({ state: "detached" });

  // From Enter in one page to the text in the other; both pages read the clock of this machine.
  const took = [];
  for (let number = 0; number < SENDS; number++) {
    const text = `figure ${number}`;
    const seen = bob.evaluate((wanted) => new Promise((done) => {
      const look = () => {
        if ([...document.querySelectorAll(".list .text")].some((each) => each.textContent === wanted)) {
          observer.disconnect();
          done(performance.timeOrigin + performance.now());
        }
      };
      const observer = new MutationObserver(look);
      observer.observe(document.querySelector(".list"), { childList: true, subtree: true, characterData: true });
      look();
    }), text);
    await ann.getByLabel("Message", { exact: true }).fill(text);
    const at = await ann.evaluate(() => {
      const now = performance.timeOrigin + performance.now();
      document.querySelector(".composer textarea").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
      return now;
    });
    took.push((await seen) - at);
  }

  const warm = [];
  const cold = [];
  for (let number = 0; number < OPENINGS; number++) {
    warm.push(await opening(ann, async () => undefined));
    cold.push(await opening(ann, async (cdp) => {
      await cdp.send("Network.clearBrowserCache");
      await cdp.send("Storage.clearDataForOrigin", { origin: new URL(ann.url()).origin, storageTypes: "indexeddb" });
    }));
  }
  console.log(JSON.stringify({
    send_to_shown_ms: { p50: quantile(took, 0.5), p99: quantile(took, 0.99), count: took.length },
    open_warm_ms: { p50: quantile(warm, 0.5), max: quantile(warm, 1), count: warm.length },
    open_cold_ms: { p50: quantile(cold, 0.5), max: quantile(cold, 1), count: cold.length },
  }));
});

/** From the beginning of the navigation to the first message on the screen. */
async function opening(page, prepare) {
  const url = page.url();
  const context = page.context();
  await live(page);
  const cdp = await context.newCDPSession(page);
  const script = await cdp.send("Page.addScriptToEvaluateOnNewDocument", {
    source: `new MutationObserver((_, observer) => {
      if (document.querySelector("article.message") === null) return;
      window.firstShownMs ??= performance.now();
      observer.disconnect();
    }).observe(document, { childList: true, subtree: true });`,
  });
  await cdp.send("Page.enable");
  // The page lets go of its store before that is cleared.
  await page.goto("about:blank");
  await prepare(cdp);
  await page.goto(url);
  await page.waitForFunction(() => window.firstShownMs !== undefined);
  const ms = await page.evaluate(() => window.firstShownMs);
  await cdp.send("Page.removeScriptToEvaluateOnNewDocument", script);
  await cdp.detach();
  return ms;
}

function quantile(values, part) {
  const sorted = [...values].sort((one, other) => one - other);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  return Math.round(value * 10) / 10;
}
