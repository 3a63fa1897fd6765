/** Carries a `DeviceProtocol` over a transport: reads, writes, waits, and connects again. */

import type { Transport } from "@connectrpc/connect";
import type { Calls, Credential } from "./calls.js";
import type { Clock } from "./clock.js";
import { ChinwagError, ClientClosed, Unauthenticated, fromTransport } from "./errors.js";
import type { StoreEvent } from "./events.js";
import { FrameQueue, frameBytes } from "./frames.js";
import type { Inbox } from "./inbox.js";
import type { Outcome } from "./outbox.js";
import type { Fetch } from "./positions.js";
import type { DeviceProtocol } from "./protocol.js";
import { after, sleep } from "./timers.js";
import { ChatService } from "./gen/chinwag/chat/v1/chat_service_pb.js";
import type { ConnectResponse } from "./gen/chinwag/chat/v1/connect_pb.js";

export const FETCH_ENTRIES = 1000;

/** What a link works with, and whom it tells. */
export interface LinkParts {
  readonly calls: Calls;
  readonly credential: Credential;
  readonly clock: Clock;
  readonly inbox: Inbox;
  /** Gives the transport for a stream to the address of a plan. */
  to(address: string): Transport;
  /** A stream to an address has ended. */
  leave(address: string): void;
  /** Gets each frame's events with its size. */
  onEvents(events: readonly StoreEvent[], sizeBytes: number): void;
  onOutcomes(outcomes: readonly Outcome[]): void;
  /** The protocol has closed for good. */
  onEnd(): void;
}

/** The skin of one device's streams. */
export class Link {
  private stream: { readonly abort: AbortController; readonly frames: FrameQueue } | undefined;
  private cancelTimer: (() => void) | undefined;
  private timerAt: number | undefined;
  private isSoon = false;
  private wakeReader: (() => void) | undefined;
  private retry = new AbortController();
  private readonly closing = new AbortController();
  private token = "";
  private size = 0;
  private readonly running: Promise<void>;

  constructor(
    private readonly protocol: DeviceProtocol,
    private readonly parts: LinkParts,
  ) {
    this.running = this.run();
  }

  // --- what the client calls ---

  /** The protocol has got something to do: does it, with what else comes in this turn, in one frame. */
  soon(): void {
    if (this.isSoon) return;
    this.isSoon = true;
    queueMicrotask(() => {
      this.pump();
    });
  }

  /** The inbox has room again. */
  room(): void {
    this.protocol.resume();
    this.wake();
    this.soon();
  }

  /** Tries to connect now, unless the server said when. */
  hurry(): void {
    this.protocol.hurry();
    this.retry.abort();
  }

  /** Ends the stream and everything that runs. */
  async close(): Promise<void> {
    this.protocol.fail(new ClientClosed("the client was closed"));
    this.closing.abort();
    this.retry.abort();
    this.stream?.abort.abort();
    this.wake();
    await this.running;
  }

  // --- doing what the protocol says ---

  private pump(): void {
    this.isSoon = false;
    const { protocol, parts } = this;
    const output = protocol.take();
    if (output.events.length > 0) parts.onEvents(output.events, this.size);
    this.size = 0;
    if (output.outcomes.length > 0) parts.onOutcomes(output.outcomes);
    for (const fetch of output.fetches) void this.fetch(fetch);
    if (protocol.tokenWanted) {
      protocol.tokenWanted = false;
      void this.renew();
    }
    if (this.stream !== undefined) {
      this.stream.frames.put(output.frames);
      if (protocol.drop) {
        this.stream.abort.abort();
        this.wake();
      } else if (protocol.outbox.size > 0) {
        this.wake(); // answers are wanted, and come only by reading
      }
    }
    this.setTimer();
  }

  private setTimer(): void {
    const at = this.protocol.nextTick;
    // A timer that rings too early costs less than a new one for each frame.
    if (this.timerAt !== undefined) {
      if (at !== undefined && this.timerAt <= at) return;
      this.cancelTimer?.();
      this.timerAt = undefined;
    }
    if (at === undefined || this.closing.signal.aborted) return;
    this.timerAt = at;
    this.cancelTimer = after(at - this.parts.clock.monotonic(), () => {
      this.timerAt = undefined;
      this.protocol.tick();
      this.pump();
    });
  }

  private wake(): void {
    const wakeReader = this.wakeReader;
    this.wakeReader = undefined;
    wakeReader?.();
  }

  // --- the stream ---

  private async run(): Promise<void> {
    const { protocol, parts } = this;
    try {
      // Whoever made this link goes on first.
      await Promise.resolve();
      while (protocol.error === undefined) {
        await this.waitForRetry();
        if (protocol.error !== undefined) break;
        protocol.connecting();
        this.pump();
        const { address } = protocol.plan;
        const error = await this.runStream();
        protocol.connectionLost(error);
        parts.leave(address);
        this.pump();
      }
    } catch (error) {
      const text = `the client failed: ${error instanceof Error ? error.message : String(error)}`;
      protocol.fail(new ChinwagError(text, { reason: "INTERNAL", cause: error }));
    } finally {
      this.closing.abort();
      this.cancelTimer?.();
      const output = protocol.take();
      if (output.events.length > 0) parts.onEvents(output.events, 0);
      if (output.outcomes.length > 0) parts.onOutcomes(output.outcomes);
      parts.onEnd();
    }
  }

  private async waitForRetry(): Promise<void> {
    for (;;) {
      const left = this.protocol.retryAt - this.parts.clock.monotonic();
      if (left <= 0 || this.protocol.error !== undefined) return;
      this.retry = new AbortController();
      await sleep(left, this.retry.signal);
    }
  }

  /** One stream from its opening to its end; the status with which it ended. */
  private async runStream(): Promise<ChinwagError | undefined> {
    const { protocol, parts } = this;
    const { plan } = protocol;
    const abort = new AbortController();
    const frames = new FrameQueue();
    try {
      if (plan.newToken) await this.orClosed(parts.credential.rejected(this.token));
      this.token = await this.orClosed(parts.credential.token());
      const transport = parts.to(plan.address);
      this.stream = { abort, frames };
      protocol.connected();
      const header = { authorization: `Bearer ${this.token}` };
      const { connect } = ChatService.method;
      // The method itself, not `createClient`: that is a kilobyte of bundle for one call.
      const opening = transport.stream(connect, abort.signal, undefined, header, frames);
      this.pump();
      await this.read((await opening).message[Symbol.asyncIterator]());
    } catch (thrown) {
      // Not the server but `pump` has ended it.
      if (!abort.signal.aborted) return fromTransport(thrown);
    } finally {
      this.stream = undefined;
      abort.abort();
      frames.end();
    }
    return undefined;
  }

  /** Waits for a call, but not if the client is closed meanwhile; the call itself goes on. */
  private async orClosed<T>(call: Promise<T>): Promise<T> {
    const { signal } = this.closing;
    return await new Promise((resolve, reject) => {
      const closed = () => {
        reject(new ClientClosed("the client was closed"));
      };
      if (signal.aborted) closed();
      signal.addEventListener("abort", closed);
      call.then(resolve, reject).finally(() => {
        signal.removeEventListener("abort", closed);
      });
    });
  }

  private async read(answers: AsyncIterator<ConnectResponse>): Promise<void> {
    const { protocol, parts } = this;
    while (!protocol.drop) {
      if (parts.inbox.isFull && !(await this.mayGoOn())) return;
      const next = await answers.next();
      if (next.done) return;
      this.size += frameBytes(next.value);
      protocol.receive(next.value);
      this.pump();
    }
  }

  /**
   * The application does not read. So nothing is read here either, and the server learns of it; unless
   * the application waits for sends, whose answers come behind the events.
   *
   * @returns Whether to read on; false: the stream is to be ended.
   */
  private async mayGoOn(): Promise<boolean> {
    const { protocol } = this;
    if (protocol.outbox.size === 0) {
      protocol.pause();
      await new Promise<void>((resolve) => {
        this.wakeReader = resolve;
      });
      protocol.unpause();
    }
    if (this.parts.inbox.isFull) protocol.shedding = true;
    return !protocol.drop;
  }

  // --- beside the stream ---

  private async renew(): Promise<void> {
    const { protocol, parts } = this;
    try {
      await parts.credential.rejected(this.token);
      this.token = await parts.credential.token();
      protocol.renewToken(this.token);
    } catch (error) {
      if (error instanceof Unauthenticated) protocol.fail(error);
      else protocol.renewalFailed();
    }
    this.soon();
  }

  private async fetch(fetch: Fetch): Promise<void> {
    const request = { cursors: [fetch.cursor], cursorsOnly: true, maxEntries: FETCH_ENTRIES };
    const { signal } = this.closing;
    try {
      const answer = await this.parts.calls.call(ChatService.method.sync, request, { signal });
      this.protocol.fetched(fetch.number, answer);
    } catch {
      this.protocol.fetchFailed(fetch.number);
    }
    this.soon();
  }
}
