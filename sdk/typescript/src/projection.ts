/**
 * Messages as people see them, made of the entries that a client gets (reference: `Message` in
 * chinwag/chat/v1/message.proto).
 */

import { create } from "@bufbuild/protobuf";
import type { Entry } from "./gen/chinwag/chat/v1/entry_pb.js";
import {
  type Message,
  MessageSchema,
  ReactionGroupSchema,
  ThreadSummarySchema,
} from "./gen/chinwag/chat/v1/message_pb.js";

export const MAX_REACTING_USERS = 100;

/** The message that an entry is about; 0n: none. */
export function targetId(entry: Entry): bigint {
  const kind = entry.kind;
  switch (kind.case) {
    case "messageSent":
      return entry.id;
    case "messageEdited":
    case "messageDeleted":
    case "reactionAdded":
    case "reactionRemoved":
      return kind.value.messageId;
    default:
      return 0n;
  }
}

/** The message that a `message_sent` entry makes, without content if it is redacted; else undefined. */
export function newMessage(entry: Entry): Message | undefined {
  if (entry.kind.case !== "messageSent") return undefined;
  const sent = entry.kind.value;
  const message = create(MessageSchema, {
    channelId: entry.channelId,
    id: entry.id,
    senderId: entry.actorId,
    deviceId: entry.deviceId,
    clientMessageId: sent.clientMessageId,
    replyToId: sent.replyToId,
    threadRootId: sent.threadRootId,
    lastEntryId: entry.id,
    timelineCount: entry.timelineCount,
  });
  if (entry.createTime !== undefined) message.createTime = entry.createTime;
  if (sent.content !== undefined) message.content = sent.content;
  return message;
}

/**
 * Applies an edit, deletion or reaction to its message; a repeat changes nothing.
 *
 * A deletion takes the content away: of the text and of its edits nothing is left.
 */
export function applyEntry(message: Message, entry: Entry): void {
  if (entry.id <= message.lastEntryId) return;
  message.lastEntryId = entry.id;
  const kind = entry.kind;
  switch (kind.case) {
    case "messageEdited":
      // A redacted edit says that the deletion of the message follows.
      if (!entry.redacted && message.deleteTime === undefined) {
        if (kind.value.content !== undefined) message.content = kind.value.content;
        if (entry.createTime !== undefined) message.editTime = entry.createTime;
      }
      break;
    case "messageDeleted":
      delete message.content;
      message.reactions = [];
      if (entry.createTime !== undefined) message.deleteTime = entry.createTime;
      break;
    case "reactionAdded":
      react(message, kind.value.emoji, entry.actorId);
      break;
    case "reactionRemoved":
      unreact(message, kind.value.emoji, entry.actorId);
      break;
    default:
  }
}

/** Counts a thread reply at its root; a repeat changes nothing. */
export function applyReply(root: Message, entry: Entry): void {
  root.thread ??= create(ThreadSummarySchema);
  if (entry.id > root.thread.lastReplyId) {
    root.thread.replyCount++;
    root.thread.lastReplyId = entry.id;
  }
}

function react(message: Message, emoji: string, userId: string): void {
  let group = message.reactions.find((each) => each.emoji === emoji);
  if (group === undefined) {
    group = create(ReactionGroupSchema, { emoji });
    message.reactions.push(group);
  }
  if (!group.userIds.includes(userId)) {
    group.count++;
    if (group.userIds.length < MAX_REACTING_USERS) group.userIds.push(userId);
  }
}

function unreact(message: Message, emoji: string, userId: string): void {
  const group = message.reactions.find((each) => each.emoji === emoji);
  if (group === undefined) return;
  group.count--;
  group.userIds = group.userIds.filter((each) => each !== userId);
  if (group.count <= 0n) message.reactions = message.reactions.filter((each) => each !== group);
}
