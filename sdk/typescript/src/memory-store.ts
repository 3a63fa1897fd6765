/** A store for the life of a page or process. */

import { clone } from "@bufbuild/protobuf";
import { StoreMismatch } from "./errors.js";
import type { Cursor, StoreEvent } from "./events.js";
import type { Send } from "./outbox.js";
import { type ClientStore, type MessagesWanted, type Saved, type Tables, apply } from "./store.js";
import {
  type Channel,
  ChannelSchema,
  type ChannelState,
  ChannelStateSchema,
} from "./gen/chinwag/chat/v1/channel_pb.js";
import { type Message, MessageSchema } from "./gen/chinwag/chat/v1/message_pb.js";

const byId = (a: Message, b: Message) => (a.id < b.id ? -1 : 1);

/** Implements `ClientStore` in memory. */
export class MemoryStore implements ClientStore, Tables {
  private readonly maxMessages: number;
  private userId = "";
  private readonly cursors = new Map<string, Cursor>();
  private stamp = "";
  private accountCursor = "";
  private readonly sends = new Map<string, Send>();
  private readonly messagesOf = new Map<string, Map<bigint, Message>>();
  private readonly channelsById = new Map<string, Channel>();
  private readonly states = new Map<string, ChannelState>();

  /** @param options `maxMessages` kept a channel, the oldest go first; 0: none. */
  constructor(options: { maxMessages?: number } = {}) {
    this.maxMessages = options.maxMessages ?? 200;
  }

  async load(): Promise<Saved> {
    const sends = [...this.sends.values()].sort((a, b) => a.number - b.number);
    return {
      cursors: [...this.cursors.values()],
      stamp: this.stamp,
      accountCursor: this.accountCursor,
      sends,
    };
  }

  async bind(userId: string): Promise<void> {
    if (this.userId !== "" && this.userId !== userId) {
      throw new StoreMismatch(`this store is ${this.userId}'s, not ${userId}'s`);
    }
    this.userId = userId;
  }

  async addSend(send: Send): Promise<void> {
    this.sends.set(send.request.clientMessageId, { ...send, isKept: true, sentAt: 0 });
  }

  async removeSends(clientMessageIds: readonly string[]): Promise<void> {
    for (const clientMessageId of clientMessageIds) this.sends.delete(clientMessageId);
  }

  async commit(events: readonly StoreEvent[]): Promise<void> {
    for (const event of events) await apply(event, this);
  }

  async keepMessages(messages: readonly Message[]): Promise<void> {
    for (const message of messages) {
      const known = this.getMessage(message.channelId, message.id);
      if (known === undefined || known.lastEntryId < message.lastEntryId) {
        this.putMessage(clone(MessageSchema, message));
      }
    }
  }

  async keepChannels(channels: readonly Channel[], states: readonly ChannelState[]): Promise<void> {
    for (const channel of channels) this.putChannel(channel);
    for (const state of states) this.putState(state);
  }

  async messages(channelId: string, wanted: MessagesWanted = {}): Promise<Message[]> {
    const { beforeId = 0n, limit = 50, threadRootId = 0n } = wanted;
    const found = [...(this.messagesOf.get(channelId)?.values() ?? [])]
      .filter((m) => m.threadRootId === threadRootId && (beforeId === 0n || m.id < beforeId))
      .sort(byId);
    return found.slice(Math.max(found.length - limit, 0)).map((m) => clone(MessageSchema, m));
  }

  async channels(): Promise<Channel[]> {
    const found = [...this.channelsById.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    return found.map((channel) => clone(ChannelSchema, channel));
  }

  async state(channelId: string): Promise<ChannelState | undefined> {
    const state = this.states.get(channelId);
    return state && clone(ChannelStateSchema, state);
  }

  async close(): Promise<void> {}

  // --- Tables ---

  putCursor(cursor: Cursor): void {
    this.cursors.set(cursor.channelId, cursor);
  }

  putStamp(stamp: string): void {
    this.stamp = stamp;
  }

  putAccountCursor(cursor: string): void {
    this.accountCursor = cursor;
  }

  getMessage(channelId: string, messageId: bigint): Message | undefined {
    return this.messagesOf.get(channelId)?.get(messageId);
  }

  putMessage(message: Message): void {
    if (this.maxMessages === 0) return;
    let kept = this.messagesOf.get(message.channelId);
    if (kept === undefined) {
      kept = new Map();
      this.messagesOf.set(message.channelId, kept);
    }
    kept.set(message.id, message);
    if (kept.size > this.maxMessages) {
      let oldest = message.id;
      for (const id of kept.keys()) if (id < oldest) oldest = id;
      kept.delete(oldest);
    }
  }

  getChannel(channelId: string): Channel | undefined {
    return this.channelsById.get(channelId);
  }

  putChannel(channel: Channel): void {
    this.channelsById.set(channel.id, channel);
  }

  putState(state: ChannelState): void {
    this.states.set(state.channelId, state);
  }

  dropMessages(channelId: string): void {
    this.messagesOf.delete(channelId);
  }

  dropChannel(channelId: string): void {
    this.cursors.delete(channelId);
    this.messagesOf.delete(channelId);
    this.channelsById.delete(channelId);
    this.states.delete(channelId);
  }
}
