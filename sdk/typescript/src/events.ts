/** What a client's application gets, in order. */

import type { ChinwagError } from "./errors.js";
import { toMs } from "./times.js";
import type { AccountEvent } from "./gen/chinwag/account/v1/events_pb.js";
import type { Channel, ChannelState } from "./gen/chinwag/chat/v1/channel_pb.js";
import type { Entry } from "./gen/chinwag/chat/v1/entry_pb.js";
import type { MessageContent } from "./gen/chinwag/chat/v1/message_pb.js";
import type { PresenceChange } from "./gen/chinwag/presence/v1/presence_pb.js";

/**
 * A position in a channel: commit it in one transaction with what an event led to, and give it to
 * `connect({ cursors })` when the program starts again.
 */
export interface Cursor {
  readonly channelId: string;
  readonly generation: bigint;
  readonly id: bigint;
}

/** The state of a client's connection. */
export type Connection = "connecting" | "catching up" | "live" | "waiting" | "closed";

/** The connection's state; `error` says why it is not live, `retryInMs` when it will try. */
export interface ConnectionChanged {
  readonly type: "ConnectionChanged";
  readonly connection: Connection;
  readonly error?: ChinwagError | undefined;
  readonly retryInMs?: number | undefined;
}

/** What every event has that is the next entry of a channel's log. */
export interface EntryFacts {
  readonly channelId: string;
  /** As it came. */
  readonly entry: Entry;
  /** The position after it. */
  readonly cursor: Cursor;
  /** Who did it; empty: the server. */
  readonly actorId: string;
  /** When, by the server's clock. */
  readonly createTime: Date;
}

/** A message, one's own too. */
export interface MessageReceived extends EntryFacts {
  readonly type: "MessageReceived";
  readonly messageId: bigint;
  readonly senderId: string;
  /** Absent if the message was deleted since (`entry.redacted`). */
  readonly content: MessageContent | undefined;
  readonly text: string;
  readonly clientMessageId: string;
  /** The message in whose thread it stands; 0n: the main timeline. */
  readonly threadRootId: bigint;
}

/** A message has new content. */
export interface MessageEdited extends EntryFacts {
  readonly type: "MessageEdited";
  readonly messageId: bigint;
  readonly content: MessageContent | undefined;
  readonly text: string;
}

/** A message lost its content. */
export interface MessageDeleted extends EntryFacts {
  readonly type: "MessageDeleted";
  readonly messageId: bigint;
}

/** Somebody reacted or took a reaction back. */
export interface ReactionChanged extends EntryFacts {
  readonly type: "ReactionChanged";
  readonly added: boolean;
  readonly messageId: bigint;
  readonly emoji: string;
}

/** Users came, went, or have another role: see `entry`. */
export interface MembersChanged extends EntryFacts {
  readonly type: "MembersChanged";
}

/** The channel was created, changed or deleted: see `entry`. */
export interface ChannelChanged extends EntryFacts {
  readonly type: "ChannelChanged";
}

/** An entry of a kind that this version does not know. */
export interface Unknown extends EntryFacts {
  readonly type: "Unknown";
}

/** The next entry of a channel. */
export type EntryEvent =
  | MessageReceived
  | MessageEdited
  | MessageDeleted
  | ReactionChanged
  | MembersChanged
  | ChannelChanged
  | Unknown;

/** The client's view of a channel begins here; what lies before is `history`. */
export interface ChannelOpened {
  readonly type: "ChannelOpened";
  readonly channelId: string;
  readonly channel: Channel;
  readonly state: ChannelState | undefined;
  readonly cursor: Cursor;
}

/** What the client had of a channel is void; without a cursor the channel is gone. */
export interface ChannelReset {
  readonly type: "ChannelReset";
  readonly channelId: string;
  readonly reason: string;
  readonly cursor: Cursor | undefined;
}

/** Ids from `fromId` to `toId` that the user may not see. */
export interface GapSeen {
  readonly type: "GapSeen";
  readonly channelId: string;
  readonly fromId: bigint;
  readonly toId: bigint;
  readonly cursor: Cursor;
}

/** The user's own registers of a channel. */
export interface StateChanged {
  readonly type: "StateChanged";
  readonly channelId: string;
  readonly state: ChannelState;
}

/** How far another member has received and read. */
export interface ReceiptChanged {
  readonly type: "ReceiptChanged";
  readonly channelId: string;
  readonly userId: string;
  readonly deliveredId: bigint;
  readonly readId: bigint;
}

/** Another member types (for six seconds) or has stopped. */
export interface TypingChanged {
  readonly type: "TypingChanged";
  readonly channelId: string;
  readonly userId: string;
  readonly threadRootId: bigint;
  readonly active: boolean;
}

/** A watched user's presence. */
export interface PresenceChanged {
  readonly type: "PresenceChanged";
  readonly change: PresenceChange;
}

/** Something about the account: friends, sessions, profile. */
export interface AccountChanged {
  readonly type: "AccountChanged";
  readonly event: AccountEvent;
}

/** What became of a message that nobody awaits: of an earlier process, or one that failed. */
export interface SendResolved {
  readonly type: "SendResolved";
  readonly channelId: string;
  readonly clientMessageId: string;
  /** Where it is stored; 0n if it failed. */
  readonly messageId: bigint;
  /** Why it failed. */
  readonly error: ChinwagError | undefined;
}

/** Everything before is handed out: for the client's store, not for applications. */
export interface StampReached {
  readonly type: "StampReached";
  readonly stamp: string;
}

/** Anything that happens, as applications get it. */
export type Event =
  | ConnectionChanged
  | EntryEvent
  | ChannelOpened
  | ChannelReset
  | GapSeen
  | StateChanged
  | ReceiptChanged
  | TypingChanged
  | PresenceChanged
  | AccountChanged
  | SendResolved;

/** Anything that a store is told of. */
export type StoreEvent = Event | StampReached;

/** Whether an event is an entry of a channel's log. */
export function isEntryEvent(event: StoreEvent): event is EntryEvent {
  return "entry" in event;
}

/** The event of an entry. */
export function ofEntry(entry: Entry, generation: bigint): EntryEvent {
  const facts: EntryFacts = {
    channelId: entry.channelId,
    entry,
    cursor: { channelId: entry.channelId, generation, id: entry.id },
    actorId: entry.actorId,
    createTime: new Date(toMs(entry.createTime)),
  };
  const kind = entry.kind;
  switch (kind.case) {
    case "messageSent":
      return {
        type: "MessageReceived",
        ...facts,
        messageId: entry.id,
        senderId: entry.actorId,
        content: kind.value.content,
        text: kind.value.content?.text ?? "",
        clientMessageId: kind.value.clientMessageId,
        threadRootId: kind.value.threadRootId,
      };
    case "messageEdited": {
      const { messageId, content } = kind.value;
      return { type: "MessageEdited", ...facts, messageId, content, text: content?.text ?? "" };
    }
    case "messageDeleted":
      return { type: "MessageDeleted", ...facts, messageId: kind.value.messageId };
    case "reactionAdded":
    case "reactionRemoved": {
      const { messageId, emoji } = kind.value;
      const added = kind.case === "reactionAdded";
      return { type: "ReactionChanged", ...facts, added, messageId, emoji };
    }
    case "membersAdded":
    case "memberRemoved":
    case "memberRoleChanged":
      return { type: "MembersChanged", ...facts };
    case "channelCreated":
    case "channelUpdated":
    case "channelDeleted":
      return { type: "ChannelChanged", ...facts };
    default:
      return { type: "Unknown", ...facts };
  }
}
