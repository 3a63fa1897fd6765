/** Without a network: what was read is there, what is sent waits, goes out once, or can be thrown away. */

import { strict as assert } from "node:assert";
import { cuttable, enter, live, message, picture, play, send, shows, start, unique, until } from "./stage.mjs";

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const context = await stage.context();
  const cut = await cuttable(context);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName, { context })]);
  await start(ann, [bobName], "Trip");
  await send(ann, "who drives?");
  await enter(bob, "Trip");
  await shows(bob, "who drives?");

  await cut(true);
  await bob.getByText(/Offline/u).first().waitFor();
  await send(bob, "I do");
  await send(bob, "and I bring cake");
  await bob.locator("article.pending", { hasText: "I do" }).waitFor();
  await bob.getByText("2 messages wait to be sent").waitFor();
  await picture(bob, "offline");
  assert.equal(await message(ann, "I do").count(), 0);
  await cut(false);
  await shows(ann, "and I bring cake");
  await live(bob);
  await bob.locator("article.pending").first().waitFor({ state: "detached" });
  for (const page of [ann, bob]) {
    assert.equal(await message(page, "I do").count(), 1);
    assert.equal(await message(page, "and I bring cake").count(), 1);
  }

  // A send that is refused: the user was removed meanwhile.
  await cut(true);
  await bob.getByText(/Offline/u).first().waitFor();
  await send(bob, "too late");
  await send(bob, "never mind");
  await ann.getByRole("button", { name: "Members" }).click();
  await ann.locator(".members li", { hasText: bobName }).getByRole("button", { name: "Remove" }).click();
  await until("bob is out", async () => (await ann.locator(".members li", { hasText: bobName }).count()) === 0);
  await cut(false);
  await bob.locator("article.failed", { hasText: "too late" }).waitFor();
  await bob.locator("article.failed", { hasText: "never mind" }).waitFor();
  await picture(bob, "refused");
  await bob.locator("article.failed", { hasText: "never mind" }).getByRole("button", { name: "Throw away" }).click();
  await bob.locator("article.failed", { hasText: "never mind" }).waitFor({ state: "detached" });
  await ann.getByLabel("Name of somebody to add").fill(bobName);
  await ann.getByRole("button", { name: "Add", exact: true }).click();
  await ann.locator(".members li", { hasText: bobName }).waitFor();
  await bob.locator("article.failed", { hasText: "too late" }).getByRole("button", { name: "Try again" }).click();
  await shows(ann, "too late");
  assert.equal(await message(ann, "never mind").count(), 0);

  // Yesterday's chat is in this browser: every call of the API is refused, and it shows all the same.
  await ann.route(/\/chinwag\./u, (route) => route.abort());
  await ann.routeWebSocket(/./u, (socket) => void socket.close());
  await ann.reload();
  await shows(ann, "and I bring cake");
  assert.equal(await ann.locator('[data-connection="live"]').count(), 0);
});
