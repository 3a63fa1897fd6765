/** One suite for both client stores, and what is special about each. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type MessageInitShape, create, toBinary } from "@bufbuild/protobuf";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { StoreMismatch } from "../src/errors.js";
import { type EntryEvent, type StoreEvent, ofEntry } from "../src/events.js";
import { IndexedDbStore } from "../src/indexeddb-store.js";
import { MemoryStore } from "../src/memory-store.js";
import { makeSend } from "../src/outbox.js";
import type { ClientStore, MessagesWanted } from "../src/store.js";
import { AccountEventSchema } from "../src/gen/chinwag/account/v1/events_pb.js";
import { ChannelKind, ChannelSchema, ChannelStateSchema } from "../src/gen/chinwag/chat/v1/channel_pb.js";
import { SendMessageRequestSchema } from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { EntrySchema } from "../src/gen/chinwag/chat/v1/entry_pb.js";
import { MessageSchema } from "../src/gen/chinwag/chat/v1/message_pb.js";
import { FakeLocks } from "./locks.js";

globalThis.IDBKeyRange = IDBKeyRange;

type EntryInit = MessageInitShape<typeof EntrySchema>;

function entry(id: number, kind: EntryInit["kind"], more: Partial<EntryInit> = {}): EntryEvent {
  const createTime = { seconds: BigInt(id) };
  const init = { channelId: "c", id: BigInt(id), actorId: "ada", createTime, kind, ...more };
  return ofEntry(create(EntrySchema, init as EntryInit), 1n);
}

const sent = (id: number, text: string, threadRootId = 0n) =>
  entry(id, { case: "messageSent", value: { content: { text }, threadRootId } });
const edited = (id: number, messageId: number, text: string) =>
  entry(id, { case: "messageEdited", value: { messageId: BigInt(messageId), content: { text } } });
const deleted = (id: number, messageId: number) =>
  entry(id, { case: "messageDeleted", value: { messageId: BigInt(messageId) } });
const cursor = (generation: bigint, id: bigint) => ({ channelId: "c", generation, id });

function send(number: number, clientMessageId: string) {
  const request = create(SendMessageRequestSchema, { channelId: "c", clientMessageId });
  return makeSend(number, request, 123.5, false);
}

function opened(kind: ChannelKind): StoreEvent {
  const channel = create(ChannelSchema, { id: "c", name: "friends", kind, generation: 1n });
  const state = create(ChannelStateSchema, { channelId: "c", readId: 4n });
  return { type: "ChannelOpened", channelId: "c", channel, state, cursor: cursor(1n, 4n) };
}

async function texts(store: ClientStore, wanted?: MessagesWanted): Promise<string[]> {
  return (await store.messages("c", wanted)).map((message) => message.content?.text ?? "");
}

const indexedDb = (indexedDB = new IDBFactory(), maxMessages?: number) =>
  new IndexedDbStore("test", { indexedDB, ...(maxMessages !== undefined && { maxMessages }) });

for (const [name, make] of [
  ["memory", () => new MemoryStore()],
  ["IndexedDB", () => indexedDb()],
] as [string, () => ClientStore][]) {
  describe(`a store: ${name}`, () => {
    test("is empty at first", async () => {
      const store = make();
      const empty = { cursors: [], stamp: "", accountCursor: "", sends: [] };
      assert.deepEqual(await store.load(), empty);
      assert.deepEqual(await store.messages("c"), []);
      assert.deepEqual(await store.channels(), []);
      assert.equal(await store.state("c"), undefined);
    });

    test("has cursors that follow the events", async () => {
      const store = make();
      const event = create(AccountEventSchema, { id: 1n, cursor: "a1" });
      const stamp: StoreEvent = { type: "StampReached", stamp: "s1" };
      await store.commit([sent(1, "a"), sent(2, "b"), stamp, { type: "AccountChanged", event }]);
      const gap = { channelId: "c", fromId: 3n, toId: 9n, cursor: cursor(1n, 9n) };
      await store.commit([{ type: "GapSeen", ...gap }]);
      const saved = await store.load();
      assert.deepEqual(saved.cursors, [cursor(1n, 9n)]);
      assert.deepEqual([saved.stamp, saved.accountCursor], ["s1", "a1"]);
    });

    test("keeps the outbox in order", async () => {
      const store = make();
      for (const [number, id] of [[3, "c"], [1, "a"], [2, "b"]] as const) {
        await store.addSend(send(number, id));
      }
      await store.removeSends(["b", "unknown"]);
      const left = (await store.load()).sends;
      assert.deepEqual(
        left.map((each) => [each.number, each.request.clientMessageId, each.createTimeMs, each.isKept]),
        [[1, "a", 123.5, true], [3, "c", 123.5, true]],
      );
    });

    test("gives messages in pages", async () => {
      const store = make();
      await store.commit([...Array(9).keys()].map((index) => sent(index + 1, String(index + 1))));
      assert.deepEqual(await texts(store, { limit: 3 }), ["7", "8", "9"]);
      assert.deepEqual(await texts(store, { beforeId: 7n, limit: 3 }), ["4", "5", "6"]);
      assert.deepEqual(await texts(store, { beforeId: 1n }), []);
    });

    test("applies edits and reactions, a repeat changes nothing", async () => {
      const store = make();
      const kind = { case: "reactionAdded", value: { messageId: 1n, emoji: "+1" } } as const;
      const events = [sent(1, "helo"), edited(2, 1, "hello"), entry(3, kind)];
      await store.commit(events);
      await store.commit(events.slice(1));
      const [message] = await store.messages("c");
      assert.equal(message?.content?.text, "hello");
      assert.equal(message?.editTime?.seconds, 2n);
      assert.equal(message?.lastEntryId, 3n);
      assert.deepEqual(message?.reactions.map((r) => [r.emoji, r.count, r.userIds]), [["+1", 1n, ["ada"]]]);
      const back = { case: "reactionRemoved", value: { messageId: 1n, emoji: "+1" } } as const;
      await store.commit([entry(4, back), edited(5, 77, "of an unknown one")]);
      assert.deepEqual((await store.messages("c"))[0]?.reactions, []);
    });

    test("takes the text out with a deletion", async () => {
      const store = make();
      await store.commit([sent(1, "secret"), edited(2, 1, "secret too"), deleted(3, 1)]);
      const [message] = await store.messages("c");
      assert(message !== undefined);
      assert.equal(message.content, undefined);
      assert.equal(message.deleteTime?.seconds, 3n);
      assert(!Buffer.from(toBinary(MessageSchema, message)).includes("secret"));
    });

    test("takes redacted entries", async () => {
      const store = make();
      const redacted = { redacted: true };
      await store.commit([entry(1, { case: "messageSent", value: {} }, redacted), entry(2, { case: undefined }, redacted)]);
      assert.equal((await store.messages("c"))[0]?.content, undefined);
    });

    test("parts threads from the timeline", async () => {
      const store = make();
      await store.commit([sent(1, "root"), sent(2, "reply", 1n), sent(3, "more", 1n)]);
      assert.deepEqual(await texts(store), ["root"]);
      assert.deepEqual(await texts(store, { threadRootId: 1n }), ["reply", "more"]);
      const [root] = await store.messages("c");
      assert.deepEqual([root?.thread?.replyCount, root?.thread?.lastReplyId], [2n, 3n]);
    });

    test("keeps channels and registers", async () => {
      const store = make();
      await store.commit([opened(ChannelKind.GROUP)]);
      assert.deepEqual((await store.load()).cursors, [cursor(1n, 4n)]);
      const channel = { id: "c", name: "enemies", kind: ChannelKind.GROUP };
      const updated = entry(5, { case: "channelUpdated", value: { channel, changedFields: ["name"] } });
      const state = create(ChannelStateSchema, { channelId: "c", readId: 5n });
      await store.commit([updated, { type: "StateChanged", channelId: "c", state }]);
      const known = await store.channels();
      assert.deepEqual(known.map((c) => [c.id, c.name, c.generation]), [["c", "enemies", 1n]]);
      assert.equal((await store.state("c"))?.readId, 5n);
      await store.commit([entry(6, { case: "channelDeleted", value: {} })]);
      assert.equal((await store.channels())[0]?.deleteTime?.seconds, 6n);
    });

    test("has no cursor for a broadcast channel that nobody looks at", async () => {
      const store = make();
      await store.commit([opened(ChannelKind.BROADCAST)]);
      assert.deepEqual((await store.load()).cursors, []);
    });

    test("drops with resets what is void", async () => {
      const store = make();
      await store.commit([opened(ChannelKind.GROUP), sent(5, "a")]);
      const reset = { type: "ChannelReset", channelId: "c" } as const;
      await store.commit([{ ...reset, reason: "GENERATION", cursor: cursor(2n, 3n) }]);
      assert.deepEqual((await store.load()).cursors, [cursor(2n, 3n)]);
      assert.deepEqual(await texts(store), []);
      assert.equal((await store.channels()).length, 1);
      await store.commit([{ ...reset, reason: "NOT_VISIBLE", cursor: undefined }]);
      assert.deepEqual((await store.load()).cursors, []);
      assert.deepEqual(await store.channels(), []);
      assert.equal(await store.state("c"), undefined);
    });

    test("keeps what was read from the server unless it has something newer", async () => {
      const store = make();
      await store.commit([sent(5, "five"), edited(6, 5, "newer")]);
      const read = (id: bigint, text: string, lastEntryId = id) =>
        create(MessageSchema, { channelId: "c", id, content: { text }, lastEntryId });
      await store.keepMessages([read(3n, "three"), read(5n, "five")]);
      assert.deepEqual(await texts(store), ["three", "newer"]);
      await store.keepMessages([read(5n, "newest", 9n)]);
      assert.deepEqual(await texts(store), ["three", "newest"]);
    });

    test("is one user's", async () => {
      const store = make();
      await store.bind("ada");
      await store.bind("ada");
      await assert.rejects(store.bind("bob"), StoreMismatch);
    });
  });
}

test("memory is bounded", async () => {
  const events = [...Array(8).keys()].map((index) => sent(index + 1, String(index + 1)));
  const store = new MemoryStore({ maxMessages: 3 });
  await store.commit(events);
  assert.deepEqual(await texts(store), ["6", "7", "8"]);
  const none = new MemoryStore({ maxMessages: 0 });
  await none.commit(events);
  assert.deepEqual(await texts(none), []);
});

test("a database is there again after it was closed, and bounded", async () => {
  const factory = new IDBFactory();
  const store = indexedDb(factory);
  await store.bind("ada");
  await store.addSend(send(1, "a"));
  await store.commit([...Array(9).keys()].map((index) => sent(index + 1, String(index + 1))));
  await store.close();
  const again = indexedDb(factory, 4);
  const saved = await again.load();
  assert.equal(saved.sends.length, 1);
  assert.deepEqual(saved.cursors, [cursor(1n, 9n)]);
  assert.deepEqual(await texts(again), ["6", "7", "8", "9"]);
  await assert.rejects(again.bind("bob"), StoreMismatch);
});

test("a commit takes effect whole or not at all", async () => {
  const store = indexedDb();
  await store.commit([sent(1, "a")]);
  const broken = { ...sent(3, "c"), cursor: { channelId: undefined as never, generation: 1n, id: 3n } };
  await assert.rejects(store.commit([sent(2, "b"), broken]));
  assert.deepEqual(await texts(store), ["a"]);
  assert.deepEqual((await store.load()).cursors, [cursor(1n, 1n)]);
});

test("two tabs do not get one database", async () => {
  const factory = new IDBFactory();
  const locks = new FakeLocks();
  const first = new IndexedDbStore("one", { indexedDB: factory, locks });
  await first.load();
  const second = new IndexedDbStore("one", { indexedDB: factory, locks: locks.impatient() });
  await assert.rejects(second.load(), StoreMismatch);
  await first.close();
  const third = new IndexedDbStore("one", { indexedDB: factory, locks });
  await third.load();
});
