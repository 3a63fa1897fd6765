/**
 * What a device tells the server beside its messages: hello, marks, typing, looks, watches, tokens.
 *
 * All that is wanted within a turn shares one frame.
 */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Cursor } from "./events.js";
import { Marks } from "./marks.js";
import {
  type ConnectRequest,
  ConnectRequestSchema,
  HelloSchema,
  PresenceWatchesSchema,
  type Subscriptions,
  SubscriptionsSchema,
} from "./gen/chinwag/chat/v1/connect_pb.js";
import { CursorSchema } from "./gen/chinwag/chat/v1/channel_pb.js";
import type { Event } from "./gen/chinwag/chat/v1/entry_pb.js";
import type { WatchSchema } from "./gen/chinwag/presence/v1/presence_pb.js";
import { CLIENT } from "./version.js";

export const VERSION = 1;
export const MAX_CURSORS = 20_000;
export const MAX_TYPING = 16;
export const TYPING_REPEAT_MS = 4000;
// Of how many places the last typing signal is remembered.
const MAX_TYPED = 100;

/** A presence watch, as it is written. */
export type WatchInit = MessageInitShape<typeof WatchSchema>;
/** What streams carry beside events and results. */
export type SubscriptionsInit = MessageInitShape<typeof SubscriptionsSchema>;

/** The next control frame, and what every hello has to say again. */
export class Control {
  /**
   * The server has welcomed this stream: from then on things are sent as they come; before, hello says
   * what has to be said.
   */
  isOpen = false;
  readonly marks = new Marks();
  private readonly subscriptions: Subscriptions;
  private readonly looking = new Set<string>();
  private readonly typed = new Map<string, number>();
  private watches: WatchInit[] | undefined;
  private frame: ConnectRequest | undefined;

  constructor(
    subscriptions: SubscriptionsInit | undefined,
    private readonly catchUpLimit: number,
  ) {
    this.subscriptions = create(
      SubscriptionsSchema,
      subscriptions ?? { receipts: true, typing: true, account: true },
    );
  }

  private next(): ConnectRequest {
    this.frame ??= create(ConnectRequestSchema);
    return this.frame;
  }

  /** A stream is open: what its first frame says. */
  sayHello(stamp: string, accountCursor: string, cursors: readonly Cursor[]): void {
    this.isOpen = false;
    const wanted = create(SubscriptionsSchema, { ...this.subscriptions, channels: [], accountCursor });
    if (this.watches !== undefined) {
      wanted.watches = create(PresenceWatchesSchema, { watches: this.watches });
    }
    const hello = create(HelloSchema, {
      protocolVersion: VERSION,
      client: CLIENT,
      resumeStamp: stamp,
      catchUpLimit: this.catchUpLimit,
      subscriptions: wanted,
    });
    for (const cursor of cursors.slice(-MAX_CURSORS)) {
      const to = this.looking.has(cursor.channelId) ? wanted.channels : hello.cursors;
      to.push(create(CursorSchema, cursor));
    }
    this.frame = create(ConnectRequestSchema, { hello });
  }

  /**
   * The server has taken hello. Marks have no answer: those of the last stream may not have arrived,
   * and go again.
   */
  welcomed(now: number): void {
    this.isOpen = true;
    this.marks.again(now);
  }

  /** The frame to send now, if there is anything to say. */
  take(now: number): ConnectRequest | undefined {
    if (this.isOpen) {
      const marks = this.marks.take(now);
      if (marks.length > 0) this.next().marks.push(...marks);
    }
    const frame = this.frame;
    this.frame = undefined;
    return frame;
  }

  /** Asks for a sign of life. */
  ping(now: number): void {
    this.next().ping = { $typeName: "chinwag.chat.v1.Ping", id: BigInt(Math.floor(now)) };
  }

  /** Gives the stream a fresh token; a stream that is not open was opened with one. */
  renewToken(accessToken: string): void {
    if (this.isOpen) this.next().renewToken = { $typeName: "chinwag.chat.v1.RenewToken", accessToken };
  }

  /** The user types, or has stopped. */
  typing(channelId: string, threadRootId: bigint, active: boolean, now: number): void {
    if (!this.isOpen) return;
    const key = `${channelId} ${threadRootId}`;
    if (active && now - (this.typed.get(key) ?? -TYPING_REPEAT_MS) < TYPING_REPEAT_MS) return;
    if (this.typed.size > MAX_TYPED) this.typed.clear();
    if (active) this.typed.set(key, now);
    else this.typed.delete(key);
    const typing = this.next().typing;
    if (typing.length < MAX_TYPING) {
      typing.push({ $typeName: "chinwag.chat.v1.TypingSignal", channelId, threadRootId, active });
    }
  }

  /** A broadcast channel is looked at, after a cursor. */
  look(cursor: Cursor): void {
    this.looking.add(cursor.channelId);
    if (this.isOpen) this.next().subscribe.push(create(CursorSchema, cursor));
  }

  /** It is not looked at any more; whether it was. */
  lookAway(channelId: string): boolean {
    if (!this.looking.delete(channelId)) return false;
    if (this.isOpen) this.next().unsubscribe.push(channelId);
    return true;
  }

  /** The users whose presence is wanted, in place of those before. */
  watch(watches: readonly WatchInit[]): void {
    this.watches = [...watches];
    if (this.isOpen) this.next().watches = create(PresenceWatchesSchema, { watches: this.watches });
  }

  /** The server tells of registers, or that a channel is gone. */
  told(event: Event): void {
    if (event.event.case === "state") {
      this.marks.confirmed(event.event.value);
    } else if (event.event.case === "reset" && event.event.value.generation === 0n) {
      this.looking.delete(event.event.value.channelId);
      this.marks.drop(event.event.value.channelId);
    }
  }
}
