import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { newBrowser, newPage, openFirst, picture, play, send, shown, signUp, start } from "./stage.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function faults(page) {
  // By the debugger, past the page's own policy.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: AXE });
  const { result } = await session.send("Runtime.evaluate", {
    expression: "axe.run().then((found) => JSON.stringify(found.violations.map((v) => [v.impact, v.id, v.nodes[0].html])))",
    awaitPromise: true,
  });
  await session.detach();
  return JSON.parse(result.value).filter(([impact]) => impact === "serious" || impact === "critical");
}

await play(async () => {
  for (const colorScheme of ["light", "dark"]) {
    const ann = await signUp("ann", { colorScheme });
    const bob = await signUp("bob", { colorScheme });
    await start(ann, bob);
    await send(ann.page, "hello");
    await openFirst(bob.page);
    await shown(bob.page, "hello");
    await send(bob.page, "hello too");
    await shown(ann.page, "hello too");
    assert.deepEqual(await faults(ann.page), [], `${colorScheme}: conversation`);
    await picture(ann.page, `conversation-${colorScheme}`);
    const out = await newPage(await newBrowser({ colorScheme }));
    await out.getByRole("button", { name: "Log in" }).waitFor();
    assert.deepEqual(await faults(out), [], `${colorScheme}: signing in`);
    await picture(out, `sign-in-${colorScheme}`);
  }

  // A phone: the list or the conversation, and the way back.
  const phone = await signUp("ann", { viewport: { width: 360, height: 700 } });
  const other = await signUp("bob");
  await start(phone, other);
  await send(phone.page, "from a phone");
  await shown(phone.page, "from a phone");
  const width = await phone.page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `it is ${width} pixels wide`);
  await picture(phone.page, "phone");
  await phone.page.getByRole("link", { name: "Back to the channels" }).click();
  await phone.page.getByRole("button", { name: "New conversation" }).waitFor();

  // Without a mouse.
  const { page } = other;
  await page.locator(".channels li a").first().focus();
  await page.keyboard.press("Enter");
  await shown(page, "from a phone");
  await page.keyboard.type("typed, not clicked");
  await page.keyboard.press("Enter");
  await shown(page, "typed, not clicked");
  const mine = page.locator(".message.own").last().getByRole("button", { name: "Edit" });
  await mine.focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("End");
  await page.keyboard.type(" at all");
  await page.keyboard.press("Enter");
  await shown(page, "typed, not clicked at all");
});
