/** What an application shows of the outbox: what waits, and what failed. */

import type { ChinwagError } from "./errors.js";
import type { Outbox, Outcome, Send } from "./outbox.js";
import type { PendingSend } from "./pending-send.js";
import type { MessageContent } from "./gen/chinwag/chat/v1/message_pb.js";

/** Failed messages that are shown at most; the oldest go first. */
export const MAX_FAILED = 1000;

/** A message that is not known to be stored. */
export interface Pending {
  readonly channelId: string;
  readonly clientMessageId: string;
  readonly content: MessageContent;
  readonly replyToId: bigint;
  readonly threadRootId: bigint;
  /** When the application gave it, since 1970 by the device's clock. */
  readonly createTimeMs: number;
}

/** A message that was refused for good, or given up after seven days. */
export interface Failed extends Pending {
  readonly error: ChinwagError;
}

/** Sends a message. */
export type Post = (
  channelId: string,
  content: MessageContent,
  replyToId: bigint,
  threadRootId: bigint,
) => PendingSend;

function pendingOf({ request, createTimeMs }: Send): Pending | undefined {
  const { channelId, clientMessageId, content, replyToId, threadRootId } = request;
  if (content === undefined) return undefined;
  return { channelId, clientMessageId, content, replyToId, threadRootId, createTimeMs };
}

/** The outbox of a client, to be shown. */
export class OutboxView {
  private readonly failures = new Map<string, Failed>();

  constructor(
    private readonly outbox: Outbox,
    private readonly post: Post,
    private readonly onChange: () => void,
  ) {}

  /** The messages that wait, in the order of the posts. */
  get pending(): readonly Pending[] {
    return this.outbox.sends().flatMap((send) => pendingOf(send) ?? []);
  }

  /** Those that failed while this client lived, oldest first. */
  get failed(): readonly Failed[] {
    return [...this.failures.values()];
  }

  /** The messages that wait for one channel. */
  of(channelId: string): readonly Pending[] {
    return this.pending.filter((pending) => pending.channelId === channelId);
  }

  /**
   * Sends a failed message as a new one.
   *
   * @throws RangeError It is not among the failed ones.
   */
  retry(clientMessageId: string): PendingSend {
    const failed = this.failures.get(clientMessageId);
    if (failed === undefined) throw new RangeError(`${clientMessageId} has not failed`);
    const { channelId, content, replyToId, threadRootId } = failed;
    const sending = this.post(channelId, content, replyToId, threadRootId);
    this.dismiss(clientMessageId);
    return sending;
  }

  /** Forgets a failed message. */
  dismiss(clientMessageId: string): void {
    if (this.failures.delete(clientMessageId)) this.onChange();
  }

  /** A message is resolved. */
  resolved({ send, error }: Outcome): void {
    const pending = error && pendingOf(send);
    if (pending !== undefined && error !== undefined) {
      this.failures.set(pending.clientMessageId, { ...pending, error });
      if (this.failures.size > MAX_FAILED) {
        for (const oldest of this.failures.keys()) {
          this.failures.delete(oldest);
          break;
        }
      }
    }
    this.onChange();
  }
}
