/** One channel, as a client sees it. */

import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { type Content, contentOf } from "./content.js";
import type { Cursor } from "./events.js";
import type { Raise } from "./marks.js";
import type { Sent } from "./outbox.js";
import type { PendingSend } from "./pending-send.js";
import type { MessagesWanted } from "./store.js";
import { timestampOf } from "./times.js";
import {
  type Channel as ChannelRecord,
  type ChannelState,
  type HistoryVisibility,
  type Member,
  MemberRole,
  type NotificationLevel,
  type Receipt,
} from "./gen/chinwag/chat/v1/channel_pb.js";
import { ChatService, type ChannelView } from "./gen/chinwag/chat/v1/chat_service_pb.js";
import type { Message, MessageContent } from "./gen/chinwag/chat/v1/message_pb.js";

const PAGE = 200;
const MEMBERS_PAGE = 1000;

/** How a message is sent. */
export interface SendOptions {
  /** The message that this one answers. */
  replyTo?: bigint;
  /** The message in whose thread it goes. */
  thread?: bigint;
  /** The ids of users whom it addresses. */
  mentions?: Iterable<string>;
  /** The application's own data. */
  metadata?: Record<string, string>;
}

/** Which messages to read. */
export interface HistoryOptions {
  /** Only messages with smaller ids. */
  before?: bigint;
  /** Only messages with greater ids, the oldest first. */
  after?: bigint;
  /** The one page with this message in its middle, ids rising. */
  around?: bigint;
  /** Only the thread below this message; absent: the main timeline. */
  thread?: bigint;
  /** At most so many; absent: all. */
  limit?: number;
}

/** What a channel asks of its client. */
export interface ChannelClient {
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>>;
  post(channelId: string, content: MessageContent, replyToId: bigint, threadRootId: bigint): PendingSend;
  typing(channelId: string, active: boolean, threadRootId: bigint): void;
  mark(channelId: string, raise: Raise): void;
  look(start: Cursor): void;
  lookAway(channelId: string): void;
  kept(channelId: string, wanted: MessagesWanted): Promise<Message[]>;
  /** Makes a call that reads messages, and keeps what it gives. */
  keeping<T>(channelId: string, read: () => Promise<T>, messagesOf: (read: T) => Message[]): Promise<T>;
}

/** One channel. Making one asks nothing of the server; every promise may be rejected by `ChinwagError`. */
export class Channel {
  constructor(
    private readonly client: ChannelClient,
    readonly id: string,
  ) {}

  // --- sending ---

  /**
   * Puts a message into the outbox and returns at once. Messages of one channel are stored in the
   * order of the calls, each once, also over breaks and page loads.
   *
   * @throws OutboxFull Too many wait: await some of them.
   * @throws InvalidArgument It is larger than any message may be, or no valid text.
   * @throws ClientClosed The client is closed.
   */
  post(content: Content, options: SendOptions = {}): PendingSend {
    const made = contentOf(content, options.mentions, options.metadata);
    return this.client.post(this.id, made, options.replyTo ?? 0n, options.thread ?? 0n);
  }

  /**
   * `post`, and waits until the message is durable: as long as it takes, over breaks too. Whoever stops
   * waiting does not take the message back.
   *
   * @throws SendExpired It could not be sent for 7 days.
   * @throws ChinwagError It was refused (`reason`), or see `post`.
   */
  async send(content: Content, options: SendOptions = {}): Promise<Sent> {
    return await this.post(content, options);
  }

  /**
   * Tells the others that the user types, or has stopped. Call it with every key: it goes out every
   * four seconds at most. Lost while there is no connection.
   */
  typing(options: { active?: boolean; thread?: bigint } = {}): void {
    this.client.typing(this.id, options.active ?? true, options.thread ?? 0n);
  }

  /** The user has read up to an entry. Goes out soon, also after a break; never falls. */
  markRead(entryId: bigint): void {
    this.client.mark(this.id, { readId: entryId });
  }

  /** This device has received up to an entry. `connect({ deliveredMarks: true })` does it. */
  markDelivered(entryId: bigint): void {
    this.client.mark(this.id, { deliveredId: entryId });
  }

  // --- messages ---

  /** The newest messages that this device's store holds, ids rising: without the server. */
  kept(options: { before?: bigint; limit?: number; thread?: bigint } = {}): Promise<Message[]> {
    return this.client.kept(this.id, {
      beforeId: options.before ?? 0n,
      limit: options.limit ?? 50,
      threadRootId: options.thread ?? 0n,
    });
  }

  /**
   * Messages as they are now, from the server: the newest first, or from `after` on the oldest first,
   * or those around one with ids rising. They are kept in the store.
   */
  async *history(options: HistoryOptions = {}): AsyncGenerator<Message, void, undefined> {
    const { around, thread = 0n } = options;
    let { before, after, limit: left } = options;
    while (left === undefined || left > 0) {
      const page = await this.page({ before, after, around }, thread, Math.min(left ?? PAGE, PAGE));
      const isRising = around !== undefined || after !== undefined;
      const messages = isRising ? page.messages : page.messages.reverse();
      yield* messages;
      const last = messages.at(-1);
      const hasMore = isRising ? page.hasMoreAfter && around === undefined : page.hasMoreBefore;
      if (last === undefined || !hasMore) return;
      if (left !== undefined) left -= messages.length;
      if (after !== undefined) after = last.id;
      else before = last.id;
    }
  }

  private async page(
    at: { before: bigint | undefined; after: bigint | undefined; around: bigint | undefined },
    threadRootId: bigint,
    pageSize: number,
  ) {
    type Request = MessageInitShape<(typeof ChatService.method.listMessages)["input"]>;
    const request: Request = { channelId: this.id, threadRootId, pageSize };
    if (at.around !== undefined) request.anchor = { case: "aroundId", value: at.around };
    else if (at.after !== undefined) request.anchor = { case: "afterId", value: at.after };
    else if (at.before !== undefined) request.anchor = { case: "beforeId", value: at.before };
    return await this.client.keeping(
      this.id,
      () => this.client.call(ChatService.method.listMessages, request),
      (page) => page.messages,
    );
  }

  /** One message as it is now. */
  async message(messageId: bigint): Promise<Message> {
    const request = { channelId: this.id, messageId };
    return of((await this.client.call(ChatService.method.getMessage, request)).message);
  }

  /** Replaces the content of one's own message. */
  async edit(messageId: bigint, content: Content): Promise<Message> {
    const request = { channelId: this.id, messageId, content: contentOf(content) };
    return of((await this.client.call(ChatService.method.editMessage, request)).message);
  }

  /** Deletes a message for everybody; its content is gone. */
  async delete(messageId: bigint): Promise<Message> {
    const request = { channelId: this.id, messageId };
    return of((await this.client.call(ChatService.method.deleteMessage, request)).message);
  }

  /** Adds the user to a reaction. */
  async react(messageId: bigint, emoji: string): Promise<Message> {
    const request = { channelId: this.id, messageId, emoji };
    return of((await this.client.call(ChatService.method.addReaction, request)).message);
  }

  /** Takes the user out of a reaction. */
  async unreact(messageId: bigint, emoji: string): Promise<Message> {
    const request = { channelId: this.id, messageId, emoji };
    return of((await this.client.call(ChatService.method.removeReaction, request)).message);
  }

  // --- the channel itself ---

  /** The channel with the user's membership, registers and its last message. */
  async view(): Promise<ChannelView> {
    const request = { channelId: this.id };
    return of((await this.client.call(ChatService.method.getChannel, request)).channel);
  }

  /** Changes those settings that are given. */
  async update(settings: {
    name?: string;
    description?: string;
    avatarUrl?: string;
    metadata?: Record<string, string>;
    isPublic?: boolean;
    historyVisibility?: HistoryVisibility;
  }): Promise<ChannelRecord> {
    const request = { channelId: this.id, ...settings, updateMask: { paths: pathsOf(settings) } };
    return of((await this.client.call(ChatService.method.updateChannel, request)).channel);
  }

  /** Ends the channel for everybody. */
  async deleteChannel(): Promise<void> {
    await this.client.call(ChatService.method.deleteChannel, { channelId: this.id });
  }

  /**
   * A broadcast channel's entries come as events from now on, from its head. Direct channels and groups
   * need no look.
   */
  async look(): Promise<void> {
    const head = of((await this.view()).channel);
    this.client.look({ channelId: this.id, generation: head.generation, id: head.headId });
  }

  /** They do not come any more. */
  lookAway(): void {
    this.client.lookAway(this.id);
  }

  /** Changes those of the user's own settings that are given; `muteUntil: null` ends a mute. */
  async setPreferences(settings: {
    notificationLevel?: NotificationLevel;
    muteUntil?: Date | null;
    archived?: boolean;
    pinned?: boolean;
    markedUnread?: boolean;
  }): Promise<ChannelState> {
    const { muteUntil, ...others } = settings;
    const preferences = {
      ...others,
      ...(muteUntil instanceof Date && { muteUntil: timestampOf(muteUntil.getTime()) }),
    };
    const updateMask = { paths: pathsOf(settings) };
    const request = { channelId: this.id, preferences, updateMask };
    return of((await this.client.call(ChatService.method.setChannelPreferences, request)).state);
  }

  // --- members ---

  /** The members, by user id. */
  async *members(): AsyncGenerator<Member, void, undefined> {
    const request = { channelId: this.id, pageSize: MEMBERS_PAGE, pageToken: "" };
    do {
      const page = await this.client.call(ChatService.method.listMembers, request);
      yield* page.members;
      request.pageToken = page.nextPageToken;
    } while (request.pageToken !== "");
  }

  /** How far each member has received and read, by user id. */
  async *receipts(): AsyncGenerator<Receipt, void, undefined> {
    const request = { channelId: this.id, pageSize: MEMBERS_PAGE, pageToken: "" };
    do {
      const page = await this.client.call(ChatService.method.listReceipts, request);
      yield* page.receipts;
      request.pageToken = page.nextPageToken;
    } while (request.pageToken !== "");
  }

  /**
   * Makes users members, all of them or none.
   *
   * @throws PermissionDenied ROLE_REQUIRED, or RECIPIENT_UNAVAILABLE.
   * @throws LimitExceeded MEMBER_LIMIT.
   */
  async addMembers(
    userIds: Iterable<string>,
    role: MemberRole = MemberRole.UNSPECIFIED,
  ): Promise<Member[]> {
    const request = { channelId: this.id, userIds: [...userIds], role };
    return (await this.client.call(ChatService.method.addMembers, request)).members;
  }

  /** Ends somebody else's membership. */
  async removeMember(userId: string): Promise<void> {
    await this.client.call(ChatService.method.removeMember, { channelId: this.id, userId });
  }

  /** Gives a member another role. */
  async setRole(userId: string, role: MemberRole): Promise<Member> {
    const request = { channelId: this.id, userId, role };
    return of((await this.client.call(ChatService.method.setMemberRole, request)).member);
  }

  /** Ends the user's own membership. */
  async leave(): Promise<void> {
    await this.client.call(ChatService.method.leaveChannel, { channelId: this.id });
  }
}

/** What the contract says is always there. */
function of<T>(part: T | undefined): T {
  if (part === undefined) throw new TypeError("the server left out a part of its answer");
  return part;
}

/** The names of the fields that are given, as an update mask has them. */
export function pathsOf(settings: object): string[] {
  return Object.entries(settings)
    .filter(([, value]) => value !== undefined)
    .map(([name]) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
}
