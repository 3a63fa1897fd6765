import assert from "node:assert/strict";
import { openFirst, play, send, shown, signUp, start, until } from "./stage.mjs";

const MANY = 1000;

await play(async () => {
  const ann = await signUp("ann");
  const bob = await signUp("bob");
  await start(ann, bob);
  await send(ann.page, "first");
  await openFirst(bob.page);
  await shown(bob.page, "first");
  const box = ann.page.getByRole("textbox", { name: "Message", exact: true });
  await box.evaluate(async (element, many) => {
    const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
    for (let number = 1; number <= many; number++) {
      set.call(element, `burst ${number}`);
      element.dispatchEvent(new Event("input", { bubbles: true }));
      await new Promise((resolve) => setTimeout(resolve));
      element.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
      await new Promise((resolve) => setTimeout(resolve));
    }
  }, MANY);
  await until("all are sent", async () => (await ann.page.locator(".pending").count()) === 0);
  await shown(bob.page, `burst ${MANY}`);
  // Of a thousand rows some dozen are drawn.
  assert.ok((await bob.page.locator(".message").count()) < 150);
  // And all are there, in order, without a hole, however far one scrolls.
  const seen = new Set();
  const list = bob.page.getByRole("log");
  await until("all were seen", async () => {
    for (const text of await bob.page.locator(".text").allTextContents()) seen.add(text);
    await list.evaluate((element) => { element.scrollTop -= element.clientHeight; });
    return seen.size > MANY;
  });
  const texts = await bob.page.locator(".text").allTextContents();
  const numbers = texts.filter((text) => text.startsWith("burst")).map((text) => Number(text.slice(6)));
  assert.deepEqual(numbers, [...numbers].sort((one, other) => one - other));
});
