/** Unary calls: the token, a deadline, retries that do nothing twice, and typed errors. */

import {
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  create,
} from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import { systemClock } from "./clock.js";
import { type ChinwagError, Unavailable, fromTransport } from "./errors.js";
import { hasChangedNothing, hasField, isRepeatable } from "./failover.js";
import { requestId } from "./ids.js";
import { type Random, systemRandom } from "./random.js";
import { sleep } from "./timers.js";

export const TIMEOUT_MS = 15_000;

/** What proves who calls. */
export interface Credential {
  /**
   * What stands after "Bearer "; refreshed first if it is about to end.
   *
   * @throws ChinwagError It has ended and cannot be refreshed.
   */
  token(): Promise<string>;
  /**
   * The server says that a token has expired: the next `token` is another one.
   *
   * @throws ChinwagError There is no other one.
   */
  rejected(token: string): Promise<void>;
}

/** How a call is made. */
export interface CallOptions {
  /** For all attempts together. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** What calls are made with, beside a transport. */
export interface CallParts {
  credential?: Credential;
  rng?: Random;
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  monotonic?: () => number;
}

/** Whether the same call should be made again within the time that is left. */
export function isWorthARetry(
  error: ChinwagError,
  method: DescMethodUnary,
  leftMs: number,
): boolean {
  if (error.retryAfterMs !== undefined && error.retryAfterMs > leftMs) return false;
  if (!(error instanceof Unavailable || error.isTemporary)) return false;
  return isRepeatable(method) || hasChangedNothing(error);
}

/**
 * Makes the unary calls of one client.
 *
 * A call that the server refuses for a moment, or that does not reach it, is made again until its time
 * is over: with the same request_id, so it takes effect once.
 */
export class Calls {
  private readonly rng: Random;
  private readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  private readonly monotonic: () => number;
  private readonly credential: Credential | undefined;

  constructor(
    private readonly transport: Transport,
    parts: CallParts = {},
  ) {
    this.credential = parts.credential;
    this.rng = parts.rng ?? systemRandom;
    this.sleep = parts.sleep ?? sleep;
    this.monotonic = parts.monotonic ?? (() => systemClock.monotonic());
  }

  /**
   * Makes a call.
   *
   * @throws ChinwagError It was refused, or could not be made in time.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const made = withRequestId(method.input, create(method.input, request));
    const end = this.monotonic() + (options.timeoutMs ?? TIMEOUT_MS);
    const backoff = new Backoff(this.rng, 200, 5000);
    let isRenewed = false;
    for (;;) {
      const token = await this.credential?.token();
      const header = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const limit = Math.max(Math.ceil(end - this.monotonic()), 1);
      let error: ChinwagError;
      try {
        const input = made as MessageInitShape<I>;
        return (await this.transport.unary(method, options.signal, limit, header, input)).message;
      } catch (thrown) {
        error = fromTransport(thrown);
      }
      if (options.signal?.aborted) throw error;
      if (error.reason === "TOKEN_EXPIRED" && token !== undefined && !isRenewed) {
        isRenewed = true;
        await this.credential?.rejected(token);
        continue;
      }
      const left = end - this.monotonic();
      const wait = Math.max(backoff.next(), error.retryAfterMs ?? 0);
      if (wait >= left || !isWorthARetry(error, method, left)) throw error;
      await this.sleep(wait, options.signal);
    }
  }
}

/** Gives a request that changes something its request_id, so that a retry takes effect once. */
function withRequestId<D extends DescMessage>(desc: D, request: MessageShape<D>): MessageShape<D> {
  const made = request as MessageShape<D> & { requestId?: string };
  if (!hasField(desc, "requestId") || made.requestId) return request;
  // A copy: what the application gave stays as it is, and is a new call the next time.
  return { ...made, requestId: requestId() };
}
