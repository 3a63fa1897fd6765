/** What to do after a stream has ended: when to connect again, where, with a new token, or never. */

import type { Duration } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import type { Endpoints } from "./endpoints.js";
import {
  ChinwagError,
  ClientClosed,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  PermissionDenied,
  Replaced,
  Unauthenticated,
  fromStatus,
} from "./errors.js";
import type { Random } from "./random.js";
import type { AllowAddress } from "./redirect.js";
import { type Close, CloseReason } from "./gen/chinwag/common/v1/close_pb.js";
import { toMs } from "./times.js";

// A node that ends so many streams in a row, each before it was caught up, is left for another.
export const CLOSES = 3;
// A server's wish to stay away is granted up to this; beyond it something is wrong with the server.
export const MAX_GUIDED_MS = 3_600_000;

/** The next attempt. */
export interface Plan {
  /** How long to wait first. */
  readonly delayMs: number;
  /** The part of it that the server asks for: no impatience of the user's shortens that. */
  readonly leastMs: number;
  /** Where; one of the client's own, or for this attempt alone another one. */
  readonly address: string;
  /** Refresh the access token first. */
  readonly newToken: boolean;
  /** Why the last stream ended, if something was wrong. */
  readonly error: ChinwagError | undefined;
}

const isForGood = (error: ChinwagError) =>
  error instanceof PermissionDenied ||
  error instanceof InvalidArgument ||
  error instanceof NotFound ||
  error instanceof FailedPrecondition ||
  error.code === Code.Unimplemented;

/** Decides by the server's guidance, or else by the status and with full jitter. */
export class Reconnect {
  private readonly backoff: Backoff;
  private readonly mayFollow: AllowAddress;
  private tokenIsNew = false;
  private closes = 0;
  // Where the last stream is, or was tried.
  private address: string;

  constructor(
    private readonly rng: Random,
    private readonly endpoints: Endpoints,
    mayFollow?: AllowAddress,
  ) {
    this.mayFollow = mayFollow ?? ((address) => endpoints.has(address));
    this.backoff = new Backoff(rng);
    this.address = endpoints.current;
  }

  private plan(delayMs: number, leastMs = 0, newToken = false, error?: ChinwagError): Plan {
    return { delayMs, leastMs, address: this.address, newToken, error };
  }

  /** The first attempt. */
  first(): Plan {
    return this.plan(0);
  }

  /** The client itself ended the stream, to resume: at once, where it was. */
  resumed(): Plan {
    this.stay();
    return this.plan(0);
  }

  /** The server took the token. */
  welcomed(): void {
    this.tokenIsNew = false;
  }

  /** The connection is good: the next break starts from the shortest waits. */
  caughtUp(): void {
    this.backoff.reset();
    this.closes = 0;
    this.endpoints.works(this.address);
  }

  /** The server said why the stream ends: the next attempt, or the error for good. */
  guided(close: Close): Plan | ChinwagError {
    const error = closedError(close);
    if (!close.reconnect) return error;
    this.closes++;
    let delayMs = guidedMs(close.minDelay);
    const jitterMs = guidedMs(close.jitter);
    if (jitterMs === 0) {
      delayMs += this.backoff.next();
    } else {
      delayMs += this.rng() * jitterMs;
      // Two nodes that send a client to each other must not be a loop without waits.
      if (this.closes > 1) delayMs = Math.max(delayMs, this.backoff.next());
    }
    this.goWhereGuided(close);
    const newToken = close.reason === CloseReason.TOKEN_EXPIRED;
    return this.plan(delayMs, delayMs, newToken, close.status?.code ? error : undefined);
  }

  private goWhereGuided(close: Close): void {
    // The node gives the stream away: with no address, any other node will do.
    const goAway = close.reason === CloseReason.DRAINING || close.reason === CloseReason.MOVED;
    if (close.address !== "" && this.mayFollow(close.address)) {
      if (this.endpoints.has(close.address)) this.endpoints.use(close.address);
      this.address = close.address;
    } else if (goAway || this.closes % CLOSES === 0) {
      this.endpoints.failed(this.address);
      this.endpoints.next();
      this.address = this.endpoints.current;
    } else {
      this.stay();
    }
  }

  /** The same address again, but for one that the server gave for one attempt. */
  private stay(): void {
    if (!this.endpoints.has(this.address)) this.address = this.endpoints.current;
  }

  /** The stream ended, or could not be opened, without guidance. */
  broken(error: ChinwagError | undefined): Plan | ChinwagError {
    if (error instanceof Unauthenticated) {
      // A token that was just refreshed and is refused again will not get better.
      if (this.tokenIsNew) return error;
      this.tokenIsNew = true;
      const delayMs = this.backoff.next();
      this.stay();
      return this.plan(delayMs, 0, true, error);
    }
    if (error !== undefined && isForGood(error)) return error;
    const atOnce = this.endpoints.ended(this.address, error);
    this.address = this.endpoints.current;
    if (atOnce) return this.plan(0, 0, false, error);
    const leastMs = error?.retryAfterMs ?? 0;
    return this.plan(Math.max(this.backoff.next(), leastMs), leastMs, false, error);
  }
}

function guidedMs(duration: Duration | undefined): number {
  return Math.min(Math.max(toMs(duration), 0), MAX_GUIDED_MS);
}

/** A `Close` as an error. */
export function closedError(close: Close): ChinwagError {
  const reason = CloseReason[close.reason] ?? `CLOSE_REASON_${String(close.reason)}`;
  if (close.reason === CloseReason.REPLACED) {
    return new Replaced(
      "another stream of the same device took over: give each program a login of its own",
      { reason },
    );
  }
  if (close.status?.code) {
    const error = fromStatus(close.status);
    error.metadata["close_reason"] ??= reason;
    return error;
  }
  return new ClientClosed(close.status?.message || "the server closed the stream", { reason });
}
