/** How long to wait before the next attempt. */

import type { Random } from "./random.js";

/**
 * Exponential back-off with full jitter: each wait is drawn evenly between zero and a bound that
 * doubles, so that clients that lost their server together do not come back together.
 *
 * Source: AWS Architecture Blog, "Exponential Backoff And Jitter"
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export class Backoff {
  private attempts = 0;

  constructor(
    private readonly rng: Random,
    private readonly baseMs = 500,
    private readonly capMs = 30_000,
  ) {}

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    // 2**30 is far above any cap; the exponent itself must not grow for ever.
    const bound = Math.min(this.capMs, this.baseMs * 2 ** Math.min(this.attempts, 30));
    this.attempts++;
    return this.rng() * bound;
  }

  /** The last attempt went well: start from the first bound again. */
  reset(): void {
    this.attempts = 0;
  }
}
