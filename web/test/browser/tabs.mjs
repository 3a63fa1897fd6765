/** Several tabs of one person: each a device of its own, all right; a closed one's place is taken again. */

import { strict as assert } from "node:assert";
import { enter, live, logIn, message, play, send, shows, start, unique } from "./stage.mjs";

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  await start(ann, [bobName]);
  await send(ann, "from the first tab");
  await enter(bob, annName);

  const second = await stage.open(ann.context(), new URL(ann.url()).hash);
  await logIn(second, annName);
  await shows(second, "from the first tab");
  await send(second, "from the second tab");
  await shows(ann, "from the second tab");
  await send(bob, "to both");
  await Promise.all([shows(ann, "to both"), shows(second, "to both")]);
  await Promise.all([live(ann), live(second)]);
  for (const page of [ann, second, bob]) assert.equal(await message(page, "from the second tab").count(), 1);

  const hash = new URL(second.url()).hash;
  await second.close();
  await send(bob, "while the tab was closed");
  const third = await stage.open(ann.context(), hash);
  await shows(third, "while the tab was closed");
  await live(third);

  // Logging out leaves nothing behind, and the other tab alone.
  await third.getByRole("button", { name: "Log out" }).click();
  await third.getByRole("button", { name: "Log in" }).waitFor();
  await third.reload();
  await third.getByRole("button", { name: "Log in" }).waitFor();
  await send(ann, "still here");
  await shows(bob, "still here");
});
