/** Events between the stream and the application: bounded, in order. */

import type { StoreEvent } from "./events.js";

export const MAX_EVENTS = 10_000;
export const MAX_BYTES = 16 << 20;

/**
 * Events that the application has not taken.
 *
 * It holds what one frame brought beyond its bounds; who fills it looks at `isFull` before the next
 * one.
 */
export class Inbox {
  private events: { event: StoreEvent; sizeBytes: number }[] = [];
  private next = 0;
  private bytes = 0;
  private wasFull = false;

  /** @param onRoom Called when it was full and half of it is free again. */
  constructor(
    private readonly onRoom: () => void,
    private readonly maxEvents = MAX_EVENTS,
    private readonly maxBytes = MAX_BYTES,
  ) {}

  get size(): number {
    return this.events.length - this.next;
  }

  /** Whether no more should be put in. */
  get isFull(): boolean {
    const isFull = this.size >= this.maxEvents || this.bytes >= this.maxBytes;
    this.wasFull ||= isFull;
    return isFull;
  }

  /**
   * Adds events.
   *
   * @param sizeBytes Of the frame that brought them.
   */
  put(events: readonly StoreEvent[], sizeBytes = 0): void {
    for (const event of events) {
      const last = this.size > 0 ? this.events.at(-1) : undefined;
      if (event.type === "ConnectionChanged" && last?.event.type === "ConnectionChanged") {
        // A connection that comes and goes must not fill a queue that nobody reads.
        last.event = event;
      } else {
        this.events.push({ event, sizeBytes: 0 });
      }
    }
    const last = this.events.at(-1);
    if (events.length > 0 && last !== undefined) {
      last.sizeBytes += sizeBytes;
      this.bytes += sizeBytes;
    }
  }

  /** The next event; undefined if there is none. */
  pop(): StoreEvent | undefined {
    const first = this.events[this.next];
    if (first === undefined) return undefined;
    this.next++;
    if (this.next * 2 > this.events.length) {
      // Not with each one: a shift of a long array costs its length.
      this.events = this.events.slice(this.next);
      this.next = 0;
    }
    this.bytes -= first.sizeBytes;
    const hasRoom = this.size * 2 <= this.maxEvents && this.bytes * 2 <= this.maxBytes;
    if (this.wasFull && hasRoom) {
      this.wasFull = false;
      this.onRoom();
    }
    return first.event;
  }
}
