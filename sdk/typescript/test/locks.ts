/** Web Locks of one browser, for tests. */

import type { Locks } from "../src/locks.js";

type Request = Parameters<Locks["request"]>;

/** Locks that are held until their callback's promise is settled. */
export class FakeLocks implements Locks {
  private readonly held = new Set<string>();

  async request(name: Request[0], _options: Request[1], callback: Request[2]): Promise<unknown> {
    if (this.held.has(name)) return await callback(null);
    this.held.add(name);
    try {
      return await callback({ name });
    } finally {
      this.held.delete(name);
    }
  }

  /** The same locks, for somebody whose time to wait is over at once. */
  impatient(): Locks {
    return {
      request: (name, options, callback) => {
        if (this.held.has(name)) return Promise.reject(new DOMException("", "TimeoutError"));
        return this.request(name, options, callback);
      },
    };
  }
}
