/**
 * A device, its application, a network that breaks, and the model server, moved by a seed.
 *
 * The server has two nodes over one store; each of them may die, drain, shed load or send the device to
 * the other one at any time.
 */

import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Endpoints } from "../src/endpoints.js";
import { ChinwagError, Unavailable } from "../src/errors.js";
import { type StoreEvent, isEntryEvent } from "../src/events.js";
import { MemoryStore } from "../src/memory-store.js";
import type { Sent } from "../src/outbox.js";
import type { Fetch } from "../src/positions.js";
import { DeviceProtocol } from "../src/protocol.js";
import { type Random, choice } from "../src/random.js";
import {
  type ConnectRequest,
  type ConnectResponse,
  ConnectResponseSchema,
} from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { CloseReason } from "../src/gen/chinwag/common/v1/close_pb.js";
import { FakeClock, seeded } from "./clock.js";
import { type Log, Server, Stream, USER } from "./model.js";

const CHANNELS = ["c1", "c2"];
const NODES = ["one:1", "two:1"];

// How often each thing happens; what breaks the connection is rare, so that there is one to break.
const WEIGHTS = {
  carryUp: 20,
  carryDown: 25,
  applicationTakes: 12,
  applicationCommits: 3,
  post: 10,
  othersTalk: 10,
  timePasses: 6,
  answerFetch: 8,
  membershipChanges: 1,
  serverRefuses: 2,
  entriesGetLost: 1,
  applicationIsSlow: 1,
  applicationHasRoom: 2,
  breakConnection: 1,
  killClient: 1,
  nodeDies: 1,
  nodeDrains: 1,
  nodeReturns: 4,
  nodeSheds: 1,
  nodeMovesDevice: 1,
};
type Happening = keyof typeof WEIGHTS;
// Without a stream these make no sense.
const OF_STREAM: readonly Happening[] = ["carryUp", "carryDown", "breakConnection", "nodeMovesDevice"];

/** Everything that a run needs. */
export class World {
  private readonly rng: Random;
  private readonly clock = new FakeClock();
  private readonly server = new Server(CHANNELS);
  private readonly store = new MemoryStore();
  /** What the application has, by channel: the ids of its entries. */
  private readonly seen = new Map<string, bigint[]>();
  /** Where its view of each channel began. */
  private readonly starts = new Map<string, bigint>();
  private inbox: StoreEvent[] = [];
  private taken: StoreEvent[] = []; // not committed yet
  private readonly posted: { channelId: string; name: string }[] = [];
  private readonly outcomes = new Map<string, Sent | ChinwagError>();
  private readonly dead = new Set<string>();
  private readonly draining = new Set<string>();
  /** So many of the next streams are told to come back. */
  private sheds = 0;
  private stream: Stream | undefined;
  private up: ConnectRequest[] = [];
  private down: ConnectResponse[] = [];
  private fetches: Fetch[] = [];
  private protocol!: DeviceProtocol;

  constructor(seed: number) {
    this.rng = seeded(seed);
  }

  /** A process of the client begins. */
  async start(): Promise<void> {
    this.stream = undefined;
    this.up = [];
    this.down = [];
    this.fetches = [];
    const endpoints = new Endpoints(NODES, this.rng, () => this.clock.monotonic());
    const { clock, rng } = this;
    this.protocol = new DeviceProtocol(await this.store.load(), { clock, rng, endpoints });
  }

  private between(low: number, high: number): number {
    return low + Math.floor(this.rng() * (high - low + 1));
  }

  private next(): Happening {
    const all = Object.entries(WEIGHTS) as [Happening, number][];
    let left = this.rng() * all.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight] of all) {
      left -= weight;
      if (left < 0) return name;
    }
    return "carryDown";
  }

  /** So many random steps. */
  async run(steps: number): Promise<void> {
    await this.start();
    for (let step = 0; step < steps; step++) {
      const name = this.next();
      if (this.stream === undefined) await this.connect();
      if (this.stream !== undefined || !OF_STREAM.includes(name)) await this[name]();
    }
  }

  // --- the skin ---

  private async pump(): Promise<void> {
    const output = this.protocol.take();
    this.up.push(...output.frames);
    this.inbox.push(...output.events);
    this.fetches.push(...output.fetches);
    for (const { send, sent, error } of output.outcomes) {
      const name = send.request.clientMessageId;
      assert(!this.outcomes.has(name), "resolved twice");
      this.outcomes.set(name, (sent ?? error) as Sent | ChinwagError);
      await this.store.removeSends([name]);
    }
    if (this.protocol.drop) await this.loseConnection();
  }

  private async connect(): Promise<void> {
    this.clock.now = Math.max(this.clock.now, this.protocol.retryAt);
    this.protocol.connecting();
    const { address } = this.protocol.plan;
    if (this.dead.has(address)) {
      await this.loseConnection(new Unavailable("connection refused", { code: 14 }));
      return;
    }
    if (this.draining.has(address)) {
      const facts = { reason: "DRAINING", code: 14, retryAfterMs: 1000 };
      await this.loseConnection(new Unavailable("going", facts));
      return;
    }
    this.stream = new Stream(this.server, address);
    if (this.sheds > 0) {
      this.sheds--;
      const guidance = { minDelay: { seconds: 2n }, jitter: { seconds: 1n } };
      this.stream.close({ reason: CloseReason.OVERLOADED, reconnect: true, ...guidance });
    }
    this.protocol.connected();
    await this.pump();
  }

  private async loseConnection(error?: ChinwagError): Promise<void> {
    this.stream?.gone();
    this.stream = undefined;
    this.up = [];
    this.down = [];
    this.fetches = [];
    this.protocol.connectionLost(error);
    await this.pump();
  }

  // --- what happens ---

  async carryUp(): Promise<void> {
    for (const frame of this.up.splice(0, this.between(1, 5))) this.stream?.receive(frame);
  }

  async carryDown(): Promise<void> {
    if (this.stream === undefined) return;
    this.down.push(...this.stream.out.splice(0));
    let frames = this.down.splice(0, this.between(1, 15));
    if (frames.length > 0 && this.rng() < 0.3) {
      const parts = frames.map((frame) => toBinary(ConnectResponseSchema, frame));
      frames = [fromBinary(ConnectResponseSchema, Buffer.concat(parts))];
    }
    for (const frame of frames) {
      this.protocol.receive(frame);
      if (frame.events.length > 0 && this.rng() < 0.1) {
        // At least once to a device.
        this.protocol.receive(create(ConnectResponseSchema, { events: frame.events }));
      }
      await this.pump();
      if (this.isBroken()) return;
    }
  }

  private isBroken(): boolean {
    return this.stream === undefined;
  }

  async breakConnection(): Promise<void> {
    await this.loseConnection(new Unavailable("broken", { code: 14 }));
  }

  /** The process dies; of what the application took, some is committed. */
  async killClient(): Promise<void> {
    const committed = this.between(0, this.taken.length);
    await this.store.commit(this.taken.slice(0, committed));
    const { cursors } = await this.store.load();
    for (const event of this.taken.slice(committed).reverse()) {
      if (isEntryEvent(event)) {
        assert.equal(this.seen.get(event.channelId)?.pop(), event.entry.id);
      } else if (event.type === "ChannelOpened" && !this.seen.get(event.channelId)?.length) {
        // Its view of the channel is forgotten, and begins anew.
        const isKnown = cursors.some((cursor) => cursor.channelId === event.channelId);
        if (!isKnown) this.starts.delete(event.channelId);
      }
    }
    this.taken = [];
    this.inbox = [];
    this.stream?.gone();
    await this.start();
  }

  /** Killed: what was on its way in both directions is lost. */
  async nodeDies(): Promise<void> {
    const address = choice(this.rng, NODES);
    this.dead.add(address);
    this.draining.delete(address);
    if (this.stream?.address !== address) return;
    await this.loseConnection(this.rng() < 0.5 ? undefined : new Unavailable("broken", { code: 14 }));
  }

  /** It ends its streams with guidance, and takes no new ones. */
  async nodeDrains(): Promise<void> {
    const address = choice(this.rng, NODES);
    this.draining.add(address);
    if (this.stream?.address !== address) return;
    this.stream.close({ reason: CloseReason.DRAINING, reconnect: true, jitter: { seconds: 5n } });
  }

  async nodeReturns(): Promise<void> {
    this.dead.clear();
    this.draining.clear();
  }

  async nodeSheds(): Promise<void> {
    this.sheds = this.between(1, 4);
  }

  /** To the other one, or to one that the device does not know. */
  async nodeMovesDevice(): Promise<void> {
    const address = choice(this.rng, [...NODES, "elsewhere:1", ""]);
    this.stream?.close({ reason: CloseReason.MOVED, reconnect: true, address });
  }

  /** Its queue is full, and events are passed over until it has room. */
  async applicationIsSlow(): Promise<void> {
    this.protocol.shedding = true;
  }

  async applicationHasRoom(): Promise<void> {
    this.protocol.resume();
    await this.pump();
  }

  async applicationTakes(): Promise<void> {
    for (const event of this.inbox.splice(0, this.between(1, 30))) {
      this.taken.push(event);
      if (isEntryEvent(event)) {
        const seen = this.seen.get(event.channelId) ?? [];
        this.seen.set(event.channelId, [...seen, event.entry.id]);
      } else if (event.type === "ChannelOpened" && !this.starts.has(event.channelId)) {
        this.starts.set(event.channelId, event.cursor.id);
      }
    }
  }

  async applicationCommits(): Promise<void> {
    await this.store.commit(this.taken.splice(0));
  }

  async post(): Promise<void> {
    for (let left = this.between(1, 8); left > 0; left--) {
      const channelId = choice(this.rng, CHANNELS);
      const send = this.protocol.post(channelId, { text: String(this.posted.length) });
      this.posted.push({ channelId, name: send.request.clientMessageId });
      // While a store is slow, other things go on, and nothing that is not kept goes out.
      if (this.rng() < 0.3) await this.pump();
      await this.store.addSend(send);
      send.isKept = true;
    }
    await this.pump();
  }

  async othersTalk(): Promise<void> {
    for (let left = this.between(1, 6); left > 0; left--) this.server.say(this.someLog(), "x", "bob", "");
  }

  private someLog(): Log {
    return this.server.logs.get(choice(this.rng, CHANNELS)) as Log;
  }

  async membershipChanges(): Promise<void> {
    const log = this.someLog();
    // A refusal whose answer is lost is tried again, and the server does not remember it: if the reason
    // has gone meanwhile it is stored after what followed it. No client can prevent that.
    if (this.posted.some(({ channelId, name }) => channelId === log.id && !this.outcomes.has(name))) return;
    if (log.isMember) this.server.leave(log);
    else this.server.join(log);
  }

  async serverRefuses(): Promise<void> {
    this.server.refuse = this.between(1, 4);
  }

  async entriesGetLost(): Promise<void> {
    this.server.lose = this.between(1, 4);
  }

  async answerFetch(): Promise<void> {
    const fetch = this.fetches.shift();
    if (fetch === undefined) return;
    if (this.rng() < 0.2) {
      this.protocol.fetchFailed(fetch.number);
    } else {
      const { channelId, generation, id } = fetch.cursor;
      this.protocol.fetched(fetch.number, this.server.sync(channelId, generation, id));
    }
    await this.pump();
  }

  async timePasses(): Promise<void> {
    this.clock.advance(choice(this.rng, [100, 2000, 35_000]));
    this.protocol.tick();
    await this.pump();
  }

  // --- the end ---

  /** Nothing goes wrong any more: everything must come to rest. */
  async settle(): Promise<void> {
    this.server.refuse = this.server.lose = this.sheds = 0;
    await this.nodeReturns();
    await this.applicationHasRoom();
    // What was lost at the very end shows when something follows, or at the next resume.
    if (this.stream !== undefined) await this.loseConnection();
    for (let turn = 0; ; turn++) {
      assert(turn < 3000, "it does not come to rest");
      if (this.stream === undefined) await this.connect();
      else if (this.up.length > 0) await this.carryUp();
      else if (this.stream.out.length + this.down.length > 0) await this.carryDown();
      else if (this.fetches.length > 0) await this.answerFetch();
      else if (this.protocol.outbox.size > 0) await this.timePasses();
      else break;
    }
    while (this.inbox.length > 0) await this.applicationTakes();
  }

  /** What must hold once all is at rest. */
  check(): void {
    for (const [channelId, log] of this.server.logs) {
      const seen = this.seen.get(channelId) ?? [];
      const start = this.starts.get(channelId);
      if (start === undefined) {
        assert(!log.isMember, "a channel that was never opened");
        assert.deepEqual(seen, []);
        continue;
      }
      const wanted: bigint[] = [];
      for (let id = Number(start) + 1; id <= log.head; id++) if (log.shows(id)) wanted.push(BigInt(id));
      assert.deepEqual(seen, wanted, channelId);
      this.checkOwn(log);
    }
    for (const outcome of this.outcomes.values()) {
      if (outcome instanceof ChinwagError) assert.equal(outcome.reason, "NOT_A_MEMBER");
    }
  }

  private checkOwn(log: Log): void {
    const own: string[] = [];
    for (const { actorId, kind } of log.entries) {
      if (actorId === USER && kind.case === "messageSent") own.push(kind.value.clientMessageId);
    }
    const told = this.posted.filter(({ channelId, name }) => {
      return channelId === log.id && !(this.outcomes.get(name) instanceof ChinwagError);
    });
    assert.deepEqual(own, told.map(({ name }) => name), log.id);
    for (const name of own) {
      const outcome = this.outcomes.get(name) as Sent;
      assert.equal(outcome.messageId, this.server.stored.get(`${log.id} ${name}`));
    }
  }
}
