/** The client and what of it is shown: every change of it is a change of a signal. */

import { batch, computed, signal } from "@preact/signals";
import {
  type ChannelSummary,
  ChannelKind,
  ChinwagError,
  type Client,
  type Connection,
  type Event,
} from "chinwag";
import { Conversation } from "./conversation.js";
import { Pace } from "./pace.js";
import { People } from "./people.js";

const TYPING_MS = 6_000;
const NOTICE_MS = 8_000;

export class Chat {
  readonly connection = signal<Connection>("connecting");
  readonly retryAtMs = signal<number | undefined>(undefined);
  readonly channels = signal<readonly ChannelSummary[]>([]);
  readonly unsent = signal(0);
  /** The browser has a network at all; a socket may take a minute to notice that it is gone. */
  readonly hasNetwork = signal(navigator.onLine);
  readonly selectedId = signal("");
  /** Who types where: by channel the users. */
  readonly typing = signal<ReadonlyMap<string, ReadonlySet<string>>>(new Map());
  /** Something that went wrong, for a while. */
  readonly notice = signal("");
  readonly people: People;
  readonly selected = computed(() =>
    this.selectedId.value === "" ? undefined : this.conversation(this.selectedId.value),
  );
  private readonly conversations = new Map<string, Conversation>();
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;

  /** @param onEnd Called when the server has ended the session, or this page the client. */
  constructor(
    readonly client: Client,
    private readonly onEnd: (error: ChinwagError | undefined) => void,
  ) {
    this.people = new People(client);
    const change = new Pace(() => {
      this.refresh();
    });
    client.onChange(() => {
      change.soon();
    });
    addEventListener("offline", () => { this.hasNetwork.value = false; });
    addEventListener("online", () => { this.hasNetwork.value = true; });
    this.refresh();
    // Before anything is drawn: what the store holds is read meanwhile.
    this.selectAddressed();
    void this.follow();
    void client.channels.refresh().catch(() => undefined);
  }

  get userId(): string {
    return this.client.userId;
  }

  conversation(channelId: string): Conversation {
    let found = this.conversations.get(channelId);
    if (found === undefined) {
      found = new Conversation(this.client, channelId);
      this.conversations.set(channelId, found);
    }
    return found;
  }

  select(channelId: string): void {
    const before = this.selected.peek();
    if (before !== undefined && before.id !== channelId) before.channel.lookAway();
    this.selectedId.value = channelId;
    if (channelId === "") return;
    const conversation = this.conversation(channelId);
    void conversation.open();
    if (this.client.channels.get(channelId)?.channel.kind === ChannelKind.BROADCAST) {
      void conversation.channel.look().catch(() => undefined); // its entries come to who looks
    }
  }

  /** Selects the channel that the page's address names. */
  selectAddressed(): void {
    try {
      this.select(decodeURIComponent(location.hash.slice(1)));
    } catch {
      this.select(""); // not an address of this page's
    }
  }

  /** A channel's name: of a direct one the other's. */
  title(summary: ChannelSummary): string {
    const { channel } = summary;
    if (channel.kind !== ChannelKind.DIRECT) return channel.name || "Unnamed group";
    const other = this.people.other(channel.id);
    if (other === undefined) void this.findOther(channel.id);
    return other === undefined ? "…" : this.people.name(other);
  }

  private readonly looking = new Set<string>();

  private async findOther(channelId: string): Promise<void> {
    if (this.looking.has(channelId)) return;
    this.looking.add(channelId);
    try {
      for await (const member of this.client.channel(channelId).members()) {
        if (member.userId !== this.userId) this.people.putOther(channelId, member.userId);
      }
      this.channels.value = [...this.channels.value];
    } catch {
      this.looking.delete(channelId); // tried again when it is drawn again
    }
  }

  /** Does something of the user's, and says so if it fails. */
  async attempt(what: string, act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      this.say(`${what}: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  say(text: string): void {
    this.notice.value = text;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => (this.notice.value = ""), NOTICE_MS);
  }

  private refresh(): void {
    batch(() => { this.copy(); });
  }

  private copy(): void {
    const { client } = this;
    this.connection.value = client.connection;
    this.retryAtMs.value = client.retryAtMs;
    this.channels.value = client.channels.list();
    this.unsent.value = client.unsent;
    for (const conversation of this.conversations.values()) conversation.refresh();
    // What could not be read while the server was away.
    if (client.connection !== "live") return;
    void this.selected.peek()?.open();
    this.people.again();
  }

  private async follow(): Promise<void> {
    try {
      for await (const event of this.client.events()) this.take(event);
      this.onEnd(undefined);
    } catch (error) {
      this.onEnd(error instanceof ChinwagError ? error : undefined);
    }
  }

  private take(event: Event): void {
    if (event.type === "TypingChanged") {
      this.setTyping(event.channelId, event.userId, event.active);
    } else if ("channelId" in event) {
      if (event.type === "MessageReceived") this.setTyping(event.channelId, event.actorId, false);
      this.conversations.get(event.channelId)?.take(event);
    }
  }

  private setTyping(channelId: string, userId: string, active: boolean): void {
    const key = `${channelId} ${userId}`;
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    const users = new Set(this.typing.value.get(channelId));
    if (active === users.has(userId) && !active) return;
    if (active) {
      users.add(userId);
      this.timers.set(key, setTimeout(() => this.setTyping(channelId, userId, false), TYPING_MS));
    } else {
      users.delete(userId);
    }
    this.typing.value = new Map(this.typing.value).set(channelId, users);
  }
}
