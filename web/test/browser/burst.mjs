/** A thousand messages at once: all are shown in order, and the page goes on answering. */

import { strict as assert } from "node:assert";
import { enter, play, send, shows, start, unique } from "./stage.mjs";

const COUNT = 1_000;

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  await start(ann, [bobName]);
  await send(ann, "first");
  await enter(bob, annName);
  await shows(bob, "first");

  // As fast as keys can come: the box takes a text and Enter, a thousand times.
  await bob.evaluate(() => {
    window.longest = 0;
    let before = performance.now();
    const frame = () => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - before);
      before = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  await ann.evaluate(async (count) => {
    const box = document.querySelector(".composer textarea");
    for (let number = 1; number <= count; number++) {
      box.value = `burst ${number}`;
      box.dispatchEvent(new InputEvent("input", { bubbles: true }));
      await new Promise((done) => queueMicrotask(done));
      await new Promise((done) => setTimeout(done));
      box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
      await new Promise((done) => setTimeout(done));
    }
  }, COUNT);
  for (const page of [bob, ann]) {
    await page.locator(".text").filter({ hasText: /^burst 1000$/u }).waitFor({ timeout: 60_000 });
  }
  const longest = await bob.evaluate(() => window.longest);
  console.log(`the longest pause between two frames: ${Math.round(longest)} ms`);

  // Each once and in order, as one who scrolls through all of it sees them.
  const seen = await bob.evaluate(async () => {
    const list = document.querySelector(".list");
    const numbers = [];
    for (let top = 0; ; top += list.clientHeight / 2) {
      list.scrollTop = top;
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      for (const text of list.querySelectorAll("article .text")) {
        const number = Number(/^burst (\d+)$/u.exec(text.textContent)?.[1] ?? 0);
        if (number > (numbers.at(-1) ?? 0)) numbers.push(number);
      }
      if (top > list.scrollHeight) return numbers;
    }
  });
  assert.equal(seen.length, COUNT);
  assert.ok(seen.every((number, index) => number === index + 1), "in order, without a hole");
});
