/** Read and delivered marks on their way: watermarks that overwrite one another. */

import { clone, create } from "@bufbuild/protobuf";
import type { ChannelState } from "./gen/chinwag/chat/v1/channel_pb.js";
import { type Mark, MarkSchema } from "./gen/chinwag/chat/v1/connect_pb.js";

export const MAX_A_FRAME = 1000;
// A delivered mark may wait so long for others to share its frame.
export const LAZY_MS = 1000;

const max = (a: bigint, b: bigint) => (a > b ? a : b);

/** How far a mark is to be raised; absent: unchanged. */
export interface Raise {
  readId?: bigint;
  deliveredId?: bigint;
  /** May wait `LAZY_MS` for others. */
  lazy?: boolean;
}

/**
 * The newest marks that the server has not confirmed by a `ChannelState`.
 *
 * A mark has no answer, so after a break all unconfirmed ones go again: they only rise, and a repeat
 * changes nothing.
 */
export class Marks {
  private readonly marks = new Map<string, Mark>();
  private readonly dirty = new Set<string>();
  due: number | undefined;

  /** Raises marks. */
  raiseTo(channelId: string, raise: Raise, now: number): void {
    const { readId = 0n, deliveredId = 0n, lazy = false } = raise;
    let mark = this.marks.get(channelId);
    if (mark === undefined) {
      mark = create(MarkSchema, { channelId });
      this.marks.set(channelId, mark);
    } else if (readId <= mark.readId && deliveredId <= max(mark.deliveredId, mark.readId)) {
      return;
    }
    mark.readId = max(mark.readId, readId);
    mark.deliveredId = max(mark.deliveredId, deliveredId);
    this.dirty.add(channelId);
    const due = lazy ? now + LAZY_MS : now;
    this.due = this.due === undefined ? due : Math.min(due, this.due);
  }

  /** Those that have to go now, at most a frame's worth. */
  take(now: number): Mark[] {
    if (this.due === undefined || this.due > now) return [];
    const taken: Mark[] = [];
    for (const channelId of this.dirty) {
      if (taken.length === MAX_A_FRAME) break;
      this.dirty.delete(channelId);
      const mark = this.marks.get(channelId);
      // A copy: a mark that is raised later must not change a frame that waits to be written.
      if (mark !== undefined) taken.push(clone(MarkSchema, mark));
    }
    if (this.dirty.size === 0) this.due = undefined;
    return taken;
  }

  /** The server tells the user's registers. */
  confirmed(state: ChannelState): void {
    const mark = this.marks.get(state.channelId);
    if (mark !== undefined && state.readId >= mark.readId && state.deliveredId >= mark.deliveredId) {
      this.drop(state.channelId);
    }
  }

  /** A mark was refused, or its channel is gone. */
  drop(channelId: string): void {
    this.marks.delete(channelId);
    this.dirty.delete(channelId);
  }

  /** The unconfirmed ones may not have arrived. */
  again(now: number): void {
    for (const channelId of this.marks.keys()) this.dirty.add(channelId);
    this.due = this.dirty.size > 0 ? now : undefined;
  }
}
