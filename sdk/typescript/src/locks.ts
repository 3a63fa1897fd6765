/** Web Locks: what the browser frees however a tab ends. */

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(
    name: string,
    options: { ifAvailable?: boolean; signal?: AbortSignal },
    callback: (lock: unknown) => Promise<void> | void,
  ): Promise<unknown>;
}

/** The browser's; undefined where there are none (an insecure page, or Node). */
export function systemLocks(): Locks | undefined {
  if (typeof navigator === "undefined") return undefined;
  const { locks } = navigator as Partial<Navigator>;
  return locks as Locks | undefined;
}

/**
 * Takes a lock and holds it.
 *
 * @param waitMs How long to wait for it; 0: only if it is free now.
 * @returns What frees it; undefined: somebody else has it.
 */
export function holdLock(
  locks: Locks,
  name: string,
  waitMs = 0,
): Promise<(() => void) | undefined> {
  const options = waitMs > 0 ? { signal: AbortSignal.timeout(waitMs) } : { ifAvailable: true };
  return new Promise((resolve) => {
    const holding = (lock: unknown): Promise<void> | void => {
      if (lock === null) {
        resolve(undefined);
        return;
      }
      return new Promise<void>((free) => {
        resolve(free);
      });
    };
    // Rejected: the time is over.
    locks.request(name, options, holding).catch(() => {
      resolve(undefined);
    });
  });
}
