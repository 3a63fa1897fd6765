/** Chance as the SDK's rules see it: a port, so that tests own the seed. */

/** Draws a number evenly from 0 up to, but not including, 1. */
export type Random = () => number;

/** The system's own source. Message ids come from it too, so it must not be guessable or repeat. */
export const systemRandom: Random = () => {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return ((high >>> 5) * 0x4000000 + (low >>> 6)) / 2 ** 53;
};

/** One of several, each as likely. */
export function choice<T>(rng: Random, from: readonly T[]): T {
  const chosen = from[Math.floor(rng() * from.length)];
  if (chosen === undefined) throw new RangeError("nothing to choose from");
  return chosen;
}

/** A copy in random order (Fisher and Yates). */
export function shuffled<T>(rng: Random, from: readonly T[]): T[] {
  const result = [...from];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(rng() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}
