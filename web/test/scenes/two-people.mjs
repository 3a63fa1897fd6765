import assert from "node:assert/strict";
import { openFirst, picture, play, send, shown, signUp, start, until } from "./stage.mjs";

await play(async () => {
  const ann = await signUp("ann");
  const bob = await signUp("bob");
  await start(ann, bob);
  await send(ann.page, "hello bob, see https://example.com/a?b=1.");
  // Unread until it is opened, and typing is seen.
  await bob.page.locator(".unread", { hasText: "1" }).waitFor();
  await openFirst(bob.page);
  await shown(bob.page, "hello bob");
  const link = bob.page.locator(".text a");
  assert.equal(await link.getAttribute("href"), "https://example.com/a?b=1");
  assert.match(await link.getAttribute("rel"), /noopener/);
  await bob.page.getByRole("textbox", { name: "Message", exact: true }).pressSequentially("hi");
  await ann.page.getByText(/is typing/).waitFor();
  await send(bob.page, "hi ann");
  await shown(ann.page, "hi ann");
  await ann.page.locator(".read").first().waitFor();
  await until("bob's count is gone", async () => (await bob.page.locator(".unread").count()) === 0);

  // Edit, react, reply, delete.
  const mine = ann.page.locator(".message.own").first();
  await mine.hover();
  await mine.getByRole("button", { name: "Edit" }).click();
  await ann.page.getByLabel("Edit the message").fill("hello bob, again");
  await ann.page.getByRole("button", { name: "Save" }).click();
  await shown(bob.page, "hello bob, again");
  const theirs = bob.page.locator(".message:not(.own)").first();
  await theirs.hover();
  await theirs.getByRole("button", { name: "React", exact: true }).click();
  await theirs.getByRole("button", { name: "React with 👍" }).click();
  await ann.page.locator(".reactions button", { hasText: "👍 1" }).waitFor();
  await theirs.hover();
  await theirs.getByRole("button", { name: "Reply" }).click();
  await send(bob.page, "a reply");
  await ann.page.locator("blockquote", { hasText: "hello bob, again" }).waitFor();
  await picture(ann.page, "conversation");
  await mine.hover();
  await mine.getByRole("button", { name: "Delete" }).click();
  await bob.page.getByText("This message was deleted.").waitFor();

  // A group, its members, a mention, search.
  const cid = await signUp("cid");
  await start(ann, bob, cid);
  await send(ann.page, `@${bob.username} welcome to the group`);
  await openFirst(bob.page);
  await bob.page.locator("mark", { hasText: bob.username }).waitFor();
  await ann.page.getByRole("button", { name: "Members" }).click();
  await ann.page.locator(".members li").nth(2).waitFor();
  assert.equal(await ann.page.locator(".members li").count(), 3);
  await ann.page.getByRole("button", { name: "Remove" }).first().click();
  await until("two are left", async () => (await ann.page.locator(".members li").count()) === 2);
  await send(ann.page, "needle in a haystack");
  await shown(ann.page, "needle");
  await ann.page.getByLabel("Search in what is loaded").fill("NEEDLE");
  await ann.page.getByText(/1 of \d+ loaded messages/).waitFor();
});
