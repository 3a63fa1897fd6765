/**
 * The order of entries: each channel dense, each entry once, a hole filled before anything after.
 *
 * Pure rules. Events of the stream and of `Sync` answers go in, events for the application come out,
 * and with them the fetches that are needed.
 */

import type { Cursor, StoreEvent } from "./events.js";
import { ofEntry } from "./events.js";
import { ChannelKind } from "./gen/chinwag/chat/v1/channel_pb.js";
import {
  type ChannelOpened,
  type ChannelReset,
  ChannelReset_Reason as Reason,
  type Event,
} from "./gen/chinwag/chat/v1/entry_pb.js";

// Events of all channels that may wait behind holes; those beyond are fetched again.
export const MAX_HELD = 2000;
// Answers in a row that did not move a position, after which the connection is the suspect.
export const MAX_FRUITLESS = 3;

/**
 * Ask `Sync` (cursorsOnly) for what follows a cursor, and give the answer to `Positions.fetched` with
 * the number.
 */
export interface Fetch {
  readonly number: number;
  readonly cursor: Cursor;
}

/** Entries are missing after a position. */
interface Hole {
  /** Of the fetch that is under way. */
  number: number;
  /** What came behind the hole. */
  held: Event[];
  /** Some of it was dropped since that fetch: another one has to follow. */
  again: boolean;
  /** Answers in a row that brought nothing. */
  fruitless: number;
}

/** How far a channel was handed out; `keep`: hello names it. */
interface Position {
  generation: bigint;
  id: bigint;
  keep: boolean;
  hole: Hole | undefined;
}

/** The position in every channel. */
export class Positions {
  private readonly channels = new Map<string, Position>();
  private readonly holes = new Map<number, string>();
  private held = 0;
  private number = 0;
  /** Events for the application, in order; the owner empties it. */
  out: StoreEvent[] = [];
  /** Fetches that are needed; the owner empties it. */
  fetches: Fetch[] = [];
  /** A hole cannot be filled over this connection: open another one. */
  stuck = false;

  /** @param cursors Those of an earlier process. */
  constructor(cursors: Iterable<Cursor> = []) {
    for (const cursor of cursors) this.put(cursor.channelId, cursor.generation, cursor.id);
  }

  private put(channelId: string, generation: bigint, id: bigint, keep = true): Position {
    const position: Position = { generation, id, keep, hole: undefined };
    this.channels.set(channelId, position);
    return position;
  }

  /** Whether no channel has a hole. */
  get complete(): boolean {
    return this.holes.size === 0;
  }

  /** How far a channel was handed out; undefined if it is not known. */
  cursor(channelId: string): Cursor | undefined {
    const position = this.channels.get(channelId);
    return position && cursorOf(channelId, position);
  }

  /** What hello says: every channel but broadcast channels that nobody looks at. */
  cursors(): Cursor[] {
    const found: Cursor[] = [];
    for (const [channelId, position] of this.channels) {
      if (position.keep) found.push(cursorOf(channelId, position));
    }
    return found;
  }

  /**
   * A broadcast channel is looked at from now on.
   *
   * @param start Where, if the channel is not looked at already.
   * @returns Where it goes on.
   */
  look(start: Cursor): Cursor {
    let position = this.channels.get(start.channelId);
    if (position === undefined || !position.keep) {
      position = this.put(start.channelId, start.generation, start.id);
    }
    return cursorOf(start.channelId, position);
  }

  /** A channel is gone, or not looked at any more. */
  forget(channelId: string): void {
    const position = this.channels.get(channelId);
    if (position === undefined) return;
    this.channels.delete(channelId);
    this.closeHole(position);
  }

  /** Drops what waits behind holes: the next connection resumes at the positions. */
  connectionLost(): void {
    for (const channelId of [...this.holes.values()]) {
      const position = this.channels.get(channelId);
      if (position !== undefined) this.closeHole(position);
    }
    this.stuck = false;
  }

  // --- events in ---

  /** Takes the stream's next event. */
  take(event: Event): void {
    const step = event.event;
    let channelId: string;
    switch (step.case) {
      case "entry":
      case "gap":
        channelId = step.value.channelId;
        break;
      case "opened":
        channelId = step.value.channel?.id ?? "";
        break;
      case "reset":
        this.reset(step.value);
        return;
      case "state":
        this.out.push({ type: "StateChanged", channelId: step.value.channelId, state: step.value });
        return;
      default:
        return; // of a later version: "a case that the reader does not know is passed over"
    }
    const position = this.channels.get(channelId);
    if (position?.hole !== undefined) {
      this.hold(position.hole, event);
    } else if (!this.step(channelId, position, event)) {
      this.openHole(channelId, event);
    }
  }

  /** Whether the answer to a fetch is still of use. */
  awaits(number: number): boolean {
    return this.holes.has(number);
  }

  /** Takes the answer to a fetch. */
  fetched(number: number, events: Iterable<Event>, hasMore: boolean): void {
    const channelId = this.holes.get(number);
    if (channelId === undefined) return; // reset, forgotten, or of an earlier connection
    const position = this.channels.get(channelId) as Position;
    const hole = position.hole as Hole;
    let before = position.id;
    for (const event of events) {
      const step = event.event;
      if (step.case === "reset") {
        this.reset(step.value, hole);
        if (this.channels.get(channelId) !== position) return;
        before = -1n;
      } else if (step.case === "state") {
        this.out.push({ type: "StateChanged", channelId: step.value.channelId, state: step.value });
      } else if (step.case !== undefined && !this.step(channelId, position, event)) {
        break;
      }
    }
    hole.fruitless = position.id > before ? 0 : hole.fruitless + 1;
    if (hasMore || hole.again) {
      this.fetch(channelId, position, hole);
      return;
    }
    let done = 0;
    for (const event of hole.held) {
      if (!this.step(channelId, position, event)) break;
      done++;
    }
    const isFilled = done === hole.held.length;
    hole.held.splice(0, done);
    this.held -= done;
    if (isFilled) this.closeHole(position);
    else this.fetch(channelId, position, hole);
  }

  /** Hands an event out, or drops a repeat; false: there is a hole before it. */
  private step(channelId: string, position: Position | undefined, event: Event): boolean {
    const step = event.event;
    if (step.case === "opened") {
      this.opened(channelId, position, step.value);
      return true;
    }
    if (position === undefined) return false;
    if (step.case === "entry") {
      const entry = step.value;
      if (entry.id > position.id + 1n) return false;
      if (entry.id === position.id + 1n) {
        position.id = entry.id;
        this.out.push(ofEntry(entry, position.generation));
      }
      return true;
    }
    if (step.case === "gap") {
      const { fromId, toId } = step.value;
      if (fromId > position.id + 1n) return false;
      if (toId > position.id) {
        const first = position.id + 1n;
        position.id = toId;
        const cursor = cursorOf(channelId, position);
        this.out.push({ type: "GapSeen", channelId, fromId: first, toId, cursor });
      }
      return true;
    }
    throw new Error(`no step is ${step.case ?? "unset"}`);
  }

  private opened(channelId: string, position: Position | undefined, opened: ChannelOpened): void {
    const channel = opened.channel;
    if (channel === undefined) return;
    let now = position;
    if (now === undefined) {
      const keep = channel.kind !== ChannelKind.BROADCAST;
      now = this.put(channelId, channel.generation, opened.startId, keep);
    } else if (now.generation === channel.generation && opened.startId < now.id) {
      return; // a repeat: what follows its start was handed out already
    } else {
      // A member who comes back: what lies between the stays is not theirs to see.
      now.generation = channel.generation;
      now.id = opened.startId;
    }
    const cursor = cursorOf(channelId, now);
    this.out.push({ type: "ChannelOpened", channelId, channel, state: opened.state, cursor });
  }

  private reset(reset: ChannelReset, fetching?: Hole): void {
    const channelId = reset.channelId;
    const reason = Reason[reset.reason] ?? "";
    if (reset.reason === Reason.NOT_VISIBLE) {
      this.forget(channelId);
      this.out.push({ type: "ChannelReset", channelId, reason, cursor: undefined });
      return;
    }
    let position = this.channels.get(channelId);
    if (position === undefined) {
      position = this.put(channelId, reset.generation, reset.startId);
    } else {
      if (position.hole !== fetching) this.closeHole(position);
      position.generation = reset.generation;
      position.id = reset.startId;
    }
    this.out.push({ type: "ChannelReset", channelId, reason, cursor: cursorOf(channelId, position) });
  }

  // --- holes ---

  private openHole(channelId: string, event: Event): void {
    // An entry of a channel that was never opened: no generation is 0, so the server answers with a
    // reset, which says where the view begins.
    const position = this.channels.get(channelId) ?? this.put(channelId, 0n, 0n);
    const hole: Hole = { number: 0, held: [], again: false, fruitless: 0 };
    this.fetch(channelId, position, hole);
    this.hold(hole, event);
  }

  private hold(hole: Hole, event: Event): void {
    if (this.held >= MAX_HELD) {
      hole.again = true;
      this.held -= hole.held.length;
      hole.held = [];
      return;
    }
    hole.held.push(event);
    this.held++;
  }

  private fetch(channelId: string, position: Position, hole: Hole): void {
    this.holes.delete(hole.number);
    this.number++;
    hole.number = this.number;
    hole.again = false;
    position.hole = hole;
    this.holes.set(hole.number, channelId);
    if (hole.fruitless >= MAX_FRUITLESS) {
      this.stuck = true;
      return;
    }
    this.fetches.push({ number: hole.number, cursor: cursorOf(channelId, position) });
  }

  private closeHole(position: Position): void {
    const hole = position.hole;
    if (hole === undefined) return;
    position.hole = undefined;
    this.held -= hole.held.length;
    this.holes.delete(hole.number);
    this.fetches = this.fetches.filter((fetch) => fetch.number !== hole.number);
  }
}

function cursorOf(channelId: string, position: Position): Cursor {
  return { channelId, generation: position.generation, id: position.id };
}
