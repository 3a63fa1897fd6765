/** What a device keeps over restarts: a port, and what its implementations share. */

import { clone } from "@bufbuild/protobuf";
import type { Cursor, StoreEvent } from "./events.js";
import { isEntryEvent } from "./events.js";
import type { Send } from "./outbox.js";
import { applyEntry, applyReply, newMessage, targetId } from "./projection.js";
import {
  type Channel,
  ChannelKind,
  ChannelSchema,
  type ChannelState,
} from "./gen/chinwag/chat/v1/channel_pb.js";
import type { Entry } from "./gen/chinwag/chat/v1/entry_pb.js";
import type { Message } from "./gen/chinwag/chat/v1/message_pb.js";

/** What a store holds when a client starts. */
export interface Saved {
  cursors: Cursor[];
  stamp: string;
  accountCursor: string;
  /** Unresolved messages, in order. */
  sends: Send[];
}

/** Which of the kept messages are wanted. */
export interface MessagesWanted {
  /** Only messages with smaller ids; 0n: the newest. */
  beforeId?: bigint;
  limit?: number;
  /** 0n: the main timeline. */
  threadRootId?: bigint;
}

/**
 * A device's store: for one user and one client at a time.
 *
 * Methods do not wait for a network. Each takes effect whole or not at all, also if the page is closed
 * in between; those that write take effect in the order of the calls.
 */
export interface ClientStore {
  /** What was kept. */
  load(): Promise<Saved>;
  /**
   * Says whose store it is.
   *
   * @throws StoreMismatch It holds another user's data.
   */
  bind(userId: string): Promise<void>;
  /** Keeps a message until `removeSends`, before it first goes out. */
  addSend(send: Send): Promise<void>;
  /** These are resolved: stored, refused or given up. Unknown ones are passed over. */
  removeSends(clientMessageIds: readonly string[]): Promise<void>;
  /**
   * The application took these events: moves the cursors behind them and brings the copy of messages,
   * channels and registers up to them. A deletion removes the text of the message and of its edits; a
   * reset drops what was kept of the channel.
   */
  commit(events: readonly StoreEvent[]): Promise<void>;
  /** Keeps messages that were read from the server, each unless a newer form of it is there. */
  keepMessages(messages: readonly Message[]): Promise<void>;
  /** Keeps channels and registers that were read from the server. */
  keepChannels(channels: readonly Channel[], states: readonly ChannelState[]): Promise<void>;
  /** The newest kept messages, ids rising. */
  messages(channelId: string, wanted?: MessagesWanted): Promise<Message[]>;
  /** The kept channels, by id. */
  channels(): Promise<Channel[]>;
  /** The user's registers of a channel. */
  state(channelId: string): Promise<ChannelState | undefined>;
  /** The client is closed: frees what the store holds open. Another client may begin with it. */
  close(): Promise<void>;
}

type Maybe<T> = T | undefined | Promise<T | undefined>;

/** What `apply` needs: the rows of a store, within one transaction. */
export interface Tables {
  putCursor(cursor: Cursor): void;
  putStamp(stamp: string): void;
  putAccountCursor(cursor: string): void;
  getMessage(channelId: string, messageId: bigint): Maybe<Message>;
  putMessage(message: Message): void;
  getChannel(channelId: string): Maybe<Channel>;
  putChannel(channel: Channel): void;
  putState(state: ChannelState): void;
  dropMessages(channelId: string): void;
  /** Drops the cursor, messages, channel and state. */
  dropChannel(channelId: string): void;
}

/** Brings a store up to an event. */
export async function apply(event: StoreEvent, tables: Tables): Promise<void> {
  if (isEntryEvent(event)) {
    await applyToTables(event.entry, tables);
    tables.putCursor(event.cursor);
    return;
  }
  switch (event.type) {
    case "StateChanged":
      tables.putState(event.state);
      break;
    case "StampReached":
      tables.putStamp(event.stamp);
      break;
    case "GapSeen":
      tables.putCursor(event.cursor);
      break;
    case "ChannelOpened":
      tables.putChannel(event.channel);
      if (event.state !== undefined) tables.putState(event.state);
      // A broadcast channel is followed only while it is looked at.
      if (event.channel.kind !== ChannelKind.BROADCAST) tables.putCursor(event.cursor);
      break;
    case "ChannelReset":
      if (event.cursor === undefined) {
        tables.dropChannel(event.channelId);
      } else {
        tables.dropMessages(event.channelId);
        tables.putCursor(event.cursor);
      }
      break;
    case "AccountChanged":
      tables.putAccountCursor(event.event.cursor);
      break;
    default:
  }
}

async function applyToTables(entry: Entry, tables: Tables): Promise<void> {
  const kind = entry.kind;
  const made = newMessage(entry);
  if (made !== undefined) {
    tables.putMessage(made);
    if (made.threadRootId === 0n) return;
    const root = await tables.getMessage(entry.channelId, made.threadRootId);
    if (root !== undefined) {
      applyReply(root, entry);
      tables.putMessage(root);
    }
    return;
  }
  const target = targetId(entry);
  if (target !== 0n) {
    const message = await tables.getMessage(entry.channelId, target);
    if (message !== undefined) {
      applyEntry(message, entry);
      tables.putMessage(message);
    }
    return;
  }
  const channel = await channelOf(kind.case, entry, tables);
  if (channel === undefined) return;
  const changed = changedChannel(channel, entry);
  if (changed !== undefined) tables.putChannel(changed);
}

async function channelOf(
  kind: Entry["kind"]["case"],
  entry: Entry,
  tables: Tables,
): Promise<Channel | undefined> {
  const isOfChannel =
    kind === "channelCreated" || kind === "channelUpdated" || kind === "channelDeleted";
  return isOfChannel ? await tables.getChannel(entry.channelId) : undefined;
}

/** A channel after an entry about its settings; undefined: the entry changes none. */
export function changedChannel(channel: Channel, entry: Entry): Channel | undefined {
  const kind = entry.kind;
  if (kind.case === "channelDeleted") {
    const changed = clone(ChannelSchema, channel);
    if (entry.createTime !== undefined) changed.deleteTime = entry.createTime;
    return changed;
  }
  if (kind.case !== "channelCreated" && kind.case !== "channelUpdated") return undefined;
  const settings = kind.value.channel;
  if (settings === undefined || entry.redacted) return undefined;
  // Entries say nothing of counts and heads.
  const { generation, memberCount, headId, headCount } = channel;
  return { ...clone(ChannelSchema, settings), generation, memberCount, headId, headCount };
}
