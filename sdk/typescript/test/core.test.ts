/** The rules of the core, one by one; `protocol-random` has them all at once. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { baseUrl, parseAddresses } from "../src/addresses.js";
import { Backoff } from "../src/backoff.js";
import { contentOf } from "../src/content.js";
import { Endpoints } from "../src/endpoints.js";
import { ChinwagError, InsecureAddress, InvalidArgument, SendExpired, Unauthenticated, Unavailable } from "../src/errors.js";
import { MessageIds } from "../src/ids.js";
import { Inbox } from "../src/inbox.js";
import { Marks } from "../src/marks.js";
import { EXPIRE_MS, Outbox } from "../src/outbox.js";
import { DeviceProtocol, type Output } from "../src/protocol.js";
import { MAX_GUIDED_MS, Reconnect } from "../src/reconnect.js";
import { mayFollow } from "../src/redirect.js";
import { ChannelStateSchema } from "../src/gen/chinwag/chat/v1/channel_pb.js";
import { type SendMessageRequest, SendMessageRequestSchema, SendResultSchema } from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { CloseReason, CloseSchema } from "../src/gen/chinwag/common/v1/close_pb.js";
import { FakeClock, seeded } from "./clock.js";
import { answerOf, refusal } from "./model.js";

const NODES = ["one:1", "two:1", "three:1"];
const request = (clientMessageId: string, channelId = "c"): SendMessageRequest =>
  create(SendMessageRequestSchema, { channelId, clientMessageId });

describe("addresses", () => {
  test("one or several", () => {
    assert.deepEqual(parseAddresses("a:1, b:2,a:1"), ["a:1", "b:2"]);
    assert.deepEqual(parseAddresses(["https://a/", "b:2"]), ["https://a", "b:2"]);
    for (const bad of ["", "a,,b", "a b"]) assert.throws(() => parseAddresses(bad), TypeError);
  });

  test("plain http is for loopback, or for a network that is trusted", () => {
    assert.equal(baseUrl("localhost:7400"), "http://localhost:7400");
    assert.equal(baseUrl("127.0.0.1:7400"), "http://127.0.0.1:7400");
    assert.equal(baseUrl("chat.example.com:443"), "https://chat.example.com:443");
    assert.equal(baseUrl("https://chat.example.com/"), "https://chat.example.com");
    assert.equal(baseUrl("http://chat.example.com", true), "http://chat.example.com");
    assert.throws(() => baseUrl("http://chat.example.com"), InsecureAddress);
    assert.throws(() => baseUrl("http://127.0.0.1.evil.example"), InsecureAddress);
    assert.throws(() => baseUrl("https://a:b@c"), TypeError);
  });

  test("a server's address is followed only if it is one's own, or allowed, and never to plain text", () => {
    const own = mayFollow(["a:1"], false, undefined);
    assert.deepEqual(["a:1", "b:1"].map(own), [true, false]);
    const allowed = mayFollow(["a:1"], false, () => true);
    assert.deepEqual(["b:1", "http://b:1", "localhost:1"].map(allowed), [true, false, false]);
  });
});

describe("endpoints and back-off", () => {
  test("waits are drawn below a bound that doubles", () => {
    const backoff = new Backoff(() => 0.999, 500, 3000);
    assert.deepEqual([1, 2, 3, 4, 5].map(() => Math.round(backoff.next())), [500, 999, 1998, 2997, 2997]);
    backoff.reset();
    assert.equal(Math.round(backoff.next()), 500);
  });

  test("each address is tried at once but once a break", () => {
    const clock = new FakeClock();
    const endpoints = new Endpoints(NODES, seeded(1), () => clock.monotonic());
    const tried = [endpoints.current];
    const gone = () => endpoints.ended(endpoints.current, new Unavailable("gone", { code: 14 }));
    assert.equal(gone(), true);
    tried.push(endpoints.current);
    assert.equal(gone(), true);
    tried.push(endpoints.current);
    assert.deepEqual([...tried].sort(), [...NODES].sort());
    assert.equal(gone(), false);
    endpoints.works("two:1");
    assert.equal(endpoints.order()[0], "two:1");
  });
});

describe("reconnecting", () => {
  const make = (own = ["one:1", "two:1"]) => {
    const clock = new FakeClock();
    const endpoints = new Endpoints(own, () => 0, () => clock.monotonic());
    return new Reconnect(() => 0.5, endpoints);
  };
  const close = (more: object) => create(CloseSchema, { reason: CloseReason.OVERLOADED, reconnect: true, ...more });

  test("guidance: when, where, and never", () => {
    const plan = make().guided(close({ minDelay: { seconds: 2n }, jitter: { seconds: 4n } }));
    assert(!(plan instanceof ChinwagError));
    assert.deepEqual([plan.delayMs, plan.leastMs, plan.address], [4000, 4000, "one:1"]);
    const moved = make().guided(close({ address: "two:1", jitter: { seconds: 1n } }));
    assert(!(moved instanceof ChinwagError));
    assert.equal(moved.address, "two:1");
    const away = make().guided(close({ address: "evil:1", jitter: { seconds: 1n } }));
    assert(!(away instanceof ChinwagError));
    assert.equal(away.address, "one:1");
    const never = make().guided(create(CloseSchema, { reason: CloseReason.BANNED }));
    assert(never instanceof ChinwagError);
    assert.equal(never.reason, "BANNED");
    const long = make().guided(close({ minDelay: { seconds: 1_000_000n }, jitter: { seconds: 0n } }));
    assert(!(long instanceof ChinwagError));
    assert(long.delayMs <= MAX_GUIDED_MS + 1000);
  });

  test("a token is refreshed once, then it is for good", () => {
    const reconnect = make();
    const refused = new Unauthenticated("expired", { reason: "TOKEN_EXPIRED", code: 16 });
    const plan = reconnect.broken(refused);
    assert(!(plan instanceof ChinwagError));
    assert.equal(plan.newToken, true);
    assert.equal(reconnect.broken(refused), refused);
  });
});

describe("the outbox", () => {
  const posted = (outbox: Outbox, ...names: string[]) =>
    names.map((name) => {
      const send = outbox.post(request(name, name[0]), 0);
      send.isKept = true;
      return send;
    });
  const names = (outbox: Outbox) =>
    outbox.take(100, 1 << 20, 0).map((send) => send.request.clientMessageId);

  test("what is refused for a moment goes again, in order, and other channels go on", () => {
    const outbox = new Outbox();
    posted(outbox, "c1", "c2", "d1");
    assert.deepEqual(names(outbox), ["c1", "c2", "d1"]);
    const error = refusal("RATE_LIMITED", 8, { retrySeconds: 1 });
    const result = create(SendResultSchema, { clientMessageId: "c1", error });
    assert.equal(outbox.answered(result).pause?.reason, "RATE_LIMITED");
    assert.deepEqual(names(outbox), []);
    outbox.answered(create(SendResultSchema, { clientMessageId: "d1", messageId: 1n }));
    const earlier = refusal("EARLIER_SEND_REFUSED", 10, { metadata: { client_message_id: "c1" } });
    outbox.answered(create(SendResultSchema, { clientMessageId: "c2", error: earlier }));
    assert.deepEqual(names(outbox), ["c1", "c2"]);
  });

  test("what is not kept yet does not go out, and nothing after it", () => {
    const outbox = new Outbox();
    const first = outbox.post(request("c1"), 0);
    const second = outbox.post(request("c2"), 0);
    second.isKept = true;
    assert.deepEqual(names(outbox), []);
    first.isKept = true;
    assert.deepEqual(names(outbox), ["c1", "c2"]);
    const third = outbox.post(request("c3"), 0);
    outbox.withdraw(third);
    assert.equal(outbox.size, 2);
  });

  test("it is bounded, and gives up after seven days", () => {
    const outbox = new Outbox([], { maxSends: 1 });
    posted(outbox, "c1");
    assert.throws(() => outbox.post(request("c2"), 0), /wait to be sent/);
    assert.deepEqual(outbox.expire(EXPIRE_MS), []);
    const [outcome] = outbox.expire(EXPIRE_MS + 1);
    assert(outcome?.error instanceof SendExpired);
    assert.equal(outbox.size, 0);
  });
});

describe("small parts", () => {
  test("ids are UUIDs of version 7 that rise", () => {
    const ids = new MessageIds(seeded(3));
    const drawn = [...Array(5000).keys()].map(() => ids.draw(1_700_000_000_000));
    assert.deepEqual([...drawn].sort(), drawn);
    assert.equal(new Set(drawn).size, drawn.length);
    for (const id of drawn) {
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
  });

  test("marks only rise, and go again until they are confirmed", () => {
    const marks = new Marks();
    marks.raiseTo("c", { readId: 5n }, 0);
    marks.raiseTo("c", { readId: 3n }, 0);
    marks.raiseTo("c", { deliveredId: 9n, lazy: true }, 0);
    assert.deepEqual(marks.take(0).map((m) => [m.readId, m.deliveredId]), [[5n, 9n]]);
    assert.deepEqual(marks.take(0), []);
    marks.again(10);
    assert.equal(marks.take(10).length, 1);
    marks.confirmed(create(ChannelStateSchema, { channelId: "c", readId: 5n, deliveredId: 9n }));
    marks.again(20);
    assert.equal(marks.take(20).length, 0);
  });

  test("an inbox tells when it has room again", () => {
    let rooms = 0;
    const inbox = new Inbox(() => rooms++, 4);
    for (let index = 0; index < 4; index++) inbox.put([{ type: "StampReached", stamp: String(index) }]);
    assert.equal(inbox.isFull, true);
    inbox.pop();
    assert.equal(rooms, 0);
    inbox.pop();
    assert.equal(rooms, 1);
    inbox.put([{ type: "ConnectionChanged", connection: "waiting" }, { type: "ConnectionChanged", connection: "live" }]);
    assert.equal(inbox.size, 3);
  });

  test("text has to be text", () => {
    assert.equal(contentOf("\ufeffa 👍").text, "\ufeffa 👍");
    assert.throws(() => contentOf("a\ud800"), InvalidArgument);
    const given = { text: "a", mentionedUserIds: ["bob"] };
    assert.deepEqual(contentOf(given, ["ann"]).mentionedUserIds, ["bob", "ann"]);
    assert.deepEqual(given.mentionedUserIds, ["bob"]);
  });
});

describe("the protocol", () => {
  const welcome = { userId: "ada", deviceId: "d", limits: { maxFrameBytes: 4 << 20, maxSendsPerFrame: 100 } };
  const start = (more = {}): [DeviceProtocol, FakeClock] => {
    const clock = new FakeClock();
    const saved = { cursors: [], stamp: "", accountCursor: "", sends: [] };
    const protocol = new DeviceProtocol(saved, { clock, rng: seeded(1) });
    protocol.connected();
    protocol.take();
    protocol.receive(answerOf({ welcome: { ...welcome, ...more } }));
    protocol.take();
    return [protocol, clock];
  };
  const post = (protocol: DeviceProtocol, text: string) => {
    const send = protocol.post("c", { text });
    send.isKept = true;
    return send.request.clientMessageId;
  };
  const sends = (output: Output) => output.frames.map((frame) => frame.sends.map((s) => s.content?.text));

  test("a frame that was refused whole is split", () => {
    const [protocol, clock] = start();
    post(protocol, "a");
    post(protocol, "b");
    const [frame] = protocol.take().frames;
    const status = refusal("TOO_LARGE", 8);
    protocol.receive(answerOf({ errors: [{ frameId: frame?.frameId ?? 0n, status }] }));
    clock.advance(20_000);
    assert.deepEqual(sends(protocol.take()), [["a"]]);
  });

  test("a ping after silence, and death without a pong", () => {
    const [protocol, clock] = start({ limits: { pingInterval: { seconds: 5n } } });
    clock.advance(5000);
    protocol.tick();
    assert.notEqual(protocol.take().frames[0]?.ping, undefined);
    clock.advance(10_000);
    protocol.tick();
    assert.equal(protocol.drop, true);
  });

  test("message ids are of the server's time", () => {
    const [protocol] = start({ serverTime: { seconds: 2_000_000_000n } });
    const ms = Number.parseInt(post(protocol, "a").replaceAll("-", "").slice(0, 12), 16);
    assert.equal(Math.round(ms / 1000), 2_000_000_000);
  });

  test("a user's hurry cuts the own back-off short, and not what the server asked for", () => {
    const [protocol, clock] = start();
    protocol.connectionLost(new Unavailable("broken", { code: 14 }));
    protocol.hurry();
    assert.equal(protocol.retryAt, clock.now);
    protocol.connected();
    const guidance = { minDelay: { seconds: 9n }, jitter: { seconds: 1n } };
    protocol.receive(answerOf({ close: { reason: CloseReason.OVERLOADED, reconnect: true, ...guidance } }));
    protocol.connectionLost();
    protocol.hurry();
    assert(protocol.retryAt >= clock.now + 9000);
  });

  test("typing goes out every four seconds at most", () => {
    const [protocol, clock] = start();
    const typed = () => protocol.take().frames.flatMap((frame) => frame.typing).length;
    protocol.typing("c", true, 0n);
    protocol.typing("c", true, 0n);
    assert.equal(typed(), 1);
    clock.advance(4000);
    protocol.typing("c", true, 0n);
    assert.equal(typed(), 1);
  });
});
