/** Two people and a group: everything a conversation is made of. */

import { strict as assert } from "node:assert";
import { enter, message, picture, play, send, shows, start, unique, until } from "./stage.mjs";

await play(async (stage) => {
  const [annName, bobName, cidName] = ["ann", "bob", "cid"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  await stage.person(cidName);
  await ann.getByText("No conversations yet").waitFor();

  // One to one, with the unread count, and receipts.
  await start(ann, [bobName]);
  await ann.getByText("Nothing here yet").waitFor();
  await send(ann, "hello bob");
  await shows(ann, "hello bob");
  await bob.getByLabel("1 unread").waitFor();
  await enter(bob, annName);
  await shows(bob, "hello bob");
  await bob.bringToFront();
  await message(ann, "hello bob").locator(".read").waitFor();
  await until("nothing is unread", async () => (await bob.getByLabel(/unread/u).count()) === 0);

  // Typing.
  await bob.getByLabel("Message", { exact: true }).pressSequentially("hi");
  await ann.locator(".typing").getByText(`${bobName} is typing`).waitFor();
  await send(bob, "hi ann");
  await shows(ann, "hi ann");
  await until("typing ends with the message", async () => (await ann.locator(".typing").innerText()) === "");

  // Reply, react, edit, delete.
  await message(ann, "hi ann").hover();
  await message(ann, "hi ann").getByRole("button", { name: "Reply" }).click();
  await send(ann, "an answer");
  await message(bob, "an answer").locator("blockquote", { hasText: "hi ann" }).waitFor();
  await message(bob, "an answer").hover();
  await message(bob, "an answer").getByRole("button", { name: "React", exact: true }).click();
  await message(bob, "an answer").getByRole("button", { name: "React with 🎉" }).click();
  await message(ann, "an answer").locator(".reactions button", { hasText: "🎉 1" }).waitFor();
  await message(ann, "an answer").locator(".reactions button").click();
  await message(bob, "an answer").locator(".reactions button", { hasText: "🎉 2" }).waitFor();
  await message(ann, "hello bob").hover();
  await message(ann, "hello bob").getByRole("button", { name: "Edit" }).click();
  await ann.getByLabel("Edit the message").fill("hello dear bob");
  await ann.getByLabel("Edit the message").press("Enter");
  await message(bob, "hello dear bob").getByText("edited").waitFor();
  await message(ann, "an answer").hover();
  await message(ann, "an answer").getByRole("button", { name: "Delete" }).click();
  await bob.getByText("This message was deleted.").waitFor();
  assert.equal(await message(bob, "an answer").count(), 0);

  // A group, mentions and members.
  await start(ann, [bobName], "Garden plans");
  await send(ann, `what do you think, @${bobName}?`);
  await enter(bob, "Garden plans");
  await bob.locator("mark", { hasText: bobName }).waitFor();
  await ann.getByRole("button", { name: "Members" }).click();
  await ann.getByLabel("Name of somebody to add").fill(cidName);
  await ann.getByRole("button", { name: "Add", exact: true }).click();
  await ann.locator(".members li", { hasText: cidName }).waitFor();
  await ann.locator(".members li", { hasText: cidName }).getByRole("button", { name: "Remove" }).click();
  await until("cid is out", async () => (await ann.locator(".members li", { hasText: cidName }).count()) === 0);
  await ann.getByRole("button", { name: "Members" }).click();

  // Search in what is loaded.
  await send(ann, "tomatoes along the fence");
  await send(ann, "beans in the back, see https://example.org/beans");
  await shows(ann, "beans in the back");
  await ann.getByLabel("Search in what is loaded").fill("TOMATO");
  await until("one is found", async () => (await ann.locator("article.message").count()) === 1);
  await ann.getByLabel("Search in what is loaded").fill("");

  // Yesterday's chat is there after a reload, and a second tab is a device of its own.
  await ann.reload();
  await shows(ann, "tomatoes along the fence");
  await send(bob, "lovely");
  await shows(ann, "lovely");
  await picture(ann, "group");
});
