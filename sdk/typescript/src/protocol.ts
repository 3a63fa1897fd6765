/**
 * The client's side of the delivery contract, without I/O.
 *
 * A `DeviceProtocol` is told what happens (connected, a frame came, the connection was lost, time
 * passed, the application wants to send) and says what to do: `take` gives the frames to write, the
 * events for the application in their order, what became of sends, and the holes to fetch; `nextTick`
 * when to call `tick`; `drop` that the connection is to be ended; and after a break `plan` or `error`
 * whether and how to connect again. Sockets and timers are the skin's business (`link`).
 * docs/delivery.md says what it holds.
 */

import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import type { Clock } from "./clock.js";
import { Control, type SubscriptionsInit, type WatchInit } from "./control.js";
import { Endpoints } from "./endpoints.js";
import { ChinwagError, ClientClosed, InvalidArgument, Unavailable, fromStatus } from "./errors.js";
import type { Connection, Cursor, StoreEvent } from "./events.js";
import { MessageIds } from "./ids.js";
import { Liveness } from "./liveness.js";
import type { Raise } from "./marks.js";
import { type Answer, EARLIER, EXPIRE_MS, Outbox, type Outcome, type Send } from "./outbox.js";
import { type Fetch, Positions } from "./positions.js";
import type { Random } from "./random.js";
import { type Plan, Reconnect } from "./reconnect.js";
import type { AllowAddress } from "./redirect.js";
import type { Saved } from "./store.js";
import { toMs } from "./times.js";
import type { SyncResponse } from "./gen/chinwag/chat/v1/chat_service_pb.js";
import {
  type ConnectRequest,
  ConnectRequestSchema,
  type ConnectResponse,
  type FrameError,
  type Limits,
  LimitsSchema,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type SendResult,
  type Welcome,
} from "./gen/chinwag/chat/v1/connect_pb.js";
import type { MessageContentSchema } from "./gen/chinwag/chat/v1/message_pb.js";

export const FRAME_BYTES = 512 << 10;
export const REMEMBERED_FRAMES = 256;

// What is said of each send of a frame that was refused whole, so that they go one by one.
const SPLIT = new Unavailable("the frame was refused as a whole", {
  reason: "TOO_LARGE",
  code: Code.Unavailable,
});

/** What a skin has to do: write, hand out, resolve, fetch, each in order. */
export class Output {
  readonly frames: ConnectRequest[] = [];
  readonly events: StoreEvent[] = [];
  readonly outcomes: Outcome[] = [];
  fetches: Fetch[] = [];
}

/** What a protocol is made of. */
export interface ProtocolOptions {
  clock: Clock;
  /** For jitter and message ids. */
  rng: Random;
  /** Default: receipts, typing and the account's events. */
  subscriptions?: SubscriptionsInit | undefined;
  catchUpLimit?: number;
  /** Where to connect; absent: a skin that has one way anyway. */
  endpoints?: Endpoints;
  /** Whether to go to an address that the server names; absent: to one of `endpoints`. */
  mayFollow?: AllowAddress;
}

/** One device's conversation with the server, over any number of connections. */
export class DeviceProtocol {
  connection: Connection = "waiting";
  /** While waiting: the next attempt; `retryAt` is when, by the monotonic clock. */
  plan: Plan;
  retryAt: number;
  /** Closed for good, by this. */
  error: ChinwagError | undefined;
  /** The connection is to be ended now, and `connectionLost` called. */
  drop = false;
  /** Call `renewToken` with a fresh token, or `renewalFailed`. */
  tokenWanted = false;
  /**
   * Set by a skin whose application does not read while sends wait for answers: events are passed
   * over, and `resume` gets them again.
   */
  shedding = false;
  userId = "";
  deviceId = "";
  limits: Limits = create(LimitsSchema, { maxSendsPerFrame: 100, maxFrameBytes: 4 << 20 });
  readonly outbox: Outbox;
  readonly positions: Positions;
  private readonly clock: Clock;
  private readonly reconnect: Reconnect;
  private readonly ids: MessageIds;
  private readonly sendBackoff: Backoff;
  private readonly liveness: Liveness;
  private readonly control: Control;
  private output = new Output();
  private readonly frames = new Map<bigint, ConnectRequest>();
  private frameId = 0n;
  private stamp: string;
  private accountCursor: string;
  private accountId = 0n;
  private guidance: Plan | ChinwagError | undefined;
  private isOpen = false;
  private resumeNow = false;
  private hasShed = false;
  private lostAt = 0;
  private sendAt = 0;
  private aheadMs = 0;

  /** @param saved What the device's store held. */
  constructor(saved: Saved, options: ProtocolOptions) {
    const { clock, rng } = options;
    this.clock = clock;
    const endpoints = options.endpoints ?? new Endpoints([""], rng, () => clock.monotonic());
    this.reconnect = new Reconnect(rng, endpoints, options.mayFollow);
    this.plan = this.reconnect.first();
    this.retryAt = clock.monotonic();
    this.outbox = new Outbox(saved.sends);
    this.positions = new Positions(saved.cursors);
    this.ids = new MessageIds(rng);
    this.sendBackoff = new Backoff(rng, 200, 10_000);
    this.liveness = new Liveness(this.retryAt);
    this.control = new Control(options.subscriptions, options.catchUpLimit ?? 0);
    this.stamp = saved.stamp;
    this.accountCursor = saved.accountCursor;
  }

  // --- what a skin asks ---

  /** What has to be done now; each thing is given once. */
  take(): Output {
    if (this.isOpen) this.write();
    const output = this.output;
    this.output = new Output();
    return output;
  }

  /** When `tick` has to be called, by the monotonic clock; undefined: not by itself. */
  get nextTick(): number | undefined {
    const now = this.clock.monotonic();
    const times: number[] = [];
    if (this.isOpen) {
      times.push(this.liveness.nextTime(this.outbox.oldestInFlight));
      if (this.control.isOpen) {
        if (this.outbox.size > 0 && this.sendAt > now) times.push(this.sendAt);
        if (this.control.marks.due !== undefined) times.push(this.control.marks.due);
      }
    }
    const created = this.outbox.oldestCreateTimeMs;
    if (created !== undefined) {
      times.push(now + Math.max(created + EXPIRE_MS - this.clock.time(), 0) + 1000);
    }
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  /** Time has passed. */
  tick(): void {
    this.output.outcomes.push(...this.outbox.expire(this.clock.time()));
    if (!this.isOpen) return;
    const now = this.clock.monotonic();
    if (this.liveness.isDead(now, this.outbox.oldestInFlight)) this.drop = true;
    if (this.liveness.mustRenew(now)) this.tokenWanted = true;
    if (this.liveness.mustPing(now)) this.control.ping(now);
  }

  // --- what happens to the connection ---

  /** An attempt begins. */
  connecting(): void {
    this.change("connecting");
  }

  /** A stream is open: hello goes first. */
  connected(): void {
    this.isOpen = true;
    this.drop = false;
    this.guidance = undefined;
    this.frames.clear();
    this.liveness.connected(this.clock.monotonic());
    this.control.sayHello(this.stamp, this.accountCursor, this.positions.cursors());
  }

  /**
   * The stream has ended, or could not be opened: `plan` or `error` says what next.
   *
   * @param error The status with which it ended; undefined: it just broke.
   */
  connectionLost(error?: ChinwagError): void {
    if (this.error !== undefined) return;
    this.isOpen = this.control.isOpen = this.drop = this.tokenWanted = false;
    this.outbox.connectionLost();
    this.positions.connectionLost();
    this.output.fetches = [];
    const decided = this.resumeNow
      ? this.reconnect.resumed()
      : (this.guidance ?? this.reconnect.broken(error));
    this.resumeNow = this.hasShed = this.shedding = false;
    this.guidance = undefined;
    if (decided instanceof ChinwagError) {
      this.fail(decided);
      return;
    }
    this.plan = decided;
    this.lostAt = this.clock.monotonic();
    this.retryAt = this.lostAt + decided.delayMs;
    this.change("waiting", decided.error, decided.delayMs);
  }

  /** Somebody is impatient: the client's own back-off is cut short, what the server asked for is not. */
  hurry(): void {
    this.retryAt = Math.min(this.retryAt, this.lostAt + this.plan.leastMs);
  }

  /** Closes for good: unresolved sends stay in the store for the next process. */
  fail(error: ChinwagError): void {
    if (this.error !== undefined) return;
    this.error = error;
    this.isOpen = false;
    this.drop = true;
    this.change("closed", error);
  }

  /** The skin stops reading. */
  pause(): void {
    this.liveness.pause();
  }

  /** The skin reads again. */
  unpause(): void {
    this.liveness.unpause(this.clock.monotonic());
  }

  /** The application has room for events again. */
  resume(): void {
    this.unpause();
    this.shedding = false;
    // What was passed over is behind the positions: resuming brings it.
    if (this.hasShed && this.isOpen) this.resumeNow = this.drop = true;
  }

  // --- what the application wants ---

  /**
   * Queues a message. It goes out once its `isKept` is set.
   *
   * @throws OutboxFull Too many wait.
   * @throws InvalidArgument TOO_LARGE: no frame could hold it.
   * @throws ClientClosed The client is closed.
   */
  post(
    channelId: string,
    content: MessageInitShape<typeof MessageContentSchema>,
    replyToId = 0n,
    threadRootId = 0n,
  ): Send {
    if (this.error !== undefined) {
      throw new ClientClosed(`the client is closed: ${this.error.message}`, { cause: this.error });
    }
    const request: SendMessageRequest = create(SendMessageRequestSchema, {
      channelId,
      clientMessageId: this.ids.draw(this.serverTimeMs),
      content,
      replyToId,
      threadRootId,
    });
    const size = toBinary(SendMessageRequestSchema, request).length;
    const most = this.limits.maxFrameBytes - 64;
    if (most > 0 && size > most) {
      throw new InvalidArgument(`a message has at most ${most} bytes with all its parts, got ${size}`, {
        reason: "TOO_LARGE",
        code: Code.InvalidArgument,
        fields: { content: `has ${size} bytes` },
      });
    }
    return this.outbox.post(request, this.clock.time());
  }

  /** Raises marks; a later one overwrites one that has not gone out. */
  mark(channelId: string, raise: Raise): void {
    this.control.marks.raiseTo(channelId, raise, this.clock.monotonic());
  }

  /** Tells that the user types: at most every four seconds, and only while connected. */
  typing(channelId: string, active: boolean, threadRootId: bigint): void {
    this.control.typing(channelId, threadRootId, active, this.clock.monotonic());
  }

  /** Wants a broadcast channel's entries, from `start` if it is not looked at already. */
  look(start: Cursor): void {
    this.control.look(this.positions.look(start));
  }

  /** Does not want them any more. */
  lookAway(channelId: string): void {
    if (this.control.lookAway(channelId)) this.positions.forget(channelId);
  }

  /** The users whose presence is wanted, in place of those before. */
  watch(watches: readonly WatchInit[]): void {
    this.control.watch(watches);
  }

  /** Gives the open stream a fresh token. */
  renewToken(accessToken: string): void {
    this.tokenWanted = false;
    this.control.renewToken(accessToken);
  }

  /** No fresh token could be had for now. */
  renewalFailed(): void {
    this.tokenWanted = false;
    this.liveness.renewIn(10_000, this.clock.monotonic());
  }

  /** Milliseconds since 1970 by the server's clock, as far as it is known. */
  get serverTimeMs(): number {
    return this.clock.time() + this.aheadMs;
  }

  // --- frames out ---

  private write(): void {
    const now = this.clock.monotonic();
    const before = this.frameId;
    const control = this.control.take(now);
    if (control !== undefined) this.addFrame(control);
    if (this.control.isOpen && now >= this.sendAt) {
      const most = this.limits.maxSendsPerFrame || 1;
      const limit = Math.min(FRAME_BYTES, Math.floor((this.limits.maxFrameBytes * 3) / 4));
      for (;;) {
        const sends = this.outbox.take(most, limit, now);
        if (sends.length === 0) break;
        this.addFrame(create(ConnectRequestSchema, { sends: sends.map((send) => send.request) }));
      }
    }
    if (this.frameId > before) this.liveness.wrote(now);
  }

  private addFrame(frame: ConnectRequest): void {
    this.frameId++;
    frame.frameId = this.frameId;
    this.frames.set(this.frameId, frame);
    if (this.frames.size > REMEMBERED_FRAMES) {
      for (const oldest of this.frames.keys()) {
        this.frames.delete(oldest);
        break;
      }
    }
    this.output.frames.push(frame);
  }

  // --- frames in ---

  /** Handles a frame, its fields in the order that `ConnectResponse` states. */
  receive(frame: ConnectResponse): void {
    if (!this.isOpen) return;
    this.liveness.heard();
    if (frame.welcome !== undefined) this.onWelcome(frame.welcome);
    if (frame.tokenRenewed?.expireTime !== undefined) this.tokenEnds(frame.tokenRenewed.expireTime);
    if (this.shedding) {
      this.hasShed ||= frame.events.length + frame.receipts.length + frame.account.length > 0;
    } else if (frame.events.length > 0) {
      for (const event of frame.events) {
        this.positions.take(event);
        this.control.told(event);
      }
      this.afterPositions();
    }
    for (const result of frame.results) this.onResult(result);
    if (!this.shedding) this.onRegisters(frame);
    for (const error of frame.errors) this.onRefusal(error);
    if (frame.caughtUp !== undefined) {
      this.reconnect.caughtUp();
      this.change("live");
      this.onStamp(frame.caughtUp.stamp);
    }
    if (frame.pong !== undefined) {
      if (frame.pong.serverTime !== undefined) this.setClock(frame.pong.serverTime);
      this.onStamp(frame.pong.stamp);
    }
    if (frame.close !== undefined) {
      this.guidance = this.reconnect.guided(frame.close);
      this.drop = true;
    }
  }

  private onWelcome(welcome: Welcome): void {
    this.reconnect.welcomed();
    this.control.welcomed(this.clock.monotonic());
    this.liveness.isWelcomed = true;
    this.userId = welcome.userId;
    this.deviceId = welcome.deviceId;
    this.limits = welcome.limits ?? create(LimitsSchema);
    this.liveness.pingIntervalMs = toMs(this.limits.pingInterval) || this.liveness.pingIntervalMs;
    if (welcome.serverTime !== undefined) this.setClock(welcome.serverTime);
    if (welcome.tokenExpireTime !== undefined) this.tokenEnds(welcome.tokenExpireTime);
    this.change("catching up");
  }

  private setClock(serverTime: Timestamp): void {
    this.aheadMs = toMs(serverTime) - this.clock.time();
  }

  private tokenEnds(time: Timestamp): void {
    // By the server's own clock: the device's may be wrong.
    this.liveness.tokenEndsIn(toMs(time) - this.serverTimeMs, this.clock.monotonic());
  }

  private afterPositions(): void {
    const positions = this.positions;
    this.output.events.push(...positions.out);
    positions.out = [];
    this.output.fetches.push(...positions.fetches);
    positions.fetches = [];
    if (positions.stuck) this.drop = true;
  }

  private onRegisters(frame: ConnectResponse): void {
    const events = this.output.events;
    for (const { channelId, userId, deliveredId, readId } of frame.receipts) {
      events.push({ type: "ReceiptChanged", channelId, userId, deliveredId, readId });
    }
    for (const { channelId, userId, threadRootId, active } of frame.typing) {
      events.push({ type: "TypingChanged", channelId, userId, threadRootId, active });
    }
    for (const change of frame.presence) events.push({ type: "PresenceChanged", change });
    for (const event of frame.account) {
      if (event.event.case === "reset" || event.id > this.accountId) {
        this.accountId = event.id;
        this.accountCursor = event.cursor;
        events.push({ type: "AccountChanged", event });
      }
    }
  }

  private onStamp(stamp: string): void {
    // What waits behind a hole, or was shed, is not handed out: a stamp must not promise it.
    if (stamp !== "" && this.positions.complete && !this.hasShed) {
      this.stamp = stamp;
      this.output.events.push({ type: "StampReached", stamp });
    }
  }

  // --- answers ---

  private onResult(result: SendResult): void {
    this.onAnswer(this.outbox.answered(result));
    if (result.error === undefined) return;
    const error = fromStatus(result.error);
    const heldBy = error.metadata["client_message_id"] ?? "";
    if (error.reason === EARLIER && heldBy !== "" && !this.outbox.has(heldBy)) {
      // The server waits for a send that was given up here: a new stream forgets it.
      this.resumeNow = this.drop = true;
    }
  }

  private onAnswer({ outcome, pause }: Answer): void {
    if (outcome !== undefined) {
      this.output.outcomes.push(outcome);
      this.sendBackoff.reset();
    }
    if (pause !== undefined) {
      this.pauseSends(Math.max(this.sendBackoff.next(), pause.retryAfterMs ?? 0));
    }
  }

  private pauseSends(waitMs: number): void {
    this.sendAt = Math.max(this.sendAt, this.clock.monotonic() + waitMs);
  }

  /**
   * A frame or a part of it was refused. Sends have results of their own, unless the frame was refused
   * whole.
   */
  private onRefusal(error: FrameError): void {
    const refused = error.status === undefined ? SPLIT : fromStatus(error.status);
    const frame = this.frames.get(error.frameId);
    if (error.field.startsWith("marks[")) {
      this.control.marks.drop(error.channelId);
    } else if (error.field.startsWith("renew_token")) {
      this.renewalFailed();
    } else if (frame === undefined || error.field !== "") {
      return;
    } else if (frame.sends.length > 0) {
      const verdict = frame.sends.length > 1 && !refused.isTemporary ? SPLIT : refused;
      for (const request of frame.sends) {
        this.onAnswer(this.outbox.refused(request.clientMessageId, verdict));
      }
    } else if (refused.isTemporary) {
      this.sayAgain(frame, refused.retryAfterMs ?? 1000);
    }
  }

  /** A control frame was refused for a moment. */
  private sayAgain(frame: ConnectRequest, waitMs: number): void {
    this.pauseSends(waitMs);
    this.control.marks.again(this.clock.monotonic() + waitMs);
    if (frame.renewToken !== undefined) this.renewalFailed();
    if (frame.subscribe.length + frame.unsubscribe.length > 0 || frame.watches !== undefined) {
      // A new hello says what is wanted; this is too rare for a way of its own.
      this.drop = true;
    }
  }

  // --- holes ---

  /** The answer to one of `Output.fetches`. */
  fetched(number: number, answer: SyncResponse): void {
    this.positions.fetched(number, answer.events, answer.hasMore);
    this.afterPositions();
  }

  /** A fetch failed for good: a new connection resumes at the positions. */
  fetchFailed(number: number): void {
    if (this.isOpen && this.positions.awaits(number)) this.drop = true;
  }

  private change(connection: Connection, error?: ChinwagError, retryInMs?: number): void {
    if (connection !== this.connection || error !== undefined) {
      this.connection = connection;
      this.output.events.push({ type: "ConnectionChanged", connection, error, retryInMs });
    }
  }
}
