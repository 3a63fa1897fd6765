import assert from "node:assert/strict";
import { openFirst, play, problems, send, shown, signUp, start } from "./stage.mjs";

const TEXTS = [
  "<script>alert('text')</script>",
  "<img src=x onerror=alert(1)>",
  "javascript:alert(1)",
  "[x](javascript:alert(1)) <a href='javascript:alert(1)'>x</a>",
  "https://a.example/\"onmouseover=alert(1)//",
  "</textarea><svg onload=alert(1)>",
  "{{constructor.constructor('alert(1)')()}}",
  "\u202eevil\u0000text",
];

await play(async () => {
  const ann = await signUp("ann");
  const bob = await signUp("bob");
  await start(ann, bob);
  for (const text of TEXTS) await send(ann.page, text);
  await send(ann.page, "the end");
  await openFirst(bob.page);
  await shown(bob.page, "the end");
  for (const { page } of [ann, bob]) {
    assert.equal(await page.locator(".list script, .list img, .list svg, .list iframe").count(), 0);
    for (const href of await page.locator(".list a").evaluateAll((links) => links.map((link) => link.href))) {
      assert.match(href, /^https?:/);
    }
  }
  const shownTexts = await bob.page.locator(".text").allTextContents();
  assert.ok(shownTexts.includes(TEXTS[0]));

  // A group's title is foreign text too, in the list, the heading and the window's title.
  await ann.page.getByRole("button", { name: "New conversation" }).click();
  await ann.page.getByLabel(/^With/).fill(bob.username);
  await ann.page.getByLabel(/^Title/).fill("<img src=x onerror=alert(2)>");
  await ann.page.getByRole("button", { name: "Start", exact: true }).click();
  await bob.page.locator(".title", { hasText: "<img src=x" }).waitFor();

  // The page's policy holds also against what would get in: no inline script, no foreign address.
  const refused = await bob.page.evaluate(async () => {
    const violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "globalThis.wasRun = true";
    document.body.append(script);
    await fetch("https://other.example/").catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { violations, wasRun: globalThis.wasRun === true };
  });
  assert.equal(refused.wasRun, false);
  assert.ok(refused.violations.includes("connect-src"));
  // Chromium has told of them on the console.
  problems.length = 0;
});
