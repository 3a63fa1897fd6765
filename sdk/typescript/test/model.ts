/**
 * A model of the server: one store, any number of nodes and devices' streams.
 *
 * It keeps the contract (proto/chinwag/chat/v1/connect.proto) in its smallest form, and has switches for
 * what may go wrong on the way: entries that get lost, refusals for a moment.
 */

import assert from "node:assert/strict";
import { type MessageInitShape, create, toBinary } from "@bufbuild/protobuf";
import { ChannelKind } from "../src/gen/chinwag/chat/v1/channel_pb.js";
import { type SyncResponse, SyncResponseSchema } from "../src/gen/chinwag/chat/v1/chat_service_pb.js";
import {
  type ConnectRequest,
  type ConnectResponse,
  ConnectResponseSchema,
  type Hello,
  type SendMessageRequest,
  type SendResult,
  SendResultSchema,
} from "../src/gen/chinwag/chat/v1/connect_pb.js";
import {
  ChannelReset_Reason,
  type Entry,
  EntrySchema,
  type Event,
  EventSchema,
} from "../src/gen/chinwag/chat/v1/entry_pb.js";
import type { CloseSchema } from "../src/gen/chinwag/common/v1/close_pb.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../src/gen/google/rpc/status_pb.js";

export const USER = "ada";
export const GENERATION = 7n;
type EventInit = MessageInitShape<typeof EventSchema>["event"];

/** A status as the server makes it. */
export function refusal(
  reason: string,
  code: number,
  more: { retrySeconds?: number; metadata?: Record<string, string> } = {},
): Status {
  const status = create(StatusSchema, { code, message: reason.toLowerCase() });
  const { metadata = {}, retrySeconds } = more;
  const info = create(ErrorInfoSchema, { reason, domain: "chinwag", metadata });
  const prefix = "type.googleapis.com/";
  const typeUrl = prefix + ErrorInfoSchema.typeName;
  status.details.push({ $typeName: "google.protobuf.Any", typeUrl, value: toBinary(ErrorInfoSchema, info) });
  if (retrySeconds !== undefined) {
    const nanos = Math.round((retrySeconds % 1) * 1e9);
    const retryDelay = { seconds: BigInt(Math.floor(retrySeconds)), nanos };
    const value = toBinary(RetryInfoSchema, create(RetryInfoSchema, { retryDelay }));
    status.details.push({ $typeName: "google.protobuf.Any", typeUrl: prefix + RetryInfoSchema.typeName, value });
  }
  return status;
}

/** An event. */
export function eventOf(event: EventInit): Event {
  return create(EventSchema, { event } as MessageInitShape<typeof EventSchema>);
}

/** A frame. */
export function answerOf(init: MessageInitShape<typeof ConnectResponseSchema>): ConnectResponse {
  return create(ConnectResponseSchema, init);
}

/** A channel: its entries, and the stays of the one user (without an end: it lasts). */
export class Log {
  readonly entries: Entry[] = [];
  readonly stays: { from: number; to: number | undefined }[] = [];
  changed = 0;

  constructor(readonly id: string) {}

  get head(): number {
    return this.entries.length;
  }

  get isMember(): boolean {
    return this.stays.length > 0 && this.stays.at(-1)?.to === undefined;
  }

  shows(entryId: number): boolean {
    return this.stays.some(({ from, to }) => from <= entryId && entryId <= (to ?? this.head));
  }

  /** What a device gets after a position: entries, and gaps for what it may not see. */
  *after(position: number): Generator<Event> {
    let lastShown = 0;
    for (let id = 1; id <= this.head; id++) if (this.shows(id)) lastShown = id;
    let hidden = 0;
    for (let id = position + 1; id <= lastShown; id++) {
      if (!this.shows(id)) {
        hidden ||= id;
        continue;
      }
      if (hidden > 0) {
        const gap = { channelId: this.id, fromId: BigInt(hidden), toId: BigInt(id - 1) };
        yield eventOf({ case: "gap", value: gap });
        hidden = 0;
      }
      yield eventOf({ case: "entry", value: this.entries[id - 1] as Entry });
    }
  }

  opened(startId: number): Event {
    const channel = { id: this.id, kind: ChannelKind.GROUP, generation: GENERATION };
    return eventOf({ case: "opened", value: { channel, startId: BigInt(startId) } });
  }
}

/** The store, and the streams that are open. */
export class Server {
  readonly logs = new Map<string, Log>();
  readonly stored = new Map<string, bigint>();
  commits = 0;
  streams: Stream[] = [];
  refuse = 0; // so many of the next sends are refused for a moment
  lose = 0; // so many of the next entries get lost on the way

  constructor(channelIds: readonly string[]) {
    for (const channelId of channelIds) {
      const log = new Log(channelId);
      this.logs.set(channelId, log);
      this.join(log);
    }
  }

  private append(log: Log, entry: MessageInitShape<typeof EntrySchema>): number {
    const id = BigInt(log.head + 1);
    log.entries.push(create(EntrySchema, { ...entry, channelId: log.id, id } as MessageInitShape<typeof EntrySchema>));
    this.commits++;
    log.changed = this.commits;
    return log.head;
  }

  private tell(event: Event): void {
    for (const stream of this.streams) if (stream.isLive) stream.out.push(answerOf({ events: [event] }));
  }

  private entry(log: Log, entryId: number): void {
    if (this.lose > 0) this.lose--;
    else this.tell(eventOf({ case: "entry", value: log.entries[entryId - 1] as Entry }));
  }

  join(log: Log): void {
    const value = { members: [{ userId: USER }] };
    const entryId = this.append(log, { kind: { case: "membersAdded", value } });
    log.stays.push({ from: entryId, to: undefined });
    this.tell(log.opened(entryId - 1));
    this.entry(log, entryId);
  }

  leave(log: Log): void {
    const entryId = this.append(log, { kind: { case: "memberRemoved", value: { userId: USER } } });
    // Not lost on the way: if the user is back before that shows, ChannelOpened begins the view anew
    // behind it, and what lies before is history.
    this.tell(eventOf({ case: "entry", value: log.entries[entryId - 1] as Entry }));
    const stay = log.stays.at(-1);
    if (stay !== undefined) stay.to = entryId;
  }

  say(log: Log, text: string, actorId: string, clientMessageId: string): number {
    const value = { clientMessageId, content: { text } };
    const entryId = this.append(log, { actorId, kind: { case: "messageSent", value } });
    if (log.isMember) this.entry(log, entryId);
    return entryId;
  }

  sync(channelId: string, generation: bigint, position: bigint): SyncResponse {
    const log = this.logs.get(channelId) as Log;
    if (generation !== GENERATION) {
      const startId = BigInt(log.head);
      const reset = { channelId, reason: ChannelReset_Reason.GENERATION, generation: GENERATION, startId };
      return create(SyncResponseSchema, { events: [eventOf({ case: "reset", value: reset })] });
    }
    const events = [...log.after(Number(position))];
    return create(SyncResponseSchema, { events: events.slice(0, 3), hasMore: events.length > 3 });
  }
}

/** One device's stream on the server's side: frames in, frames out (`out`). */
export class Stream {
  isLive = false;
  /** A Close was its last frame. */
  isOver = false;
  out: ConnectResponse[] = [];
  private readonly held = new Map<string, string>();

  /** @param address Of the node that has it. */
  constructor(
    private readonly server: Server,
    readonly address = "",
  ) {
    server.streams.push(this);
  }

  /** Ends it with guidance. */
  close(close: MessageInitShape<typeof CloseSchema>): void {
    this.out.push(answerOf({ close }));
    this.isLive = false;
    this.isOver = true;
  }

  /** The connection has ended. */
  gone(): void {
    this.server.streams = this.server.streams.filter((stream) => stream !== this);
  }

  receive(frame: ConnectRequest): void {
    if (this.isOver) return;
    if (frame.hello !== undefined) this.hello(frame.hello);
    for (const request of frame.sends) this.out.push(answerOf({ results: [this.send(request)] }));
    if (frame.ping !== undefined) {
      this.out.push(answerOf({ pong: { id: frame.ping.id, stamp: String(this.server.commits) } }));
    }
  }

  private hello(hello: Hello): void {
    const { server } = this;
    const limits = { maxSendsPerFrame: 3, maxFrameBytes: 4 << 20, pingInterval: { seconds: 30n } };
    this.out.push(answerOf({ welcome: { userId: USER, deviceId: "d", limits } }));
    const cursors = new Map(hello.cursors.map((cursor) => [cursor.channelId, cursor]));
    const since = Number(hello.resumeStamp || 0);
    for (const log of server.logs.values()) {
      const cursor = cursors.get(log.id);
      if (cursor === undefined) {
        if (log.isMember && log.changed > since) this.out.push(answerOf({ events: [log.opened(log.head)] }));
        continue;
      }
      assert.equal(cursor.generation, GENERATION);
      for (const event of log.after(Number(cursor.id))) this.out.push(answerOf({ events: [event] }));
    }
    this.out.push(answerOf({ caughtUp: { stamp: String(server.commits) } }));
    this.isLive = true;
  }

  private send(request: SendMessageRequest): SendResult {
    const { server } = this;
    const { channelId, clientMessageId, content } = request;
    const log = server.logs.get(channelId) as Log;
    const refused = (error: Status) => create(SendResultSchema, { clientMessageId, channelId, error });
    const held = this.held.get(channelId);
    if (held !== undefined && held !== clientMessageId) {
      return refused(refusal("EARLIER_SEND_REFUSED", 10, { metadata: { client_message_id: held } }));
    }
    this.held.delete(channelId);
    if (server.refuse > 0) {
      server.refuse--;
      this.held.set(channelId, clientMessageId);
      return refused(refusal("RATE_LIMITED", 8, { retrySeconds: 1.5 }));
    }
    const key = `${channelId} ${clientMessageId}`;
    if (!server.stored.has(key)) {
      if (!log.isMember) return refused(refusal("NOT_A_MEMBER", 7));
      server.stored.set(key, BigInt(server.say(log, content?.text ?? "", USER, clientMessageId)));
    }
    const messageId = server.stored.get(key) as bigint;
    return create(SendResultSchema, { clientMessageId, channelId, messageId });
  }
}
