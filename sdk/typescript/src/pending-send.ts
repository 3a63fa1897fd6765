/** A message in the outbox, as the application holds it. */

import { ClientClosed, type ChinwagError } from "./errors.js";
import type { Sent } from "./outbox.js";

/**
 * A message in the outbox: await it for its `Sent`.
 *
 * It goes out, over any number of connections, whether somebody waits for it or not.
 */
export class PendingSend implements PromiseLike<Sent> {
  /** Whether somebody waits for it; otherwise its failure comes as a SendResolved event. */
  isAwaited = false;
  /** Whether it is stored, or has failed. */
  isDone = false;
  private readonly promise: Promise<Sent>;
  private settle!: { resolve: (sent: Sent) => void; reject: (error: unknown) => void };

  constructor(
    readonly channelId: string,
    readonly clientMessageId: string,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Who only posts does not care.
    this.promise.catch(() => undefined);
  }

  then<A = Sent, B = never>(
    onSent?: ((sent: Sent) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.isAwaited = true;
    return this.promise.then(onSent, onError);
  }

  /** It is stored, or has failed. */
  resolve(sent: Sent | undefined, error: unknown): void {
    this.isDone = true;
    if (sent !== undefined) this.settle.resolve(sent);
    else this.settle.reject(error);
  }

  /** The client is closed: the message goes out with the next one on the same store. */
  abandon(error: ChinwagError): void {
    this.resolve(
      undefined,
      new ClientClosed(`the message is in the store, and not sent: ${error.message}`, { cause: error }),
    );
  }
}
