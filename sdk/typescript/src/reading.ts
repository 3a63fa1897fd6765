/** The application's loop over its events, and the commits behind it. */

import { ClientClosed, type ChinwagError } from "./errors.js";
import type { Event, StoreEvent } from "./events.js";
import type { Inbox } from "./inbox.js";
import type { ClientStore } from "./store.js";

// Events that the application took are committed together: when it waits, or this many.
export const COMMIT_EVENTS = 200;

/** Whom a reading tells, and asks. */
export interface ReadingSkin {
  /** Why nothing more will come; undefined: it may. */
  closedBy(): ChinwagError | undefined;
  /** The application is about to get an event. */
  onHanded(event: StoreEvent): void;
  /** It took it. */
  onTaken(event: StoreEvent): void;
}

/**
 * An iterator over a client's events: see `Client.events`. One loop at a time; a loop that is left and
 * begun again goes on with the next event.
 */
export class Reading implements AsyncIterableIterator<Event> {
  private inWork: Event | undefined;
  private taken: StoreEvent[] = [];
  private waiting: (() => void) | undefined;
  private commits: Promise<void> = Promise.resolve();

  constructor(
    private readonly inbox: Inbox,
    private readonly store: ClientStore,
    private readonly skin: ReadingSkin,
  ) {}

  [Symbol.asyncIterator](): this {
    // The event in work of a loop that was left is not counted as taken: its body may have failed.
    // What follows it in its channel moves the cursor behind it.
    this.inWork = undefined;
    return this;
  }

  async next(): Promise<IteratorResult<Event>> {
    if (this.inWork !== undefined) {
      this.take(this.inWork);
      this.inWork = undefined;
    }
    if (this.taken.length >= COMMIT_EVENTS) await this.flush();
    for (;;) {
      const event = this.pop();
      if (event !== undefined) {
        this.inWork = event;
        this.skin.onHanded(event);
        return { done: false, value: event };
      }
      if (this.taken.length > 0) {
        await this.flush();
        continue; // something may have come meanwhile
      }
      const error = this.skin.closedBy();
      if (error !== undefined) {
        // Without a reason: closed by the application.
        if (error instanceof ClientClosed && error.reason === "") return { done: true, value: undefined };
        throw error;
      }
      await this.wait();
    }
  }

  async return(): Promise<IteratorResult<Event>> {
    return { done: true, value: undefined };
  }

  private pop(): Event | undefined {
    for (;;) {
      const event = this.inbox.pop();
      if (event?.type !== "StampReached") return event;
      this.taken.push(event);
    }
  }

  private take(event: Event): void {
    this.taken.push(event);
    this.skin.onTaken(event);
  }

  private wait(): Promise<void> {
    if (this.waiting !== undefined) {
      throw new Error("another loop over this client's events is waiting");
    }
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }

  /** Something has come, or the client is closed. */
  wake(): void {
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.();
  }

  /** Counts an event as taken now, for a loop that ends with it. */
  async commit(event: Event): Promise<void> {
    if (event === this.inWork) this.inWork = undefined;
    this.take(event);
    await this.flush();
  }

  /** Writes what was taken to the store, in order, and after a failure together with what follows. */
  async flush(): Promise<void> {
    const write = async () => {
      const taken = this.taken;
      if (taken.length === 0) return;
      this.taken = [];
      try {
        await this.store.commit(taken);
      } catch (error) {
        this.taken = [...taken, ...this.taken];
        throw error;
      }
    };
    this.commits = this.commits.then(write, write);
    await this.commits;
  }
}
