/**
 * Messages on their way to the server: in order a channel, stored once, none given up in silence.
 *
 * Pure rules: nothing here knows of a connection. `protocol` asks for the next sends, and tells what
 * was answered and when the connection was lost.
 */

import { toBinary } from "@bufbuild/protobuf";
import { type ChinwagError, OutboxFull, SendExpired, fromStatus } from "./errors.js";
import {
  type SendMessageRequest,
  SendMessageRequestSchema,
  type SendResult,
} from "./gen/chinwag/chat/v1/connect_pb.js";
import { toDate } from "./times.js";

// docs/delivery.md, 3: the server refuses ids older than 15 days; before that the user is told.
export const EXPIRE_MS = 7 * 24 * 3600 * 1000;

// A send of the same channel, earlier than the refused one, has to come again first.
export const EARLIER = "EARLIER_SEND_REFUSED";

/** A message that is durably stored. */
export interface Sent {
  readonly channelId: string;
  /** Its id in the channel, also that of its entry. */
  readonly messageId: bigint;
  readonly clientMessageId: string;
  /** When the server took it; absent if it was not said. */
  readonly createTime: Date | undefined;
}

/** What became of a send: exactly one of `sent` and `error` is there. */
export interface Outcome {
  readonly send: Send;
  readonly sent: Sent | undefined;
  readonly error: ChinwagError | undefined;
}

/** A message that is not resolved. */
export interface Send {
  /** Its place in the outbox, rising; kept in the client's store. */
  readonly number: number;
  readonly request: SendMessageRequest;
  /** When the application gave it, since 1970 by the device's clock. */
  readonly createTimeMs: number;
  /** It is in the client's store, so it may go out: one that is not could be lost, or sent twice. */
  isKept: boolean;
  readonly sizeBytes: number;
  /** When it last went out, by the monotonic clock. */
  sentAt: number;
}

/** Makes a send. */
export function makeSend(
  number: number,
  request: SendMessageRequest,
  createTimeMs: number,
  isKept: boolean,
): Send {
  const sizeBytes = toBinary(SendMessageRequestSchema, request).length;
  return { number, request, createTimeMs, isKept, sizeBytes, sentAt: 0 };
}

/** How much an outbox may hold, and how much may be under way. */
export interface OutboxLimits {
  maxSends?: number;
  maxBytes?: number;
  maxWindow?: number;
  windowBytes?: number;
}

/** What an answer leads to. */
export interface Answer {
  /** What became of the send, if that is certain now. */
  readonly outcome?: Outcome;
  /** Why sending has to pause for a moment. */
  readonly pause?: ChinwagError;
}

/**
 * The unresolved sends of one device.
 *
 * A send that is refused for a moment blocks its channel: the server refuses those that were sent
 * after it (EARLIER_SEND_REFUSED), and once all have been answered they go again, in order. How many
 * may be under way (the *window*) becomes half of what is under way with such a refusal, and grows
 * with each answer, as in TCP (RFC 5681, section 3.1): so a limit of the server is found.
 */
export class Outbox {
  // A Map keeps the order of insertion: of `all` that of the posts, of `inFlight` that of going out.
  private readonly all = new Map<string, Send>();
  private waiting: Send[] = [];
  private readonly inFlight = new Map<string, Send>();
  private readonly inFlightOf = new Map<string, number>();
  private readonly blocked = new Map<string, Send[]>();
  private bytes = 0;
  private inFlightBytes = 0;
  private number = 0;
  private window: number;
  private readonly maxSends: number;
  private readonly maxBytes: number;
  private readonly maxWindow: number;
  private readonly windowBytes: number;

  /** @param sends Those of an earlier process, in order. */
  constructor(sends: Iterable<Send> = [], limits: OutboxLimits = {}) {
    this.maxSends = limits.maxSends ?? 10_000;
    this.maxBytes = limits.maxBytes ?? 32 << 20;
    this.maxWindow = this.window = limits.maxWindow ?? 200;
    this.windowBytes = limits.windowBytes ?? 2 << 20;
    for (const send of sends) this.add(send);
  }

  get size(): number {
    return this.all.size;
  }

  has(clientMessageId: string): boolean {
    return this.all.has(clientMessageId);
  }

  /** The unresolved ones, in order. */
  sends(): Send[] {
    return [...this.all.values()];
  }

  /** How many are under way. */
  get inFlightCount(): number {
    return this.inFlight.size;
  }

  /** When the first of those under way went out. */
  get oldestInFlight(): number | undefined {
    for (const send of this.inFlight.values()) return send.sentAt;
    return undefined;
  }

  /** When the first unresolved one was made. */
  get oldestCreateTimeMs(): number | undefined {
    for (const send of this.all.values()) return send.createTimeMs;
    return undefined;
  }

  private hasRoom(): boolean {
    return (
      this.inFlight.size < Math.floor(this.window) &&
      (this.inFlightBytes < this.windowBytes || this.inFlight.size === 0)
    );
  }

  private add(send: Send): void {
    this.number = Math.max(this.number, send.number);
    this.all.set(send.request.clientMessageId, send);
    this.waiting.push(send);
    this.bytes += send.sizeBytes;
  }

  /**
   * Takes a message. It goes out once `isKept` is set.
   *
   * @throws OutboxFull As many are unresolved as may be; nothing was taken.
   */
  post(request: SendMessageRequest, createTimeMs: number): Send {
    const send = makeSend(this.number + 1, request, createTimeMs, false);
    const isFull = this.all.size > 0 && this.bytes + send.sizeBytes > this.maxBytes;
    if (this.all.size >= this.maxSends || isFull) {
      throw new OutboxFull(
        `${this.all.size} messages (${this.bytes} bytes) wait to be sent, as many as may ` +
          `(${this.maxSends}, ${this.maxBytes} bytes): wait for some of them`,
      );
    }
    this.add(send);
    return send;
  }

  /** Takes back one that could not be kept in the client's store, and so never went out. */
  withdraw(send: Send): void {
    if (send.isKept || !this.all.delete(send.request.clientMessageId)) return;
    this.waiting = this.waiting.filter((each) => each !== send);
    this.bytes -= send.sizeBytes;
  }

  /** The next ones to send, in one frame; they are under way from here on. */
  take(maxSends: number, maxBytes: number, now: number): Send[] {
    const taken: Send[] = [];
    let size = 0;
    let next = 0;
    while (next < this.waiting.length && taken.length < maxSends && this.hasRoom()) {
      const send = this.waiting[next] as Send;
      // Those that are not kept yet are the newest ones: behind the first there is none to send.
      if (!send.isKept) break;
      const channelId = send.request.channelId;
      const blocked = this.blocked.get(channelId);
      if (blocked !== undefined) {
        blocked.push(send);
        next++;
        continue;
      }
      if (taken.length > 0 && size + send.sizeBytes > maxBytes) break;
      next++;
      send.sentAt = now;
      this.inFlight.set(send.request.clientMessageId, send);
      this.inFlightOf.set(channelId, (this.inFlightOf.get(channelId) ?? 0) + 1);
      this.inFlightBytes += send.sizeBytes;
      size += send.sizeBytes;
      taken.push(send);
    }
    if (next > 0) this.waiting.splice(0, next);
    return taken;
  }

  // --- answers ---

  /** Takes the server's answer to a send. */
  answered(result: SendResult): Answer {
    if (result.error !== undefined) return this.refused(result.clientMessageId, fromStatus(result.error));
    const send = this.land(result.clientMessageId);
    if (send === undefined) return {};
    this.window = Math.min(this.window + 1, this.maxWindow);
    const sent: Sent = {
      channelId: send.request.channelId,
      messageId: result.messageId,
      clientMessageId: result.clientMessageId,
      createTime: toDate(result.createTime),
    };
    return { outcome: this.resolve(send, sent, undefined) };
  }

  /** Takes a refusal of a send under way. */
  refused(clientMessageId: string, error: ChinwagError): Answer {
    const send = this.land(clientMessageId);
    if (send === undefined) return {};
    if (!error.isTemporary) return { outcome: this.resolve(send, undefined, error) };
    const channelId = send.request.channelId;
    const blocked = this.blocked.get(channelId);
    if (blocked === undefined) this.blocked.set(channelId, [send]);
    else blocked.push(send);
    const isFirst = error.reason !== EARLIER;
    if (isFirst) this.window = Math.max(1, Math.min(this.window, this.inFlight.size + 1) / 2);
    this.settle(channelId);
    return isFirst ? { pause: error } : {};
  }

  private land(clientMessageId: string): Send | undefined {
    const send = this.inFlight.get(clientMessageId);
    if (send === undefined) return undefined;
    this.inFlight.delete(clientMessageId);
    const channelId = send.request.channelId;
    this.inFlightBytes -= send.sizeBytes;
    const left = (this.inFlightOf.get(channelId) ?? 0) - 1;
    if (left > 0) this.inFlightOf.set(channelId, left);
    else this.inFlightOf.delete(channelId);
    return send;
  }

  private resolve(send: Send, sent: Sent | undefined, error: ChinwagError | undefined): Outcome {
    this.all.delete(send.request.clientMessageId);
    this.bytes -= send.sizeBytes;
    this.settle(send.request.channelId);
    return { send, sent, error };
  }

  /**
   * Puts a blocked channel's sends back once none of them is under way: only then is it known which
   * ones have to come again.
   */
  private settle(channelId: string): void {
    const blocked = this.blocked.get(channelId);
    if (blocked !== undefined && !this.inFlightOf.has(channelId)) {
      this.blocked.delete(channelId);
      this.putBack(blocked);
    }
  }

  private putBack(sends: readonly Send[]): void {
    this.waiting = [...sends, ...this.waiting].sort((a, b) => a.number - b.number);
  }

  // --- breaks and endings ---

  /** What was under way may be stored or not: all of it goes again, in order. */
  connectionLost(): void {
    const back = [...this.inFlight.values(), ...[...this.blocked.values()].flat()];
    this.inFlight.clear();
    this.inFlightOf.clear();
    this.inFlightBytes = 0;
    this.blocked.clear();
    this.putBack(back);
  }

  /** Gives up what has been unresolved for seven days. */
  expire(timeMs: number): Outcome[] {
    const old = new Set([...this.all.values()].filter((s) => timeMs - s.createTimeMs > EXPIRE_MS));
    if (old.size === 0) return [];
    this.waiting = this.waiting.filter((send) => !old.has(send));
    for (const [channelId, sends] of this.blocked) {
      this.blocked.set(channelId, sends.filter((send) => !old.has(send)));
    }
    return [...old].map((send) => {
      this.land(send.request.clientMessageId);
      const error = new SendExpired(
        "the message could not be sent for 7 days; whether an attempt was stored is not known",
        { reason: "SEND_EXPIRED" },
      );
      return this.resolve(send, undefined, error);
    });
  }
}
