/** The server and Envoy die while somebody types: nothing is lost, nothing comes twice, the page says so. */

import { strict as assert } from "node:assert";
import { command, enter, live, message, play, send, shows, start, unique } from "./stage.mjs";

await play(async (stage) => {
  const [annName, bobName] = ["ann", "bob"].map(unique);
  const [ann, bob] = await Promise.all([stage.person(annName), stage.person(bobName)]);
  await start(ann, [bobName]);
  await send(ann, "before");
  await enter(bob, annName);
  await shows(bob, "before");

  for (const [kill, startAgain, name] of [["kill node", "start node", "node"], ["kill envoy", "", "envoy"]]) {
    const box = ann.getByLabel("Message", { exact: true });
    await box.pressSequentially(`typed as the ${name}`);
    await command(kill);
    await box.pressSequentially(" died");
    await box.press("Enter");
    if (startAgain !== "") {
      await ann.getByText(/Offline|Connecting/u).first().waitFor();
      await ann.locator("article.pending", { hasText: `typed as the ${name} died` }).waitFor();
      await command(startAgain);
      for (const page of [ann, bob]) {
        const again = page.getByRole("button", { name: "Try now" });
        if (await again.isVisible()) await again.click().catch(() => undefined);
      }
    }
    await shows(bob, `typed as the ${name} died`);
    await Promise.all([live(ann), live(bob)]);
    await send(bob, `bob after the ${name}`);
    await shows(ann, `bob after the ${name}`);
    await ann.locator("article.pending").waitFor({ state: "detached" });
    for (const page of [ann, bob]) assert.equal(await message(page, `typed as the ${name} died`).count(), 1);
  }
});
