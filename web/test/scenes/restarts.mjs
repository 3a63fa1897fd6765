import assert from "node:assert/strict";
import { control, live, openFirst, play, send, shown, signUp, start } from "./stage.mjs";

await play(async () => {
  const ann = await signUp("ann");
  const bob = await signUp("bob");
  await start(ann, bob);
  await send(ann.page, "message 0");
  await openFirst(bob.page);
  await shown(bob.page, "message 0");
  let count = 1;
  for (const what of ["kill envoy", "kill", "kill envoy"]) {
    const box = ann.page.getByRole("textbox", { name: "Message", exact: true });
    await box.pressSequentially(`message ${count}`);
    await control(what);
    await box.press("Enter");
    if (what === "kill") await control("start");
    await shown(ann.page, `message ${count}`);
    await shown(bob.page, `message ${count}`);
    await send(bob.page, `answer ${count}`);
    await shown(ann.page, `answer ${count}`);
    await live(ann.page);
    count += 1;
  }
  for (const { page } of [ann, bob]) {
    const texts = await page.locator(".text").allTextContents();
    assert.deepEqual(texts, ["message 0", "message 1", "answer 1", "message 2", "answer 2", "message 3", "answer 3"]);
  }
});
