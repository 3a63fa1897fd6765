/** A clock that stands until a test moves it, and chance under a seed. */

import type { Clock } from "../src/clock.js";
import type { Random } from "../src/random.js";

export class FakeClock implements Clock {
  now = 1_000_000;

  monotonic(): number {
    return this.now;
  }

  time(): number {
    return 1_700_000_000_000 + this.now;
  }

  advance(ms: number): void {
    this.now += ms;
  }
}

/** Mulberry32, a generator of 32 bits of state: the same seed, the same run. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
