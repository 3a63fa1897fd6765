/** Markup in texts, names and titles is shown as it is written; only http and https make links. */

import { strict as assert } from "node:assert";
import { enter, message, play, send, shows, start, unique, URL_, until } from "./stage.mjs";

const MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const TEXTS = [
  MARKUP,
  '"><svg/onload=window.hacked=1>',
  "{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1}",
  "javascript:window.hacked=1",
  "[x](javascript:window.hacked=1)",
  "data:text/html,<script>window.hacked=1</script>",
  'https://example.org/"onmouseover="window.hacked=1',
  "\u202Egro.elpmaxe//:sptth \u0000 \u{1F469}\u200D\u{1F469}",
];

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  // A name of markup: only another client than this page can set it.
  await rename(bob, "<b onclick=window.hacked=1>bob</b>");
  await start(ann, [bobName], MARKUP.slice(0, 90));
  for (const text of TEXTS) await send(ann, text);
  await send(ann, "look: https://example.org/a_(b), http://example.org/?q=<b>.");
  await bob.getByRole("navigation").getByRole("link", { name: /onerror/u }).click();
  await shows(bob, "look:");
  await send(bob, `from somebody with a name of markup ${MARKUP}`);
  await shows(ann, "from somebody with a name of markup");
  await ann.getByText("<b onclick=window.hacked=1>bob</b>").first().waitFor();

  for (const page of [ann, bob]) {
    await message(page, "window.hacked=1").first().waitFor();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator(".list img, .list script, .list svg, .list b[onclick], h2 img").count(), 0);
    const links = await page.locator(".list .text a").evaluateAll((all) =>
      all.map((link) => [link.getAttribute("href"), link.rel, link.target]),
    );
    assert.ok(links.length >= 3);
    for (const [href, rel] of links) {
      assert.match(href, /^https?:\/\//u);
      assert.match(rel, /noopener/u);
      assert.match(rel, /noreferrer/u);
    }
    assert.ok(links.some(([href]) => href === "https://example.org/a_(b)"));
  }

  // What would get past all of that is stopped by the headers.
  const answer = await ann.request.get(`${URL_}/`).catch(() => undefined);
  const csp = answer?.headers()["content-security-policy"] ?? (await ann.evaluate(async () => (await fetch("/")).headers.get("content-security-policy")));
  assert.match(csp, /default-src 'none'/u);
  assert.doesNotMatch(csp, /unsafe/u);
  const blocked = await ann.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "window.hacked = 2";
    document.body.append(script);
    script.remove();
    return window.hacked;
  });
  assert.equal(blocked, undefined);
  await until("the policy says so", async () => stage.violations.length > 0);
  stage.violations.length = 0; // these were meant

  // A text of the greatest length is folded, and does not stop the page.
  await send(ann, `${"long words and lines ".repeat(4_700)}`);
  await shows(bob, "long words and lines");
  await bob.getByRole("button", { name: /^Show all/u }).click();
  await bob.getByRole("button", { name: "Show less" }).waitFor();
});

async function rename(page, displayName) {
  const status = await page.evaluate(async (name) => {
    const kept = Object.keys(localStorage).map((key) => localStorage.getItem(key)).find((text) => text?.includes("accessToken"));
    const { accessToken } = JSON.parse(kept).session ?? JSON.parse(kept);
    const answer = await fetch("/v1/account/profile", {
      method: "PATCH",
      headers: { authorization: `Bearer ${accessToken}`, "content-type": "application/json" },
      body: JSON.stringify({ displayName: name, updateMask: "displayName" }),
    });
    return `${answer.status} ${await answer.text()}`;
  }, displayName);
  assert.match(status, /^200/u);
}
