import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "chinwag";
import { find, merged } from "../src/messages.js";

function some(...ids: number[]): Message[] {
  return ids.map((id) => ({ id: BigInt(id), lastEntryId: BigInt(id) }) as Message);
}

function ids(messages: readonly Message[]): number[] {
  return messages.map((message) => Number(message.id));
}

test("what comes at an end, between, twice, or in no order is put where it belongs", () => {
  assert.deepEqual(ids(merged(some(3, 4), some(5, 6))), [3, 4, 5, 6]);
  assert.deepEqual(ids(merged(some(3, 4), some(1, 2))), [1, 2, 3, 4]);
  assert.deepEqual(ids(merged(some(1, 5), some(3, 5, 7))), [1, 3, 5, 7]);
  assert.deepEqual(ids(merged([], some(2, 1, 2))), [1, 2]);
  assert.deepEqual(ids(merged(some(1), [])), [1]);
});

test("of two copies the one that knows more is kept", () => {
  const [old] = some(1);
  const edited = { ...old, lastEntryId: 9n } as Message;
  assert.equal(merged([edited], some(1))[0], edited);
  assert.equal(merged(some(1), [edited])[0], edited);
});

test("a message is found by its id", () => {
  const messages = some(1, 4, 9);
  for (const id of [1n, 4n, 9n]) assert.equal(find(messages, id)?.id, id);
  for (const id of [0n, 5n, 10n]) assert.equal(find(messages, id), undefined);
  assert.equal(find([], 1n), undefined);
});
