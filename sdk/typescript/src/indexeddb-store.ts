/** A client store in IndexedDB: a page that is opened again goes on where it was. */

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { StoreMismatch } from "./errors.js";
import type { Cursor, StoreEvent } from "./events.js";
import { type Table, answer, inTransaction, openDatabase, reading } from "./indexeddb.js";
import { type Locks, holdLock, systemLocks } from "./locks.js";
import { type Send, makeSend } from "./outbox.js";
import { type ClientStore, type MessagesWanted, type Saved, type Tables, apply } from "./store.js";
import {
  type Channel,
  ChannelSchema,
  type ChannelState,
  ChannelStateSchema,
} from "./gen/chinwag/chat/v1/channel_pb.js";
import { SendMessageRequestSchema } from "./gen/chinwag/chat/v1/connect_pb.js";
import { type Message, MessageSchema } from "./gen/chinwag/chat/v1/message_pb.js";

const DATABASE = "chinwag-";
const LOCK_WAIT_MS = 3000;
// After so many new messages the oldest ones beyond `maxMessages` go.
const PRUNE_AFTER = 200;

/** Ids as keys: IndexedDB has none of 64 bits, and no channel comes near 2**53 entries. */
const key = (id: bigint) => Number(id);

interface MessageRow {
  channelId: string;
  threadRootId: number;
  id: number;
  bytes: Uint8Array;
}

interface SendRow {
  number: number;
  clientMessageId: string;
  createTimeMs: number;
  bytes: Uint8Array;
}

/** How a store is opened. */
export interface IndexedDbOptions {
  /** Messages kept a channel, about; the oldest go first. Default: 1000. */
  maxMessages?: number;
  /** Default: the browser's. */
  indexedDB?: IDBFactory;
  /** Web Locks, which keep two tabs from one store. Default: the browser's, if it has them. */
  locks?: Locks | undefined;
}

/**
 * A store for one device and one tab at a time: implements `ClientStore`.
 *
 * A commit survives the end of the page and of the browser. A power cut may undo the last ones
 * together; their events are then handed out again.
 */
export class IndexedDbStore implements ClientStore {
  private readonly maxMessages: number;
  private readonly factory: IDBFactory;
  private readonly locks: Locks | undefined;
  private database: Promise<IDBDatabase> | undefined;
  private freeLock: (() => void) | undefined;
  private added = 0;

  /** @param name Of this device's store: two of one name are the same store. */
  constructor(
    readonly name: string,
    options: IndexedDbOptions = {},
  ) {
    this.maxMessages = options.maxMessages ?? 1000;
    this.factory = options.indexedDB ?? indexedDB;
    this.locks = "locks" in options ? options.locks : systemLocks();
  }

  /** Deletes a store with all that it holds. No tab may have it open. */
  static async delete(name: string, factory: IDBFactory = indexedDB): Promise<void> {
    await answer(factory.deleteDatabase(DATABASE + name));
  }

  private opened(): Promise<IDBDatabase> {
    this.database ??= this.open();
    return this.database;
  }

  private async open(): Promise<IDBDatabase> {
    if (this.locks !== undefined) {
      // Two tabs on one store would send the same outbox and drop each other's events. A page that
      // is loaded again may have to wait until the old one is gone.
      const name = `chinwag store ${this.name}`;
      this.freeLock = await holdLock(this.locks, name, LOCK_WAIT_MS);
      if (this.freeLock === undefined) {
        throw new StoreMismatch(`the store ${this.name} is used by another tab: see takeSlot`);
      }
    }
    return await openDatabase(this.factory, DATABASE + this.name);
  }

  private async write<T>(
    tables: readonly Table[],
    work: (transaction: IDBTransaction) => Promise<T> | T,
  ): Promise<T> {
    return await inTransaction(await this.opened(), tables, work);
  }

  // --- ClientStore ---

  async load(): Promise<Saved> {
    const tables = ["facts", "cursors", "sends"] as const;
    const saved = await reading(await this.opened(), tables, async (transaction) => {
      const facts = transaction.objectStore("facts");
      const [cursors, stamp, accountCursor, rows] = await Promise.all([
        answer<Cursor[]>(transaction.objectStore("cursors").getAll()),
        answer<string | undefined>(facts.get("stamp")),
        answer<string | undefined>(facts.get("accountCursor")),
        answer<SendRow[]>(transaction.objectStore("sends").getAll()),
      ]);
      const sends = rows.map(({ number, createTimeMs, bytes }) =>
        makeSend(number, fromBinary(SendMessageRequestSchema, bytes), createTimeMs, true),
      );
      return { cursors, stamp: stamp ?? "", accountCursor: accountCursor ?? "", sends };
    });
    await this.prune(saved.cursors.map((cursor) => cursor.channelId));
    return saved;
  }

  async bind(userId: string): Promise<void> {
    await this.write(["facts"], async (transaction) => {
      const facts = transaction.objectStore("facts");
      const known = await answer<string | undefined>(facts.get("userId"));
      if (known !== undefined && known !== userId) {
        throw new StoreMismatch(
          `the store ${this.name} is ${known}'s, not ${userId}'s: give each user a store of their own`,
        );
      }
      if (known === undefined) facts.put(userId, "userId");
    });
  }

  async addSend(send: Send): Promise<void> {
    const { number, request, createTimeMs } = send;
    const { clientMessageId } = request;
    const bytes = toBinary(SendMessageRequestSchema, request);
    const row: SendRow = { number, clientMessageId, createTimeMs, bytes };
    await this.write(["sends"], (transaction) => {
      transaction.objectStore("sends").add(row);
    });
  }

  async removeSends(clientMessageIds: readonly string[]): Promise<void> {
    await this.write(["sends"], async (transaction) => {
      const sends = transaction.objectStore("sends");
      for (const clientMessageId of clientMessageIds) {
        const number = await answer(sends.index("id").getKey(clientMessageId));
        if (number !== undefined) sends.delete(number);
      }
    });
  }

  async commit(events: readonly StoreEvent[]): Promise<void> {
    const tables = ["facts", "cursors", "messages", "channels", "states"] as const;
    await this.write(tables, async (transaction) => {
      const rows = new Rows(transaction);
      for (const event of events) await apply(event, rows);
    });
    const channelIds = new Set<string>();
    for (const event of events) {
      if (event.type !== "MessageReceived") continue;
      channelIds.add(event.channelId);
      this.added++;
    }
    if (this.added >= PRUNE_AFTER) await this.prune([...channelIds]);
  }

  async keepMessages(messages: readonly Message[]): Promise<void> {
    await this.write(["messages"], async (transaction) => {
      const rows = new Rows(transaction);
      for (const message of messages) {
        const known = await rows.getMessage(message.channelId, message.id);
        if (known === undefined || known.lastEntryId < message.lastEntryId) rows.putMessage(message);
      }
    });
  }

  async keepChannels(channels: readonly Channel[], states: readonly ChannelState[]): Promise<void> {
    await this.write(["channels", "states"], (transaction) => {
      const rows = new Rows(transaction);
      for (const channel of channels) rows.putChannel(channel);
      for (const state of states) rows.putState(state);
    });
  }

  async messages(channelId: string, wanted: MessagesWanted = {}): Promise<Message[]> {
    const { beforeId = 0n, limit = 50, threadRootId = 0n } = wanted;
    const first = [channelId, key(threadRootId), 0];
    const end = [channelId, key(threadRootId), beforeId === 0n ? Infinity : key(beforeId)];
    const range = IDBKeyRange.bound(first, end, false, true);
    return await reading(await this.opened(), ["messages"], async (transaction) => {
      const index = transaction.objectStore("messages").index("timeline");
      const found: Message[] = [];
      const request = index.openCursor(range, "prev");
      let cursor = limit > 0 ? await answer(request) : null;
      while (cursor !== null) {
        found.push(fromBinary(MessageSchema, (cursor.value as MessageRow).bytes));
        if (found.length === limit) break;
        cursor.continue();
        cursor = await answer(request);
      }
      return found.reverse();
    });
  }

  async channels(): Promise<Channel[]> {
    return await reading(await this.opened(), ["channels"], async (transaction) => {
      const rows = await answer<Uint8Array[]>(transaction.objectStore("channels").getAll());
      return rows.map((bytes) => fromBinary(ChannelSchema, bytes));
    });
  }

  async state(channelId: string): Promise<ChannelState | undefined> {
    return await reading(await this.opened(), ["states"], async (transaction) => {
      const states = transaction.objectStore("states");
      const bytes = await answer<Uint8Array | undefined>(states.get(channelId));
      return bytes && fromBinary(ChannelStateSchema, bytes);
    });
  }

  async close(): Promise<void> {
    const database = await this.database?.catch(() => undefined);
    // Used again, it opens again: a store may outlive its client.
    this.database = undefined;
    database?.close();
    this.freeLock?.();
    this.freeLock = undefined;
  }

  /** Drops the oldest messages of channels that have too many. */
  private async prune(channelIds: readonly string[]): Promise<void> {
    this.added = 0;
    if (channelIds.length === 0) return;
    await this.write(["messages"], async (transaction) => {
      const messages = transaction.objectStore("messages");
      for (const channelId of channelIds) {
        const all = ofChannel(channelId);
        if ((await answer(messages.count(all))) <= this.maxMessages) continue;
        const keys = await answer(messages.getAllKeys(all));
        const last = keys[keys.length - this.maxMessages - 1];
        messages.delete(IDBKeyRange.bound([channelId, 0], last));
      }
    });
  }
}

const ofChannel = (channelId: string) => IDBKeyRange.bound([channelId, 0], [channelId, Infinity]);

/** The rows within one transaction. */
class Rows implements Tables {
  constructor(private readonly transaction: IDBTransaction) {}

  private table(name: Table): IDBObjectStore {
    return this.transaction.objectStore(name);
  }

  putCursor(cursor: Cursor): void {
    const { channelId, generation, id } = cursor;
    this.table("cursors").put({ channelId, generation, id }, channelId);
  }

  putStamp(stamp: string): void {
    this.table("facts").put(stamp, "stamp");
  }

  putAccountCursor(cursor: string): void {
    this.table("facts").put(cursor, "accountCursor");
  }

  async getMessage(channelId: string, messageId: bigint): Promise<Message | undefined> {
    const request = this.table("messages").get([channelId, key(messageId)]);
    const row = await answer<MessageRow | undefined>(request);
    return row && fromBinary(MessageSchema, row.bytes);
  }

  putMessage(message: Message): void {
    const row: MessageRow = {
      channelId: message.channelId,
      threadRootId: key(message.threadRootId),
      id: key(message.id),
      bytes: toBinary(MessageSchema, message),
    };
    this.table("messages").put(row);
  }

  async getChannel(channelId: string): Promise<Channel | undefined> {
    const bytes = await answer<Uint8Array | undefined>(this.table("channels").get(channelId));
    return bytes && fromBinary(ChannelSchema, bytes);
  }

  putChannel(channel: Channel): void {
    this.table("channels").put(toBinary(ChannelSchema, channel), channel.id);
  }

  putState(state: ChannelState): void {
    this.table("states").put(toBinary(ChannelStateSchema, state), state.channelId);
  }

  dropMessages(channelId: string): void {
    this.table("messages").delete(ofChannel(channelId));
  }

  dropChannel(channelId: string): void {
    this.table("cursors").delete(channelId);
    this.dropMessages(channelId);
    this.table("channels").delete(channelId);
    this.table("states").delete(channelId);
  }
}
