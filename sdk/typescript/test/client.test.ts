/** The client on top of the core: the page's view of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import type { Client } from "../src/client.js";
import { type ConnectOptions, connect } from "../src/connect.js";
import { ClientClosed, InsecureAddress, PermissionDenied, StoreMismatch, Unavailable } from "../src/errors.js";
import type { Event } from "../src/events.js";
import { IndexedDbStore } from "../src/indexeddb-store.js";
import { MemoryStore } from "../src/memory-store.js";
import { ChannelKind, MemberRole } from "../src/gen/chinwag/chat/v1/channel_pb.js";
import { MessageSchema } from "../src/gen/chinwag/chat/v1/message_pb.js";
import { eventOf, refusal } from "./model.js";
import { ScriptedServer, type ServerStream, login } from "./scripted-server.js";

globalThis.IDBKeyRange = IDBKeyRange;

function connected(server: ScriptedServer, options: ConnectOptions = {}): Promise<Client> {
  return connect("", login(), { transport: server.open, ...options });
}

function opened(id: string, startId: bigint, headCount: bigint, readCount = headCount) {
  const channel = { id, name: id, kind: ChannelKind.GROUP, generation: 1n, headId: startId, headCount };
  const state = { channelId: id, readId: startId, readCount, role: MemberRole.MEMBER };
  return eventOf({ case: "opened", value: { channel, startId, state } });
}

function message(channelId: string, id: bigint, text: string, timelineCount = id, actorId = "bob") {
  const kind = { case: "messageSent", value: { content: { text } } } as const;
  const createTime = { seconds: id };
  return eventOf({ case: "entry", value: { channelId, id, actorId, timelineCount, createTime, kind } });
}

async function take(client: Client, count: number): Promise<Event[]> {
  const found: Event[] = [];
  for await (const event of client.events()) {
    if (event.type !== "ConnectionChanged") found.push(event);
    if (found.length === count) {
      await client.commit(event);
      break;
    }
  }
  return found;
}

const texts = async (client: Client, id = "c") =>
  (await client.channel(id).kept()).map((kept) => kept.content?.text ?? "");

test("a page opens with yesterday's chat before the network answers", async () => {
  const indexedDB = new IDBFactory();
  const server = new ScriptedServer();
  const first = await connected(server, { store: new IndexedDbStore("a", { indexedDB }) });
  (await server.live()).send({ events: [opened("c", 0n, 0n), message("c", 1n, "hello"), message("c", 2n, "there")] });
  await take(first, 3);
  await first.close();

  const down: ConnectOptions = { transport: () => ({ unary: fails, stream: fails }) };
  const second = await connected(server, { ...down, store: new IndexedDbStore("a", { indexedDB }) });
  assert.deepEqual(await texts(second), ["hello", "there"]);
  const [summary] = second.channels.list();
  assert.equal(summary?.channel.name, "c");
  assert.equal(summary?.unreadCount, 2);
  assert.equal(summary?.lastMessage?.content?.text, "there");
  await second.close();
});

const fails = () => Promise.reject(new ConnectError("no network", Code.Unavailable));

test("what was sent offline is sent once by the next page", async () => {
  const indexedDB = new IDBFactory();
  const server = new ScriptedServer();
  const transport = () => ({ unary: fails, stream: fails });
  const first = await connected(server, { transport, store: new IndexedDbStore("a", { indexedDB }) });
  const posted = first.channel("c").post("late");
  assert.deepEqual(first.outbox.pending.map(({ content }) => content.text), ["late"]);
  await first.close();
  await assert.rejects(Promise.resolve(posted), ClientClosed);

  const second = await connected(server, { store: new IndexedDbStore("a", { indexedDB }) });
  assert.equal(second.unsent, 1);
  const stream = await server.live();
  await stream.until(() => stream.sends.length > 0);
  const [request] = stream.sends;
  assert.equal(request?.clientMessageId, posted.clientMessageId);
  stream.send({ results: [{ clientMessageId: posted.clientMessageId, channelId: "c", messageId: 7n }] });
  const [resolved] = await take(second, 1);
  assert.equal(resolved?.type === "SendResolved" && resolved.messageId, 7n);
  await second.close();
  const third = await connected(server, { store: new IndexedDbStore("a", { indexedDB }) });
  assert.equal(third.unsent, 0);
  await third.close();
});

test("a message that the store cannot keep does not go out", async () => {
  class FullStore extends MemoryStore {
    override addSend(): Promise<void> {
      return Promise.reject(new Error("disk full"));
    }
  }
  const server = new ScriptedServer();
  const client = await connected(server, { store: new FullStore() });
  const stream = await server.live();
  await assert.rejects(client.channel("c").send("x"), /disk full/);
  assert.equal(client.unsent, 0);
  client.channel("c").markRead(1n);
  await stream.until(() => stream.frames.some((frame) => frame.marks.length > 0));
  assert.equal(stream.sends.length, 0);
  await client.close();
});

test("unread is arithmetic, and follows events, own messages and marks", async () => {
  const server = new ScriptedServer();
  const client = await connected(server);
  const stream = await server.live();
  const unread = () => client.channels.get("c")?.unreadCount;
  let changes = 0;
  client.onChange(() => changes++);
  stream.send({ events: [opened("c", 4n, 4n, 1n)] });
  await take(client, 1);
  assert.equal(unread(), 3);
  stream.send({ events: [message("c", 5n, "x"), message("c", 6n, "y")] });
  await take(client, 2);
  assert.equal(unread(), 5);
  client.channel("c").markRead(6n);
  assert.equal(unread(), 0);
  stream.send({ events: [message("c", 7n, "z")] });
  await take(client, 1);
  assert.equal(unread(), 1);
  stream.send({ events: [message("c", 8n, "mine", 8n, "ada")] });
  await take(client, 1);
  assert.equal(unread(), 0);
  const state = { channelId: "c", readId: 6n, readCount: 6n };
  stream.send({ events: [eventOf({ case: "state", value: state })] });
  await take(client, 1);
  assert.equal(unread(), 2);
  assert.equal(client.channels.unreadCount, 2);
  assert(changes > 0);
  await client.close();
});

test("a refused message is listed, and can be sent again as a new one", async () => {
  const server = new ScriptedServer();
  const client = await connected(server);
  const stream = await server.live();
  const sending = client.channel("c").send("hello");
  await stream.until(() => stream.sends.length === 1);
  const clientMessageId = stream.sends[0]?.clientMessageId ?? "";
  stream.send({ results: [{ clientMessageId, channelId: "c", error: refusal("ROLE_REQUIRED", 7) }] });
  await assert.rejects(sending, PermissionDenied);
  const [failed] = client.outbox.failed;
  assert.deepEqual([failed?.content.text, failed?.error.reason], ["hello", "ROLE_REQUIRED"]);
  const again = client.outbox.retry(clientMessageId);
  assert.notEqual(again.clientMessageId, clientMessageId);
  assert.equal(client.outbox.failed.length, 0);
  await stream.until(() => stream.sends.length === 2);
  stream.send({ results: [{ clientMessageId: again.clientMessageId, channelId: "c", messageId: 1n }] });
  assert.equal((await again).messageId, 1n);
  await client.close();
});

test("what history reads is kept, but not over a change that came meanwhile", async () => {
  const page = { messages: [create(MessageSchema, { channelId: "c", id: 1n, content: { text: "one" }, lastEntryId: 1n })] };
  let answer = (_: typeof page) => {};
  const server = new ScriptedServer({ listMessages: () => new Promise((resolve) => (answer = resolve)) });
  const client = await connected(server);
  const stream = await server.live();
  stream.send({ events: [opened("c", 1n, 1n)] });
  await take(client, 1);
  const read = async () => {
    for await (const each of client.channel("c").history()) return each.content?.text;
    return undefined;
  };
  const first = read();
  await new Promise((resolve) => setImmediate(resolve));
  const kind = { case: "messageDeleted", value: { messageId: 1n } } as const;
  stream.send({ events: [eventOf({ case: "entry", value: { channelId: "c", id: 2n, kind } })] });
  await take(client, 1);
  answer(page);
  assert.equal(await first, "one");
  assert.deepEqual(await texts(client), []);
  const second = read();
  await new Promise((resolve) => setImmediate(resolve));
  answer(page);
  await second;
  assert.deepEqual(await texts(client), ["one"]);
  await client.close();
});

test("an event counts as taken when the next one is asked for", async () => {
  const store = new MemoryStore();
  const server = new ScriptedServer();
  const client = await connected(server, { store });
  (await server.live()).send({ events: [opened("c", 0n, 0n), message("c", 1n, "a"), message("c", 2n, "b")] });
  for await (const event of client.events()) {
    // The page ends while this one is in work.
    if (event.type === "MessageReceived" && event.messageId === 2n) break;
  }
  await client.close();
  assert.deepEqual((await store.load()).cursors, [{ channelId: "c", generation: 1n, id: 1n }]);
  const again = await connected(server, { store });
  const stream = await server.live();
  assert.equal(stream.frames[0]?.hello?.cursors[0]?.id, 1n);
  stream.send({ events: [message("c", 2n, "b")] });
  const [event] = await take(again, 1);
  assert.equal(event?.type === "MessageReceived" && event.text, "b");
  await again.close();
});

test("the loop ends when the client is closed, and throws what closed it", async () => {
  const server = new ScriptedServer();
  const client = await connected(server);
  await server.live();
  const reading = (async () => {
    for await (const event of client.events()) void event;
  })();
  await client.caughtUp();
  await client.close();
  await reading;

  const other = await connected(server);
  const stream: ServerStream = await server.live();
  stream.end(new ConnectError("banned", Code.PermissionDenied));
  await assert.rejects(async () => {
    for await (const event of other.events()) void event;
  }, PermissionDenied);
  assert.equal(other.connection, "closed");
  await other.close();
});

test("waiting for the server, or not", async () => {
  const server = new ScriptedServer();
  const transport = () => ({ unary: fails, stream: fails });
  await assert.rejects(connected(server, { transport, waitMs: 50 }), Unavailable);
  const client = await connected(server, { transport });
  while (client.connection !== "waiting" || client.retryAtMs === undefined) await new Promise(setImmediate);
  await client.close();
});

test("another user's session and an address in the clear are refused", async () => {
  const store = new MemoryStore();
  await store.bind("bob");
  await assert.rejects(connected(new ScriptedServer(), { store }), StoreMismatch);
  await assert.rejects(connect("http://chat.example.com", login()), InsecureAddress);
});

test("a client that drains waits for what is on its way", async () => {
  const server = new ScriptedServer();
  const client = await connected(server);
  const stream = await server.live();
  client.channel("c").post("x");
  await stream.until(() => stream.sends.length === 1);
  const closing = client.close({ drain: true });
  stream.send({ results: [{ clientMessageId: stream.sends[0]?.clientMessageId ?? "", channelId: "c", messageId: 1n }] });
  await closing;
  assert.equal(client.unsent, 0);
});
