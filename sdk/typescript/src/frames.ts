/** Frames on their way between a protocol and a transport. */

import type { ConnectRequest, ConnectResponse } from "./gen/chinwag/chat/v1/connect_pb.js";

// What an event without a text takes, about.
const EVENT_BYTES = 200;

/**
 * The frames that wait to be written. How many that can be the outbox's window bounds: beside sends
 * there is at most one frame a turn.
 */
export class FrameQueue implements AsyncIterableIterator<ConnectRequest> {
  private frames: ConnectRequest[] = [];
  private isOver = false;
  private waiting: (() => void) | undefined;

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Adds frames. */
  put(frames: readonly ConnectRequest[]): void {
    if (this.isOver || frames.length === 0) return;
    this.frames.push(...frames);
    this.wake();
  }

  /** Nothing more is written. */
  end(): void {
    this.isOver = true;
    this.frames = [];
    this.wake();
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.();
  }

  async next(): Promise<IteratorResult<ConnectRequest>> {
    for (;;) {
      const value = this.frames.shift();
      if (value !== undefined) return { done: false, value };
      if (this.isOver) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.waiting = resolve;
      });
    }
  }

  /** The transport takes no more, since the call has failed. */
  async throw(error: unknown): Promise<IteratorResult<ConnectRequest>> {
    this.end();
    throw error;
  }

  /** The transport takes no more. */
  async return(): Promise<IteratorResult<ConnectRequest>> {
    this.end();
    return { done: true, value: undefined };
  }
}

/** How large a frame is, about: what bounds the memory for events that nobody takes. */
export function frameBytes(frame: ConnectResponse): number {
  let bytes = 0;
  for (const { event } of frame.events) {
    bytes += EVENT_BYTES;
    if (event.case !== "entry") continue;
    const kind = event.value.kind;
    if (kind.case !== "messageSent" && kind.case !== "messageEdited") continue;
    const content = kind.value.content;
    bytes += content?.text.length ?? 0;
    bytes += content?.encrypted?.ciphertext.length ?? 0;
  }
  const others = frame.receipts.length + frame.typing.length + frame.presence.length;
  return bytes + EVENT_BYTES * (others + frame.account.length);
}
