/**
 * The user's channels as a list to show: newest first, with unread counts and last messages.
 *
 * It starts with what the store held, and follows the events that the application gets.
 */

import { create } from "@bufbuild/protobuf";
import type { StoreEvent } from "./events.js";
import { isEntryEvent } from "./events.js";
import { applyEntry, newMessage, targetId } from "./projection.js";
import { type ClientStore, changedChannel } from "./store.js";
import {
  type Channel,
  type ChannelState,
  ChannelStateSchema,
  NotificationLevel,
} from "./gen/chinwag/chat/v1/channel_pb.js";
import type { ChannelView } from "./gen/chinwag/chat/v1/chat_service_pb.js";
import type { Entry } from "./gen/chinwag/chat/v1/entry_pb.js";
import type { Message } from "./gen/chinwag/chat/v1/message_pb.js";
import { toMs } from "./times.js";

/** A channel in the list. */
export interface ChannelSummary {
  readonly id: string;
  readonly channel: Channel;
  /** The user's own registers. */
  readonly state: ChannelState | undefined;
  /** The newest entry that is known. */
  readonly headId: bigint;
  readonly unreadCount: number;
  readonly lastMessage: Message | undefined;
}

interface Row {
  channel: Channel;
  state: ChannelState | undefined;
  headId: bigint;
  headCount: bigint;
  lastMessage: Message | undefined;
}

const max = (a: bigint, b: bigint) => (a > b ? a : b);

/** The list; `Client.channels`. */
export class ChannelList {
  private readonly rows = new Map<string, Row>();

  constructor(
    private readonly userId: string,
    private readonly store: ClientStore,
    private readonly views: () => AsyncIterable<ChannelView>,
    private readonly onChange: () => void,
  ) {}

  /** The channels: pinned ones first, then those with the newest messages. */
  list(options: { includeArchived?: boolean } = {}): ChannelSummary[] {
    return [...this.rows.values()]
      .filter((row) => options.includeArchived || !row.state?.preferences?.archived)
      .sort((a, b) => Number(isPinned(b)) - Number(isPinned(a)) || newestMs(b) - newestMs(a))
      .map(summaryOf);
  }

  /** One of them. */
  get(channelId: string): ChannelSummary | undefined {
    const row = this.rows.get(channelId);
    return row && summaryOf(row);
  }

  /** Unread messages of all channels whose messages notify. */
  get unreadCount(): number {
    let count = 0;
    for (const row of this.rows.values()) if (!isMuted(row)) count += unreadOf(row);
    return count;
  }

  /** Reads what the store holds. */
  async load(): Promise<void> {
    for (const channel of await this.store.channels()) {
      const state = await this.store.state(channel.id);
      const [lastMessage] = await this.store.messages(channel.id, { limit: 1 });
      this.put(channel, state, lastMessage);
    }
  }

  /** Reads the list from the server: a device that is new gets its last messages so. */
  async refresh(): Promise<ChannelSummary[]> {
    const channels: Channel[] = [];
    const states: ChannelState[] = [];
    const messages: Message[] = [];
    for await (const { channel, state, lastMessage } of this.views()) {
      if (channel === undefined) continue;
      const known = this.rows.get(channel.id);
      if (known === undefined) {
        this.put(channel, state, lastMessage);
        channels.push(channel);
        if (state !== undefined) states.push(state);
      } else {
        // Of what the stream tells too, the stream's is the newer: an answer may be overtaken.
        this.put(known.channel, known.state ?? state, lastMessage);
        const row = this.rows.get(channel.id) as Row;
        row.headId = max(row.headId, channel.headId);
        row.headCount = max(row.headCount, channel.headCount);
      }
      if (lastMessage !== undefined) messages.push(lastMessage);
    }
    await this.store.keepChannels(channels, states);
    await this.store.keepMessages(messages);
    this.onChange();
    return this.list({ includeArchived: true });
  }

  private put(channel: Channel, state: ChannelState | undefined, last: Message | undefined): void {
    const row = this.rows.get(channel.id);
    const before = row?.lastMessage;
    const isNewer =
      before === undefined ||
      (last !== undefined &&
        (last.id > before.id || (last.id === before.id && last.lastEntryId > before.lastEntryId)));
    const lastMessage = isNewer ? last : before;
    const counted = BigInt(state?.unreadCount ?? 0n) + (state?.readCount ?? 0n);
    this.rows.set(channel.id, {
      channel,
      state,
      lastMessage,
      headId: [channel.headId, state?.headId ?? 0n, lastMessage?.id ?? 0n, row?.headId ?? 0n].reduce(max),
      headCount: [channel.headCount, counted, lastMessage?.timelineCount ?? 0n, row?.headCount ?? 0n].reduce(max),
    });
  }

  /** An event comes to the application. */
  take(event: StoreEvent): void {
    if (isEntryEvent(event)) {
      const row = this.rows.get(event.channelId);
      if (row === undefined) return;
      this.takeEntry(row, event.entry);
    } else if (event.type === "ChannelOpened") {
      this.rows.delete(event.channelId);
      this.put(event.channel, event.state, undefined);
    } else if (event.type === "StateChanged") {
      const row = this.rows.get(event.channelId);
      if (row === undefined) return;
      this.put(row.channel, event.state, row.lastMessage);
    } else if (event.type === "ChannelReset") {
      const row = this.rows.get(event.channelId);
      if (event.cursor === undefined) this.rows.delete(event.channelId);
      else if (row !== undefined) row.lastMessage = undefined;
    } else {
      return;
    }
    this.onChange();
  }

  private takeEntry(row: Row, entry: Entry): void {
    row.headId = max(row.headId, entry.id);
    row.headCount = max(row.headCount, entry.timelineCount);
    const made = newMessage(entry);
    if (made !== undefined) {
      if (made.threadRootId === 0n) row.lastMessage = made;
      // Sending moves the own mark; the server says so too, a moment later.
      if (entry.actorId === this.userId) this.markRead(entry.channelId, entry.id);
      return;
    }
    if (row.lastMessage !== undefined && targetId(entry) === row.lastMessage.id) {
      const changed = { ...row.lastMessage };
      applyEntry(changed, entry);
      row.lastMessage = changed;
    }
    row.channel = changedChannel(row.channel, entry) ?? row.channel;
  }

  /** The user has read up to an entry: shown at once where that is the newest one. */
  markRead(channelId: string, readId: bigint): void {
    const row = this.rows.get(channelId);
    if (row === undefined || readId < row.headId || (row.state?.readId ?? 0n) >= readId) return;
    const state = row.state ?? create(ChannelStateSchema, { channelId });
    row.state = { ...state, readId, readCount: row.headCount, unreadCount: 0n };
    this.onChange();
  }
}

function summaryOf(row: Row): ChannelSummary {
  const { channel, state, headId, lastMessage } = row;
  return { id: channel.id, channel, state, headId, lastMessage, unreadCount: unreadOf(row) };
}

function unreadOf({ headCount, state }: Row): number {
  return state === undefined ? 0 : Number(max(headCount - state.readCount, 0n));
}

function isPinned({ state }: Row): boolean {
  return state?.preferences?.pinned ?? false;
}

function isMuted({ state }: Row): boolean {
  const preferences = state?.preferences;
  if (preferences === undefined) return false;
  const { notificationLevel, muteUntil, archived } = preferences;
  return archived || notificationLevel === NotificationLevel.NONE || toMs(muteUntil) > Date.now();
}

function newestMs({ channel, lastMessage }: Row): number {
  return toMs(lastMessage?.createTime) || toMs(channel.createTime);
}
