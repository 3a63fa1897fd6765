/** Waiting, in ways that can be cut short. */

// setTimeout takes no more; a timer that rings too early is set again.
const LONGEST_MS = 2 ** 31 - 1;

/** Calls back after a time; gives what takes the timer back. */
export function after(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, Math.min(Math.max(ms, 0), LONGEST_MS));
  return () => {
    clearTimeout(timer);
  };
}

/** Waits; the signal ends the wait early, without an error. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = () => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = after(ms, done);
    signal?.addEventListener("abort", done);
  });
}
