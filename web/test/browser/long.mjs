/** A channel of 100,000 messages is read by scrolling up, and the page stays smooth with all that is loaded. */

import { strict as assert } from "node:assert";
import { logIn, message, play, send, shows } from "./stage.mjs";

/** Scrolling goes up to this entry, or beyond it. */
const OLDEST = Number(process.env.OLDEST);
const LOAD_MS = 80_000;
/** What a reader would call stuck; set only where nothing else uses the machine. */
const LONGEST_FRAME_MS = Number(process.env.LONGEST_FRAME_MS ?? Infinity);

await play(async (stage) => {
  const page = await stage.open(await stage.context());
  await logIn(page, "ann");
  await page.getByRole("navigation").getByRole("link", { name: /Long/u }).click();
  await page.locator("article.message").first().waitFor();

  const started = Date.now();
  const loaded = await page.evaluate(async ({ ms, oldest }) => {
    const list = document.querySelector(".list");
    const end = performance.now() + ms;
    while (performance.now() < end) {
      list.scrollTop = 0;
      await new Promise((done) => requestAnimationFrame(done));
      const first = /^message (\d+) /u.exec(list.querySelector("article .text")?.textContent ?? "")?.[1];
      if (first !== undefined && Number(first) <= oldest) return true;
    }
    return false;
  }, { ms: LOAD_MS, oldest: OLDEST });
  assert.ok(loaded, "the beginning is reached");
  console.log(`scrolled up to message ${OLDEST} in ${Math.round((Date.now() - started) / 1000)} s`);

  const { longest, median, rows } = await page.evaluate(async () => {
    const list = document.querySelector(".list");
    const frames = [];
    let rows = 0;
    let before;
    // Through all of it in jumps, then by a finger's speed.
    for (let step = 0; step < 200; step++) {
      list.scrollTop = step < 100 ? (list.scrollHeight / 100) * step : list.scrollTop - 120;
      const now = await new Promise((done) => requestAnimationFrame(done));
      if (before !== undefined) frames.push(now - before);
      before = now;
      rows = Math.max(rows, list.querySelectorAll("[data-row]").length);
    }
    frames.sort((one, other) => one - other);
    return { longest: frames.at(-1), median: frames[frames.length >> 1], rows };
  });
  console.log(`frames while scrolling: median ${median.toFixed(1)} ms, longest ${longest.toFixed(1)} ms; ${rows} rows in the page`);
  assert.ok(rows < 200, "only what can be seen is drawn");
  assert.ok(longest < LONGEST_FRAME_MS, "it stays smooth");

  await page.evaluate(() => {
    const list = document.querySelector(".list");
    list.scrollTop = list.scrollHeight;
  });
  await send(page, "at the end of it");
  await shows(page, "at the end of it");
  assert.equal(await message(page, "at the end of it").count(), 1);
});
