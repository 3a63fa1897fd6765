/** Time as the SDK's rules see it: a port, so that tests own the clock. */

/** Two clocks: one that only rises, one that says the date. All times are milliseconds. */
export interface Clock {
  /** Milliseconds since any moment; never falls. */
  monotonic(): number;
  /** Milliseconds since 1970, as far as the device knows. */
  time(): number;
}

/** The process's own clocks. */
export const systemClock: Clock = {
  monotonic: () => performance.now(),
  time: () => Date.now(),
};
