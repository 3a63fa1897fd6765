/** The transport over WebSockets, against a scripted server. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { WebSocket } from "ws";
import { fromTransport } from "../src/errors.js";
import type { WebSocketConstructor } from "../src/websocket-call.js";
import { type WebSocketTransportOptions, createWebSocketTransport } from "../src/websocket-transport.js";
import {
  ChatService,
  GetChannelRequestSchema,
  GetChannelResponseSchema,
  StreamEventsResponseSchema,
} from "../src/gen/chinwag/chat/v1/chat_service_pb.js";
import {
  ConnectRequestSchema,
  type ConnectResponse,
  ConnectResponseSchema,
} from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { FrameQueue } from "../src/frames.js";
import { refusal } from "./model.js";
import { HEADERS, OK, ScriptedWebSockets, block, envelope } from "./websocket-server.js";

let server: ScriptedWebSockets;
before(async () => {
  server = await ScriptedWebSockets.start();
});
after(() => {
  server.close();
});

function client(more: Partial<WebSocketTransportOptions> = {}) {
  const transport = createWebSocketTransport({
    baseUrl: server.baseUrl,
    WebSocket: WebSocket,
    ...more,
  });
  return createClient(ChatService, transport);
}

const channel = (id: string) =>
  envelope(0, toBinary(GetChannelResponseSchema, create(GetChannelResponseSchema, { channel: { channel: { id } } })));
const frame = (id: bigint) =>
  envelope(0, toBinary(ConnectResponseSchema, create(ConnectResponseSchema, { pong: { id } })));
const ping = (id: bigint) => create(ConnectRequestSchema, { ping: { id } });

async function codeOf(work: Promise<unknown>): Promise<Code> {
  try {
    await work;
  } catch (error) {
    return ConnectError.from(error).code;
  }
  throw new Error("it did not fail");
}

async function all<T>(answers: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const answer of answers) found.push(answer);
  return found;
}

describe("the four kinds of methods", () => {
  test("unary: metadata in the first frame, then the message, then the end of sending", async () => {
    const headers = { authorization: "Bearer t1", "x-more": "1" };
    const asked = client().getChannel({ channelId: "c" }, { headers, timeoutMs: 5000 });
    const call = await server.call();
    await call.until(() => call.isFinished);
    assert.equal(call.path, "/chinwag.chat.v1.ChatService/GetChannel");
    assert.equal(call.socket.protocol, "grpc-websockets");
    for (const line of [
      "authorization: Bearer t1",
      "x-more: 1",
      "content-type: application/grpc-web+proto",
      "x-grpc-web: 1",
      "grpc-timeout: 5000m",
    ]) {
      assert(call.metadata.includes(line), `${line} is not in ${call.metadata.join(", ")}`);
    }
    assert.equal(call.frames.length, 3);
    assert.equal(fromBinary(GetChannelRequestSchema, call.messages[0] as Buffer).channelId, "c");
    call.end(Buffer.concat([HEADERS, channel("c"), OK]));
    assert.equal((await asked).channel?.channel?.id, "c");
  });

  test("server streaming, in frames that are cut anywhere", async () => {
    const asked = all(client().streamEvents({ cursor: "" }));
    const call = await server.call();
    await call.until(() => call.isFinished);
    const batch = (cursor: string) =>
      envelope(0, toBinary(StreamEventsResponseSchema, create(StreamEventsResponseSchema, { cursor })));
    const bytes = Buffer.concat([HEADERS, batch("a"), batch("b"), batch(""), OK]);
    call.send(bytes, 3);
    call.socket.close(1000);
    assert.deepEqual((await asked).map(({ cursor }) => cursor), ["a", "b", ""]);
  });

  test("client streaming", async () => {
    const method = { ...ChatService.method.connect, methodKind: "client_streaming" as const };
    const service = { ...ChatService, methods: [method], method: { connect: method } };
    const transport = createWebSocketTransport({
      baseUrl: server.baseUrl,
      WebSocket: WebSocket,
    });
    const calls = createClient(service as never, transport) as unknown as {
      connect(input: AsyncIterable<unknown>): Promise<ConnectResponse>;
    };
    async function* pings() {
      yield ping(1n);
      yield ping(2n);
    }
    const asked = calls.connect(pings());
    const call = await server.call();
    await call.until(() => call.isFinished);
    assert.equal(call.messages.length, 2);
    call.end(Buffer.concat([HEADERS, frame(3n), OK]));
    assert.equal((await asked).pong?.id, 3n);
  });

  test("both ways at once: each answers the other", async () => {
    const up = new FrameQueue();
    const answers = client().connect(up)[Symbol.asyncIterator]();
    up.put([ping(1n)]);
    const first = answers.next();
    const call = await server.call();
    await call.until(() => call.messages.length === 1);
    call.send(Buffer.concat([HEADERS, frame(1n)]));
    assert.equal(((await first).value as ConnectResponse).pong?.id, 1n);
    up.put([ping(2n)]);
    await call.until(() => call.messages.length === 2);
    up.end();
    await call.until(() => call.isFinished);
    call.end(Buffer.concat([frame(2n), OK]));
    assert.equal(((await answers.next()).value as ConnectResponse).pong?.id, 2n);
    assert.equal((await answers.next()).done, true);
  });
});

describe("what goes wrong", () => {
  test("a status with details", async () => {
    const asked = client().getChannel({ channelId: "c" });
    const call = await server.call();
    const status = refusal("RATE_LIMITED", 8, { retrySeconds: 1.5, metadata: { a: "b" } });
    const details = Buffer.from(toBinary(StatusSchema, status)).toString("base64");
    const trailer = `grpc-status:8\r\ngrpc-message:too%20fast\r\ngrpc-status-details-bin:${details}\r\n`;
    call.end(Buffer.concat([HEADERS, block(trailer)]));
    const error = fromTransport(await asked.catch((thrown: unknown) => thrown));
    assert.deepEqual([error.code, error.reason, error.retryAfterMs], [8, "RATE_LIMITED", 1500]);
    assert.deepEqual(error.metadata, { a: "b" });
  });

  test("a refusal before anything was sent: 101 goes out before the token is looked at", async () => {
    const asked = all(client().connect(new FrameQueue()));
    const call = await server.call();
    call.end(block("grpc-status:16\r\ngrpc-message:Jwt%20is%20expired\r\n"));
    assert.equal(await codeOf(asked), Code.Unauthenticated);
  });

  test("an unclean close: the call may have been carried out or not", async () => {
    const asked = client().getChannel({ channelId: "c" });
    const call = await server.call();
    call.send(HEADERS);
    call.socket.terminate();
    assert.equal(await codeOf(asked), Code.Unavailable);
  });

  test("a clean close without a status", async () => {
    const asked = client().getChannel({ channelId: "c" });
    (await server.call()).end(HEADERS);
    assert.equal(await codeOf(asked), Code.Unavailable);
  });

  test("nobody there", async () => {
    assert.equal(await codeOf(client({ baseUrl: "http://127.0.0.1:1" }).getChannel({})), Code.Unavailable);
  });

  test("text frames, compressed and too long messages", async () => {
    const send = async (what: string | Buffer, more = {}) => {
      const asked = client(more).getChannel({ channelId: "c" });
      (await server.call()).socket.send(what);
      return await codeOf(asked);
    };
    assert.equal(await send("text"), Code.Internal);
    assert.equal(await send(envelope(1, Buffer.from("x"))), Code.Internal);
    assert.equal(await send(envelope(0, Buffer.alloc(100)), { maxMessageBytes: 99 }), Code.ResourceExhausted);
  });
});

describe("bounds", () => {
  test("cancelling closes the WebSocket", async () => {
    const cancel = new AbortController();
    const asked = all(client().connect(new FrameQueue(), { signal: cancel.signal }));
    const call = await server.call();
    await call.until(() => call.frames.length === 1);
    cancel.abort();
    assert.equal(await codeOf(asked), Code.Canceled);
    await call.until(() => call.closeCode !== undefined);
  });

  test("a deadline ends the call on this side too", async () => {
    const asked = client().getChannel({ channelId: "c" }, { timeoutMs: 50 });
    const call = await server.call();
    assert.equal(await codeOf(asked), Code.DeadlineExceeded);
    await call.until(() => call.closeCode !== undefined);
  });

  test("nothing is given to a WebSocket in which enough waits", async () => {
    let most = 0;
    class Watched extends WebSocket {
      override send(data: Buffer): void {
        // What is looked at is what waited when another message was given to it.
        most = Math.max(most, this.bufferedAmount);
        super.send(data);
      }
    }
    const large = "x".repeat(50_000);
    const sends = [{ channelId: "c", content: { text: large } }];
    let taken = 0;
    async function* flood() {
      for (; taken < 400; taken++) yield create(ConnectRequestSchema, { sends });
    }
    const options = { highWaterBytes: 200_000, WebSocket: Watched as WebSocketConstructor };
    const cancel = new AbortController();
    const asked = all(client(options).connect(flood(), { signal: cancel.signal }));
    const call = await server.call();
    call.socket.pause();
    // The kernel's buffers fill first; then the client waits, and takes no more of the application.
    let before = -1;
    while (before !== taken) {
      before = taken;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    assert(taken < 400, "everything was taken");
    call.socket.resume();
    await call.until(() => call.messages.length === 400);
    assert(most <= 200_000, `${most} bytes waited`);
    call.end(OK);
    assert.deepEqual(await asked, []);
  });

  test("a reader that does not read is ended", async () => {
    const answers = client({ maxBufferedBytes: 1000 }).connect(new FrameQueue())[Symbol.asyncIterator]();
    const first = answers.next();
    const call = await server.call();
    call.send(Buffer.concat([HEADERS, frame(1n)]));
    await first;
    for (let id = 0n; id < 300n; id++) call.send(frame(id));
    await call.until(() => call.closeCode !== undefined);
    const rest = (async () => {
      while (!(await answers.next()).done);
    })();
    assert.equal(await codeOf(rest), Code.ResourceExhausted);
  });
});
