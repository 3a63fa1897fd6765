/**
 * The client through the real Envoy and its bridge: streams over WebSocket, unary calls over gRPC-Web.
 *
 * CHINWAG_URL says where; tests/sdk_typescript/test_envoy.py starts both and this.
 */

import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { WebSocket } from "ws";
import {
  AccountService,
  ChatService,
  type Client,
  type Event,
  type MessageReceived,
  NotFound,
  type WebTransportOptions,
  connect,
  createWebSocketTransport,
  logIn,
  signUp,
  webTransport,
} from "../../src/index.js";

const url = process.env["CHINWAG_URL"] ?? "";
const over = (more: WebTransportOptions = {}) => webTransport({ WebSocket, ...more });
const MESSAGES = 300;
const PASSWORD = "correct horse battery";
const run = Math.random().toString(36).slice(2, 8);

async function messages(client: Client, count: number): Promise<MessageReceived[]> {
  const found: MessageReceived[] = [];
  for await (const event of client.events() as AsyncIterable<Event>) {
    if (event.type === "MessageReceived") found.push(event);
    if (found.length < count) continue;
    await client.commit(event);
    break;
  }
  return found;
}

// --- the client, each unary way ---

const transport = over();
const sockets = over({ unary: "websocket" });
const ada = await connect("", await signUp(url, `ada${run}`, PASSWORD, { transport }), { transport, waitMs: 10_000 });
const login = await signUp(url, `bob${run}`, PASSWORD, { transport: sockets });
const bob = await connect("", login, { transport: sockets, waitMs: 10_000 });
await Promise.all([ada.caughtUp(), bob.caughtUp()]);

const group = await ada.createGroup("friends", [bob.userId]);
const large = "x".repeat(90_000);
const sends = [...Array(MESSAGES).keys()].map((number) => group.send(number % 50 === 0 ? large : String(number)));
const [atBob, sent] = await Promise.all([messages(bob, MESSAGES), Promise.all(sends)]);
assert.deepEqual(atBob.map(({ messageId }) => messageId), sent.map(({ messageId }) => messageId));
assert.equal(atBob[50]?.text, large);
assert.equal(bob.channels.get(group.id)?.unreadCount, MESSAGES);

await bob.channel(group.id).send("back");
const back = (await messages(ada, MESSAGES + 1)).at(-1);
assert.equal(back?.text, "back");

const history: string[] = [];
for await (const message of bob.channel(group.id).history({ limit: 3 })) history.push(message.content?.text ?? "");
assert.deepEqual(history, ["back", String(MESSAGES - 1), String(MESSAGES - 2)]);
await assert.rejects(ada.channel("nowhere").view(), (error) => {
  return error instanceof NotFound && error.reason === "CHANNEL_NOT_FOUND";
});

// --- what a break leads to ---

const missed = bob.session;
await bob.close();
await group.send("while away");
const again = await connect("", missed, { transport: sockets, store: bob.store });
const missing = (await messages(again, 2)).map(({ text }) => text);
assert.deepEqual(missing, ["back", "while away"]);

// --- removed, and added again: the view begins anew ---

await group.removeMember(again.userId);
await group.send("not for bob");
await group.addMembers([again.userId]);
await group.send("welcome back");
const seen: string[] = [];
for await (const event of again.events()) {
  if (!("entry" in event) && event.type !== "ChannelOpened") continue;
  seen.push(event.type);
  if (event.type !== "MessageReceived") continue;
  assert.equal(event.text, "welcome back");
  await again.commit(event);
  break;
}
assert.deepEqual(seen, ["MembersChanged", "ChannelOpened", "MembersChanged", "MessageReceived"]);

// --- the transport by itself ---

const raw = createWebSocketTransport({ baseUrl: url, WebSocket });
const chat = createClient(ChatService, raw);
const account = createClient(AccountService, raw);
const headers = { authorization: `Bearer ${ada.session.accessToken}` };
assert.equal((await account.getMe({}, { headers })).user?.id, ada.userId);

const without = await account.getMe({}).catch((error: unknown) => ConnectError.from(error));
assert(without instanceof ConnectError && without.code === Code.Unauthenticated);

// A server stream: a user's token may not, and the status comes with its details.
const feed = (async () => {
  for await (const batch of chat.streamEvents({}, { headers })) void batch;
})();
await assert.rejects(feed, (error) => ConnectError.from(error).code === Code.PermissionDenied);

// Of a device of its own, so that nobody is replaced.
const other = await logIn(url, `ada${run}`, PASSWORD, { transport });
const cancel = new AbortController();
async function* hello() {
  yield { hello: { protocolVersion: 1, client: "test" } };
  await new Promise((resolve) => cancel.signal.addEventListener("abort", resolve));
}
const authorization = { authorization: `Bearer ${other.accessToken}` };
const stream = chat.connect(hello(), { headers: authorization, signal: cancel.signal })[Symbol.asyncIterator]();
const welcome = await stream.next();
assert(!welcome.done && welcome.value.welcome?.userId === ada.userId);
cancel.abort();
await assert.rejects(async () => {
  while (!(await stream.next()).done);
}, (error) => ConnectError.from(error).code === Code.Canceled);

await Promise.all([ada.close(), again.close()]);
console.log("ok");
process.exit(0);
