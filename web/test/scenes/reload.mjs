import assert from "node:assert/strict";
import { control, live, newPage, openFirst, play, send, shown, signUp, start, until } from "./stage.mjs";

await play(async () => {
  const ann = await signUp("ann");
  const bob = await signUp("bob");
  await start(ann, bob);
  await send(ann.page, "before the reload");
  await openFirst(bob.page);
  await shown(bob.page, "before the reload");
  await ann.page.reload();
  await shown(ann.page, "before the reload");
  await live(ann.page);

  // Without a server: yesterday's chat is there, and what is sent waits.
  await control("stop");
  await ann.page.getByText(/^Offline/).waitFor();
  await send(ann.page, "sent while offline");
  await ann.page.locator(".pending", { hasText: "sent while offline" }).waitFor();
  await control("start");
  await shown(ann.page, "sent while offline");
  await shown(bob.page, "sent while offline");
  await live(ann.page);
  for (const { page } of [ann, bob]) {
    assert.equal(await page.locator(".text", { hasText: "sent while offline" }).count(), 1);
  }

  // A second tab is a device of its own: both see everything, and what one sends comes to the other.
  const tab = await newPage(ann.context);
  await tab.getByLabel("Name").fill(ann.username);
  await tab.getByLabel("Password").fill("correct horse battery");
  await tab.getByRole("button", { name: "Log in" }).click();
  await live(tab);
  await openFirst(tab);
  await shown(tab, "sent while offline");
  await send(tab, "from the second tab");
  await shown(ann.page, "from the second tab");
  await send(ann.page, "from the first tab");
  await shown(tab, "from the first tab");
  await tab.close();
  // The next tab takes its place, without a login.
  const next = await newPage(ann.context);
  await live(next);
  await openFirst(next);
  await shown(next, "from the first tab");
  await live(ann.page);

  // Who logs out leaves nothing behind.
  await ann.page.getByRole("button", { name: "Log out" }).click();
  await ann.page.getByRole("button", { name: "Log in" }).waitFor();
  await ann.page.reload();
  await ann.page.getByRole("button", { name: "Log in" }).waitFor();
  await until("the other tab stays", async () => (await next.locator('[data-connection="live"]').count()) === 1);
});
