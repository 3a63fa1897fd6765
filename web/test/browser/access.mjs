/** Axe finds no serious fault, in light and dark, at a desk and on a phone; all of it goes with keys alone. */

import { strict as assert } from "node:assert";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { enter, live, picture, play, send, shows, start, unique, until } from "./stage.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true };

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);

  // Ann has no mouse.
  const ann = await stage.open(await stage.context({ colorScheme: "dark" }));
  await ann.getByLabel("Name").waitFor();
  await check(ann, "sign-in, dark");
  await picture(ann, "sign-in");
  await tabTo(ann, "I am new here");
  await ann.keyboard.press("Enter");
  await tabTo(ann, "Name", true);
  await ann.keyboard.type(annName);
  await ann.keyboard.press("Tab");
  await ann.keyboard.type("correct horse battery");
  await ann.keyboard.press("Enter");
  await live(ann);
  await check(ann, "no conversations, dark");

  const bob = await stage.open(await stage.context(PHONE));
  await bob.getByRole("button", { name: "I am new here" }).tap();
  await check(bob, "sign-up, light, phone");
  await bob.getByLabel("Name").fill(bobName);
  await bob.getByLabel("Password").fill("correct horse battery");
  await bob.getByRole("button", { name: "Sign up" }).tap();
  await live(bob);

  await tabTo(ann, "New conversation");
  await ann.keyboard.press("Enter");
  await tabTo(ann, "With (names, several for a group)");
  await ann.keyboard.type(bobName);
  await check(ann, "a new conversation, dark");
  await ann.keyboard.press("Enter");
  await ann.getByRole("heading", { name: bobName, level: 2 }).waitFor();
  await until("the message box has the focus", () => ann.evaluate(() => document.activeElement?.getAttribute("aria-label") === "Message"));
  await ann.keyboard.type(`keys alone, @${bobName}: https://example.org`);
  await ann.keyboard.press("Enter");
  await shows(ann, "keys alone");
  await tabTo(ann, "React", true);
  await ann.keyboard.press("Enter");
  await tabTo(ann, "React with ❤️");
  await ann.keyboard.press("Enter");
  await ann.locator(".reactions button", { hasText: "❤️ 1" }).waitFor();
  await tabTo(ann, "Edit", true);
  await ann.keyboard.press("Enter");
  await until("the editor has the focus", () => ann.evaluate(() => document.activeElement?.getAttribute("aria-label") === "Edit the message"));
  await ann.keyboard.press("End");
  await ann.keyboard.type(" (edited)");
  await ann.keyboard.press("Enter");
  await shows(ann, "(edited)");
  await check(ann, "a conversation, dark");

  // Bob has a phone: one column, and a way back.
  await check(bob, "channels, light, phone");
  await picture(bob, "phone-channels");
  await enter(bob, annName);
  await shows(bob, "keys alone");
  assert.equal(await bob.getByRole("navigation").isVisible(), false);
  await send(bob, "from the phone");
  await shows(ann, "from the phone");
  await check(bob, "a conversation, light, phone");
  await picture(bob, "phone-conversation");
  const [wide, width] = await bob.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= width, "nothing is wider than the phone");
  await bob.getByRole("link", { name: "Back to the channels" }).tap();
  await bob.getByRole("navigation").waitFor();

  await start(ann, [bobName], "Members are shown");
  await ann.getByRole("button", { name: "Members" }).click();
  await ann.locator(".members li", { hasText: bobName }).waitFor();
  await check(ann, "members, dark");
  await ann.getByRole("button", { name: /^Colours/u }).click();
  await ann.getByRole("button", { name: /^Colours/u }).click();
  await check(ann, "members, light by the switch");
  await picture(ann, "members");
});

/** No fault that axe calls serious or critical. */
async function check(page, state) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document);
    return violations
      .filter((fault) => fault.impact === "serious" || fault.impact === "critical")
      .map((fault) => `${fault.id}: ${fault.help}: ${fault.nodes.map((node) => `${node.html} ${node.failureSummary}`).join(" | ")}`);
  });
  assert.deepEqual(found, [], state);
}

/** Presses Tab (or Shift+Tab) until something of that name has the focus. */
async function tabTo(page, name, backwards = false) {
  for (let count = 0; count < 40; count++) {
    const here = await page.evaluate(() => {
      const element = document.activeElement;
      return element?.getAttribute("aria-label") ?? element?.labels?.[0]?.textContent?.trim() ?? element?.textContent?.trim() ?? "";
    });
    if (here === name) return;
    await page.keyboard.press(backwards ? "Shift+Tab" : "Tab");
  }
  throw new Error(`${name} cannot be reached with Tab`);
}
