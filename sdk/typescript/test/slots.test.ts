/** Each open tab has a device of its own. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { IDBFactory } from "fake-indexeddb";
import { LimitExceeded } from "../src/errors.js";
import { Session } from "../src/session.js";
import { type SlotOptions, takeSlot } from "../src/slots.js";
import { TokensSchema } from "../src/gen/chinwag/account/v1/user_pb.js";
import { FakeLocks } from "./locks.js";

function browser(): SlotOptions {
  const items = new Map<string, string>();
  const storage = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  };
  return { storage, locks: new FakeLocks(), indexedDB: new IDBFactory(), maxSlots: 3 };
}

const login = (deviceId: string) =>
  Session.of(create(TokensSchema, { userId: "ada", deviceId, accessToken: "t1", refreshToken: "r1" }));

test("tabs have devices of their own, and a new one takes over a closed one's", async () => {
  const options = browser();
  const first = await takeSlot("app", options);
  const second = await takeSlot("app", options);
  assert.deepEqual([first.number, second.number], [0, 1]);
  assert.notEqual(first.storeName, second.storeName);
  assert.equal(first.session, undefined);
  first.keep(login("d1"));
  second.keep(login("d2"));
  first.release();
  await Promise.resolve();
  const third = await takeSlot("app", options);
  assert.equal(third.number, 0);
  assert.equal(third.session?.deviceId, "d1");
  assert.equal((await takeSlot("other", options)).number, 0);
});

test("there are so many slots and no more", async () => {
  const options = browser();
  for (let tab = 0; tab < 3; tab++) await takeSlot("app", options);
  await assert.rejects(takeSlot("app", options), LimitExceeded);
});

test("new tokens are kept at once, and nothing is left after a log-out", async () => {
  const options = browser();
  const slot = await takeSlot("app", options);
  slot.keep(login("d1"));
  const session = slot.session;
  assert(session !== undefined);
  await session.take(create(TokensSchema, { accessToken: "t2", refreshToken: "r2" }));
  assert.equal(slot.session?.refreshToken, "r2");
  await slot.forget();
  assert.equal(slot.session, undefined);
});

test("a page loaded again while logging out has no login", async () => {
  const slot = await takeSlot("app", browser());
  slot.keep(login("d1"));
  slot.forgetSession();
  assert.equal(slot.session, undefined);
});

test("what is damaged counts as no session", async () => {
  const options = browser();
  options.storage?.setItem("chinwag session app-0", "{}");
  assert.equal((await takeSlot("app", options)).session, undefined);
});
