/** Unary calls and native gRPC against a server of connect-node; tokens and several addresses. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { WebSocket } from "ws";
import { Calls } from "../src/calls.js";
import { Unauthenticated, Unavailable } from "../src/errors.js";
import { FrameQueue } from "../src/frames.js";
import { nodeTransport } from "../src/node.js";
import { openRoutes } from "../src/routes.js";
import { Session, SessionCredential, logIn } from "../src/session.js";
import { type WebTransportOptions, webTransport } from "../src/transports.js";
import { AccountService } from "../src/gen/chinwag/account/v1/account_service_pb.js";
import { TokensSchema } from "../src/gen/chinwag/account/v1/user_pb.js";
import { ChatService } from "../src/gen/chinwag/chat/v1/chat_service_pb.js";
import { ConnectRequestSchema } from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { FakeClock } from "./clock.js";

const asked: { method: string; token: string; requestId: string }[] = [];
let refreshes = 0;

function refused(reason: string, code: Code): ConnectError {
  const value = { reason, domain: "chinwag" };
  return new ConnectError("refused", code, undefined, [{ desc: ErrorInfoSchema, value }]);
}

function routes(router: ConnectRouter): void {
  router.service(ChatService, {
    getChannel(request, context) {
      const token = context.requestHeader.get("authorization") ?? "";
      asked.push({ method: "getChannel", token, requestId: "" });
      if (token === "Bearer old") throw refused("TOKEN_EXPIRED", Code.Unauthenticated);
      return { channel: { channel: { id: request.channelId } } };
    },
    editMessage(request) {
      asked.push({ method: "editMessage", token: "", requestId: request.requestId });
      if (asked.filter(({ method }) => method === "editMessage").length < 3) {
        throw refused("STORAGE_UNAVAILABLE", Code.Unavailable);
      }
      return { message: { id: request.messageId } };
    },
    async *connect(requests) {
      for await (const { ping } of requests) if (ping !== undefined) yield { pong: { id: ping.id } };
    },
  });
  router.service(AccountService, {
    logIn: () => ({ tokens: { userId: "ada", deviceId: "d", accessToken: "old", refreshToken: "r1" } }),
    async refreshToken() {
      refreshes++;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return { tokens: create(TokensSchema, { accessToken: "new", refreshToken: "r2" }) };
    },
  });
}

let web: Server;
let grpc: Server;
const at = (server: Server) => `127.0.0.1:${(server.address() as AddressInfo).port}`;
before(async () => {
  web = createServer(connectNodeAdapter({ routes })).listen(0, "127.0.0.1");
  grpc = createHttp2Server(connectNodeAdapter({ routes })).listen(0, "127.0.0.1");
  await Promise.all([once(web, "listening"), once(grpc, "listening")]);
});
after(() => {
  web.close();
  grpc.close();
});

const ofWeb = (more: WebTransportOptions = {}) =>
  webTransport({ WebSocket: WebSocket, ...more });

for (const [name, options] of [
  ["our own", {}],
  ["that of connect-web", { unary: createGrpcWebTransport }],
] as [string, WebTransportOptions][]) {
  test(`gRPC-Web over fetch: ${name}`, async () => {
    const client = createClient(ChatService, ofWeb(options)(`http://${at(web)}`));
    assert.equal((await client.getChannel({ channelId: "c" })).channel?.channel?.id, "c");
    const headers = { authorization: "Bearer old" };
    const error = await client.getChannel({}, { headers }).catch((thrown: unknown) => ConnectError.from(thrown));
    assert(error instanceof ConnectError);
    assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "TOKEN_EXPIRED");
    const late = AbortSignal.abort();
    await assert.rejects(client.getChannel({}, { signal: late }), { code: Code.Canceled });
  });
}

test("native gRPC, both ways at once", async () => {
  const transport = nodeTransport()(`http://${at(grpc)}`);
  const client = createClient(ChatService, transport);
  assert.equal((await client.getChannel({ channelId: "c" })).channel?.channel?.id, "c");
  const up = new FrameQueue();
  const answers = client.connect(up)[Symbol.asyncIterator]();
  for (const id of [1n, 2n]) {
    up.put([create(ConnectRequestSchema, { ping: { id } })]);
    const next = await answers.next();
    assert.equal(!next.done && next.value.pong?.id, id);
  }
  up.end();
  assert.equal((await answers.next()).done, true);
  transport.close?.();
});

test("a call goes to the next node if one is away", async () => {
  const routed = openRoutes(["127.0.0.1:1", at(web)], ofWeb(), false);
  for (let time = 0; time < 5; time++) {
    const answer = await new Calls(routed).call(ChatService.method.getChannel, { channelId: "c" });
    assert.equal(answer.channel?.channel?.id, "c");
  }
  assert.equal(routed.endpoints.current, at(web));
  const none = openRoutes("127.0.0.1:1", ofWeb(), false);
  const call = new Calls(none).call(ChatService.method.getChannel, {}, { timeoutMs: 100 });
  await assert.rejects(call, Unavailable);
});

test("a call that changes something is made again under the same request_id", async () => {
  const calls = new Calls(openRoutes(at(web), ofWeb(), false));
  const request = { channelId: "c", messageId: 7n };
  assert.equal((await calls.call(ChatService.method.editMessage, request)).message?.id, 7n);
  const ids = asked.filter(({ method }) => method === "editMessage").map(({ requestId }) => requestId);
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
  assert.match(ids[0] ?? "", /^[0-9a-f]{32}$/);
});

test("an expired token is refreshed, once for all calls, and kept before it is used", async () => {
  const session = await logIn(at(web), "ada", "secret pass", { transport: ofWeb() });
  assert.deepEqual([session.userId, session.address], ["ada", at(web)]);
  const kept: string[] = [];
  session.onTokens = ({ refreshToken }) => void kept.push(refreshToken);
  const routed = openRoutes(session.address, ofWeb(), false);
  const calls = new Calls(routed, { credential: new SessionCredential(session, routed) });
  refreshes = 0;
  await Promise.all([1, 2, 3].map(() => calls.call(ChatService.method.getChannel, { channelId: "c" })));
  assert.equal(refreshes, 1);
  assert.deepEqual(kept, ["r2"]);
  assert.equal(asked.at(-1)?.token, "Bearer new");
  const copy = Session.fromJSON(JSON.stringify(session));
  assert.deepEqual(copy.toJSON(), session.toJSON());
  assert.throws(() => Session.fromJSON("{}"), TypeError);
});

test("a token is refreshed before its end; a source gives tokens where there is no refresh token", async () => {
  const clock = new FakeClock();
  const seconds = (ms: number) => ({ seconds: BigInt(Math.floor((clock.time() + ms) / 1000)) });
  const tokens = (accessToken: string) =>
    create(TokensSchema, { userId: "ada", deviceId: "d", accessToken, accessExpireTime: seconds(300_000) });
  const session = Session.of(tokens("a1"));
  const credential = new SessionCredential(session, openRoutes("127.0.0.1:1", ofWeb(), false), clock);
  assert.equal(await credential.token(), "a1");
  clock.advance(250_000);
  await assert.rejects(credential.token(), Unauthenticated);
  session.source = () => Promise.resolve(tokens("a2"));
  assert.equal(await credential.token(), "a2");
});
