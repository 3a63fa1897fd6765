/** The client: events, channels, outbox, and the state of its connection. */

import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { Account } from "./account.js";
import { type CallOptions, Calls } from "./calls.js";
import { Channel, type ChannelClient } from "./channel.js";
import { ChannelList } from "./channel-list.js";
import { systemClock } from "./clock.js";
import type { ConnectOptions } from "./connect.js";
import type { WatchInit } from "./control.js";
import { Endpoints } from "./endpoints.js";
import { type ChinwagError, ClientClosed, StoreMismatch, Unavailable } from "./errors.js";
import { type Connection, type Cursor, type Event, type StoreEvent, isEntryEvent } from "./events.js";
import { Inbox } from "./inbox.js";
import { Link } from "./link.js";
import type { Raise } from "./marks.js";
import type { Outcome, Send } from "./outbox.js";
import { OutboxView } from "./outbox-view.js";
import { PendingSend } from "./pending-send.js";
import { DeviceProtocol } from "./protocol.js";
import { systemRandom } from "./random.js";
import { Reading } from "./reading.js";
import { mayFollow } from "./redirect.js";
import { Routes } from "./routes.js";
import { type Session, SessionCredential } from "./session.js";
import type { ClientStore, MessagesWanted, Saved } from "./store.js";
import { after } from "./timers.js";
import type { OpenTransport } from "./transports.js";
import { ChannelKind } from "./gen/chinwag/chat/v1/channel_pb.js";
import { ChatService, type ChannelView, type CreateChannelRequestSchema } from "./gen/chinwag/chat/v1/chat_service_pb.js";
import type { Message, MessageContent } from "./gen/chinwag/chat/v1/message_pb.js";

const PAGE = 200;

/** The options of `connect`, with what is never left out. */
export interface ClientOptions extends ConnectOptions {
  insecure: boolean;
  store: ClientStore;
  transport: OpenTransport;
}

/**
 * One device of a user: made by `connect`.
 *
 * It stays connected by itself: breaks, restarts of the server and refreshed tokens are not seen by the
 * application but as ConnectionChanged events.
 */
export class Client implements ChannelClient {
  readonly store: ClientStore;
  /** For `createClient(ChatService, client.transport)`: goes where the stream is, or else elsewhere. */
  readonly transport: Transport;
  readonly account: Account;
  readonly channels: ChannelList;
  readonly outbox: OutboxView;
  private readonly endpoints: Endpoints;
  private readonly protocol: DeviceProtocol;
  private readonly inbox: Inbox;
  private readonly routes: Routes;
  private readonly calls: Calls;
  private readonly reading: Reading;
  private readonly link: Link;
  private readonly handles = new Map<string, PendingSend>();
  private readonly listeners = new Set<() => void>();
  private waiters: (() => void)[] = [];
  private isTelling = false;
  // Of each channel, how many events changed messages: an answer that was read meanwhile is not kept.
  private readonly changes = new Map<string, number>();
  private readonly onOnline = () => {
    this.retryNow();
  };

  private constructor(
    addresses: readonly string[],
    readonly session: Session,
    private readonly options: ClientOptions,
    saved: Saved,
  ) {
    this.store = options.store;
    const monotonic = () => systemClock.monotonic();
    this.endpoints = new Endpoints(addresses, systemRandom, monotonic);
    this.protocol = new DeviceProtocol(saved, {
      clock: systemClock,
      rng: systemRandom,
      subscriptions: options.subscriptions,
      catchUpLimit: options.catchUpLimit ?? 0,
      endpoints: this.endpoints,
      mayFollow: mayFollow(addresses, options.insecure, options.allowAddress),
    });
    this.inbox = new Inbox(() => {
      this.link.room();
    });
    this.reading = new Reading(this.inbox, this.store, {
      closedBy: () => this.protocol.error,
      onHanded: (event) => {
        this.onHanded(event);
      },
      onTaken: (event) => {
        this.onTaken(event);
      },
    });
    this.transport = this.routes = new Routes(this.endpoints, options.transport, options.insecure);
    const credential = new SessionCredential(session, this.routes);
    this.calls = new Calls(this.routes, { credential });
    this.account = new Account(this.calls);
    const tell = () => {
      this.tell();
    };
    this.channels = new ChannelList(this.userId, this.store, () => this.views(), tell);
    this.outbox = new OutboxView(this.protocol.outbox, this.post.bind(this), tell);
    this.link = new Link(this.protocol, {
      calls: this.calls,
      credential,
      clock: systemClock,
      inbox: this.inbox,
      to: (address) => this.routes.to(address),
      leave: (address) => {
        this.routes.leave(address);
      },
      onEvents: (events, sizeBytes) => {
        this.onEvents(events, sizeBytes);
      },
      onOutcomes: (outcomes) => {
        this.onOutcomes(outcomes);
      },
      onEnd: () => {
        this.onEnd();
      },
    });
    globalThis.addEventListener?.("online", this.onOnline);
  }

  /** See `connect`. */
  static async start(
    addresses: readonly string[],
    session: Session,
    options: ClientOptions,
  ): Promise<Client> {
    const { store, cursors, waitMs = 0 } = options;
    const saved = await store.load();
    await store.bind(session.userId);
    if (cursors !== undefined) {
      // The stamp stands for the store's cursors, not for these.
      saved.cursors = [...cursors];
      saved.stamp = "";
    }
    const client = new Client(addresses, session, options, saved);
    try {
      await client.channels.load();
      if (waitMs > 0) await client.welcomedWithin(waitMs);
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  // --- life ---

  private async welcomedWithin(waitMs: number): Promise<void> {
    let cancel = () => {};
    const late = new Promise<never>((_, reject) => {
      cancel = after(waitMs, () => {
        const { error } = this.protocol.plan;
        const why = error === undefined ? "" : `: ${error.message}`;
        const text = `${this.endpoints.addresses.join(", ")} did not answer within ${waitMs} ms${why}`;
        reject(new Unavailable(text, { code: 14, cause: error }));
      });
    });
    try {
      await Promise.race([this.connected(), late]);
    } finally {
      cancel();
    }
  }

  /** Ends the client. Messages that are not sent stay in the store. */
  async close(options: { drain?: boolean } = {}): Promise<void> {
    if (options.drain === true && this.closedBy === undefined) {
      await this.drain(this.options.drainMs ?? 5000);
    }
    globalThis.removeEventListener?.("online", this.onOnline);
    await this.link.close();
    this.routes.close();
    await this.reading.flush();
    await this.store.close();
  }

  /**
   * Waits until every message is stored or refused.
   *
   * @returns Whether that came in time.
   */
  async drain(timeoutMs?: number): Promise<boolean> {
    if (this.unsent === 0) return true;
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      if (timeoutMs !== undefined) cancel = after(timeoutMs, resolve);
    });
    const sent = this.until(() => this.unsent === 0).catch(() => undefined);
    await Promise.race([sent, late]);
    cancel();
    return this.unsent === 0;
  }

  /** Waits until the server has welcomed this client. @throws ChinwagError It was closed for good. */
  async connected(): Promise<void> {
    await this.until(() => this.connection === "catching up" || this.connection === "live");
  }

  /**
   * Waits until everything that was missed has come (not: has been taken).
   *
   * @throws ChinwagError The client was closed for good.
   */
  async caughtUp(): Promise<void> {
    await this.until(() => this.connection === "live");
  }

  private async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (this.protocol.error !== undefined) throw this.protocol.error;
      await new Promise<void>((resolve) => {
        this.waiters.push(resolve);
      });
    }
  }

  // --- state ---

  get userId(): string {
    return this.session.userId;
  }

  get deviceId(): string {
    return this.session.deviceId;
  }

  /** The state of the connection now. */
  get connection(): Connection {
    return this.protocol.connection;
  }

  /** While waiting: when the next attempt is made, since 1970. */
  get retryAtMs(): number | undefined {
    if (this.connection !== "waiting") return undefined;
    return systemClock.time() + Math.max(this.protocol.retryAt - systemClock.monotonic(), 0);
  }

  /** Why the client is closed for good; undefined while it is not. */
  get closedBy(): ChinwagError | undefined {
    return this.protocol.error;
  }

  /** How many messages are not known to be stored. */
  get unsent(): number {
    return this.protocol.outbox.size;
  }

  /** How far a channel has come in; events up to it are, or will be, handed out. */
  cursor(channelId: string): Cursor | undefined {
    return this.protocol.positions.cursor(channelId);
  }

  /**
   * Calls a function, at most once a turn, when the connection, the channels or the outbox have changed.
   *
   * @returns What ends that.
   */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /** Cuts the wait for the next attempt short, as far as the server did not ask for it. */
  retryNow(): void {
    this.link.hurry();
  }

  // --- events ---

  /**
   * Everything that happens, in order: `for await (const event of client.events())`.
   *
   * An event counts as taken when the next one is asked for: the store's cursors are moved then. So
   * after the page is closed the event in work comes again, and in a living page none does. Ends when
   * the client is closed; throws if it was closed for good by something else.
   */
  events(): AsyncIterableIterator<Event> {
    return this.reading;
  }

  /** Counts an event as taken now: for a loop that ends with it. */
  commit(event: Event): Promise<void> {
    return this.reading.commit(event);
  }

  private onHanded(event: StoreEvent): void {
    if (isEntryEvent(event) ? event.type !== "MessageReceived" : event.type === "ChannelReset") {
      const { channelId } = event as { channelId: string };
      this.changes.set(channelId, (this.changes.get(channelId) ?? 0) + 1);
    }
    this.channels.take(event);
  }

  private onTaken(event: StoreEvent): void {
    if (this.options.deliveredMarks === true && isEntryEvent(event)) {
      this.mark(event.channelId, { deliveredId: event.cursor.id, lazy: true });
    }
  }

  // --- what the link tells ---

  private onEvents(events: readonly StoreEvent[], sizeBytes: number): void {
    const told = this.protocol.userId;
    if (told !== "" && told !== this.userId) {
      this.protocol.fail(new StoreMismatch(`the server says that this session is ${told}'s, not ${this.userId}'s`));
      return;
    }
    this.inbox.put(events, sizeBytes);
    this.reading.wake();
    this.tell();
  }

  private tell(): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) waiter();
    if (this.isTelling) return;
    this.isTelling = true;
    queueMicrotask(() => {
      this.isTelling = false;
      for (const listener of [...this.listeners]) listener();
    });
  }

  private onOutcomes(outcomes: readonly Outcome[]): void {
    // A message that stays in the store is sent again by the next page, and stored once all the same.
    this.store.removeSends(outcomes.map(({ send }) => send.request.clientMessageId)).catch(() => undefined);
    for (const outcome of outcomes) {
      const { send, sent, error } = outcome;
      const { channelId, clientMessageId } = send.request;
      const handle = this.handles.get(clientMessageId);
      this.handles.delete(clientMessageId);
      handle?.resolve(sent, error);
      this.outbox.resolved(outcome);
      if (handle === undefined || (error !== undefined && !handle.isAwaited)) {
        const messageId = sent?.messageId ?? 0n;
        this.onEvents([{ type: "SendResolved", channelId, clientMessageId, messageId, error }], 0);
      }
    }
  }

  private onEnd(): void {
    const error = this.protocol.error ?? new ClientClosed("the client was closed");
    for (const handle of this.handles.values()) handle.abandon(error);
    this.handles.clear();
    this.reading.wake();
    this.tell();
  }

  // --- what channels ask ---

  /** See `Channel.post`. */
  post(channelId: string, content: MessageContent, replyToId: bigint, threadRootId: bigint): PendingSend {
    const send = this.protocol.post(channelId, content, replyToId, threadRootId);
    const handle = new PendingSend(channelId, send.request.clientMessageId);
    this.handles.set(handle.clientMessageId, handle);
    void this.keepSend(send, handle);
    this.tell();
    return handle;
  }

  private async keepSend(send: Send, handle: PendingSend): Promise<void> {
    try {
      await this.store.addSend(send);
      send.isKept = true;
      this.link.soon();
    } catch (error) {
      this.protocol.outbox.withdraw(send);
      this.handles.delete(handle.clientMessageId);
      handle.resolve(undefined, error);
      this.tell();
    }
  }

  /** See `Channel.markRead`. */
  mark(channelId: string, raise: Raise): void {
    this.protocol.mark(channelId, raise);
    if (raise.readId !== undefined) this.channels.markRead(channelId, raise.readId);
    this.link.soon();
  }

  /** See `Channel.typing`. */
  typing(channelId: string, active: boolean, threadRootId: bigint): void {
    this.protocol.typing(channelId, active, threadRootId);
    this.link.soon();
  }

  /** See `Channel.look`; from any cursor. */
  look(start: Cursor): void {
    this.protocol.look(start);
    this.link.soon();
  }

  /** See `Channel.lookAway`. */
  lookAway(channelId: string): void {
    this.protocol.lookAway(channelId);
    this.link.soon();
  }

  /** The users whose presence is wanted, in place of those before: PresenceChanged events. */
  watchPresence(watches: Iterable<WatchInit>): void {
    this.protocol.watch([...watches]);
    this.link.soon();
  }

  /** See `Channel.kept`. */
  kept(channelId: string, wanted: MessagesWanted): Promise<Message[]> {
    return this.store.messages(channelId, wanted);
  }

  /** Makes a call that reads messages, and keeps them unless one of them may have changed meanwhile. */
  async keeping<T>(
    channelId: string,
    read: () => Promise<T>,
    messagesOf: (read: T) => Message[],
  ): Promise<T> {
    const before = this.changes.get(channelId);
    const found = await read();
    if (this.changes.get(channelId) === before) {
      // A copy for later; what was read is given to the application in any case.
      await this.store.keepMessages(messagesOf(found)).catch(() => undefined);
    }
    return found;
  }

  /** Makes any unary call with token, retries and typed errors. @throws ChinwagError */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>> {
    return this.calls.call(method, request, options);
  }

  // --- channels ---

  /** A channel by its id. */
  channel(channelId: string): Channel {
    return new Channel(this, channelId);
  }

  private async *views(): AsyncGenerator<ChannelView, void, undefined> {
    const request = { pageSize: PAGE, pageToken: "", includeArchived: true };
    do {
      const page = await this.call(ChatService.method.listChannels, request);
      yield* page.channels;
      request.pageToken = page.nextPageToken;
    } while (request.pageToken !== "");
  }

  /** Makes a channel of any kind. */
  async createChannel(request: MessageInitShape<typeof CreateChannelRequestSchema>): Promise<Channel> {
    const answer = await this.call(ChatService.method.createChannel, request);
    return this.channel(answer.channel?.channel?.id ?? "");
  }

  /** Makes a group with other users. */
  createGroup(name = "", members: Iterable<string> = []): Promise<Channel> {
    return this.createChannel({ kind: ChannelKind.GROUP, name, memberUserIds: [...members] });
  }

  /** The one channel with another user; made if there is none. */
  direct(userId: string): Promise<Channel> {
    return this.createChannel({ kind: ChannelKind.DIRECT, memberUserIds: [userId] });
  }

  /** Makes a broadcast channel. */
  createBroadcast(name: string, options: { isPublic?: boolean } = {}): Promise<Channel> {
    return this.createChannel({ kind: ChannelKind.BROADCAST, name, ...options });
  }

  /** Joins a public broadcast channel; `Channel.look` makes its entries come. */
  async join(channelId: string): Promise<Channel> {
    await this.call(ChatService.method.joinChannel, { channelId });
    return this.channel(channelId);
  }
}
