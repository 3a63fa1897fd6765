/** One channel as it is read: the messages that are loaded, without a hole, up to the newest. */

import { batch, signal } from "@preact/signals";
import {
  applyEntry,
  type Channel,
  type Client,
  type Event,
  type Failed,
  type Message,
  newMessage,
  type Pending,
} from "chinwag";
import { find, merged } from "./messages.js";
import { Pace } from "./pace.js";

/** What a first look needs, and what scrolling reads at once. */
const FIRST = 50;
const PAGE = 200;
const MEMBERS = 200;

export class Conversation {
  /** Ids rising. */
  readonly messages = signal<readonly Message[]>([]);
  readonly pending = signal<readonly Pending[]>([]);
  readonly failed = signal<readonly Failed[]>([]);
  /** There is nothing older. */
  readonly isWhole = signal(false);
  readonly isLoading = signal(false);
  /** The user is in it no more. */
  readonly isGone = signal(false);
  /** How far others have read, by user. */
  readonly read = signal<ReadonlyMap<string, bigint>>(new Map());
  /** Those who can be addressed: of a large channel the first ones. */
  readonly memberIds = signal<readonly string[]>([]);
  readonly channel: Channel;
  private opened = false;
  private arrived: Message[] = [];
  private readonly arriving = new Pace(() => { this.flush(); });

  constructor(
    private readonly client: Client,
    readonly id: string,
  ) {
    this.channel = client.channel(id);
    this.refresh();
  }

  /** Shows what the store holds, then what the server has. Again, if the server was away. */
  async open(): Promise<void> {
    if (this.opened) return;
    this.opened = true;
    if (this.messages.value.length === 0) this.merge(await this.channel.kept({ limit: FIRST }));
    try {
      await this.loadNewest();
      await Promise.all([this.loadReceipts(), this.loadMembers()]);
    } catch {
      this.opened = false; // the status bar says what is wrong
    }
  }

  /** Loads a page of older messages; does nothing while one is under way. */
  async loadOlder(): Promise<void> {
    const first = this.messages.value[0];
    if (this.isLoading.value || this.isWhole.value || first === undefined) return;
    this.isLoading.value = true;
    let older: Message[];
    try {
      older = await this.page(PAGE, first.id);
      if (older.length < PAGE) this.isWhole.value = true;
    } catch (error) {
      // Without the server: as far back as the store goes.
      older = await this.channel.kept({ before: first.id, limit: PAGE });
      if (older.length === 0) throw error;
    } finally {
      this.isLoading.value = false;
    }
    this.merge(older);
  }

  private async loadNewest(): Promise<void> {
    this.isLoading.value = true;
    try {
      const newest = await this.page(FIRST);
      this.flush();
      const last = this.messages.value.at(-1);
      batch(() => {
        if (newest[0] !== undefined && last !== undefined && newest[0].id > last.id) {
          this.messages.value = []; // a hole lies between: what is kept comes again with its pages
        }
        if (newest.length < FIRST) this.isWhole.value = true;
        this.merge(newest);
      });
    } finally {
      this.isLoading.value = false;
    }
  }

  private async page(limit: number, before?: bigint): Promise<Message[]> {
    const found: Message[] = [];
    const options = before === undefined ? { limit } : { before, limit };
    for await (const message of this.channel.history(options)) found.push(message);
    return found.reverse();
  }

  private async loadReceipts(): Promise<void> {
    const read = new Map(this.read.value);
    for await (const receipt of this.channel.receipts()) read.set(receipt.userId, receipt.readId);
    this.read.value = read;
  }

  private async loadMembers(): Promise<void> {
    const found: string[] = [];
    for await (const member of this.channel.members()) {
      found.push(member.userId);
      if (found.length >= MEMBERS) break;
    }
    this.memberIds.value = found;
  }

  private merge(some: readonly Message[]): void {
    if (some.length > 0) this.messages.value = merged(this.messages.value, some);
  }

  private flush(): void {
    const { arrived } = this;
    this.arrived = [];
    this.merge(arrived);
  }

  /** An event of this channel. */
  take(event: Event): void {
    switch (event.type) {
      case "MessageReceived": {
        const message = newMessage(event.entry);
        if (message === undefined || message.threadRootId !== 0n) break;
        this.arrived.push(message);
        this.arriving.soon();
        break;
      }
      case "MessageEdited":
      case "MessageDeleted":
      case "ReactionChanged": {
        this.flush();
        const known = find(this.messages.value, event.messageId);
        if (known !== undefined) {
          const changed = { ...known }; // another object, so that its row is drawn again
          applyEntry(changed, event.entry);
          this.messages.value = this.messages.value.map((message) => (message === known ? changed : message));
        }
        break;
      }
      case "MembersChanged":
        void this.loadMembers().catch(() => undefined);
        break;
      case "ReceiptChanged":
        this.read.value = new Map(this.read.value).set(event.userId, event.readId);
        break;
      case "ChannelOpened":
        this.isGone.value = false;
        break;
      case "ChannelReset":
        this.arrived = [];
        this.messages.value = [];
        this.isWhole.value = false;
        this.isGone.value = event.cursor === undefined;
        this.opened = false;
        if (event.cursor !== undefined) void this.open();
        break;
      default:
    }
  }

  /** What waits and what failed, as the client has it now. */
  refresh(): void {
    const pending = this.client.outbox.of(this.id);
    if (pending.length > 0 || this.pending.peek().length > 0) this.pending.value = pending;
    const failed = this.client.outbox.failed.filter((send) => send.channelId === this.id);
    if (failed.length > 0 || this.failed.peek().length > 0) this.failed.value = failed;
  }

  /** The newest message is seen. */
  markRead(): void {
    const last = this.messages.peek().at(-1);
    if (last !== undefined) this.channel.markRead(last.id);
  }

  /** How many others have read a message. */
  readBy(messageId: bigint, userId: string): number {
    let count = 0;
    for (const [other, readId] of this.read.value) if (other !== userId && readId >= messageId) count++;
    return count;
  }
}
