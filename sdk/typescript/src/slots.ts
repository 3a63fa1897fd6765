/**
 * A device for each tab.
 *
 * A device has one stream, so two tabs cannot share one. Each open tab therefore holds a *slot*: a
 * session and a store of its own, under a Web Lock that the browser frees however the tab ends. The next
 * tab takes the first slot that is free, and goes on with its session, its cursors and its unsent
 * messages.
 */

import { IndexedDbStore } from "./indexeddb-store.js";
import { type Locks, holdLock, systemLocks } from "./locks.js";
import { LimitExceeded } from "./errors.js";
import { Session } from "./session.js";

export const MAX_SLOTS = 8;

/** The part of `localStorage` that is used. */
export interface KeyValue {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Where slots are. */
export interface SlotOptions {
  /** At most so many tabs at the same time; default 8. */
  maxSlots?: number;
  /** Default: localStorage. */
  storage?: KeyValue;
  /** Default: navigator.locks. */
  locks?: Locks | undefined;
  /** For `forget`; default: the browser's. */
  indexedDB?: IDBFactory;
}

/** A tab's device. */
export class Slot {
  /** For `new IndexedDbStore(slot.storeName)`. */
  readonly storeName: string;
  private readonly key: string;

  /** @param release Frees the slot for another tab. */
  constructor(
    name: string,
    readonly number: number,
    readonly release: () => void,
    private readonly storage: KeyValue,
    private readonly options: SlotOptions,
  ) {
    this.storeName = `${name}-${number}`;
    this.key = `chinwag session ${this.storeName}`;
  }

  /** The login of this device; undefined: there is none, log in and `keep` it. New tokens are kept. */
  get session(): Session | undefined {
    const data = this.storage.getItem(this.key);
    if (data === null) return undefined;
    try {
      const session = Session.fromJSON(data);
      session.onTokens = (changed) => {
        this.write(changed);
      };
      return session;
    } catch {
      return undefined;
    }
  }

  /** Makes a session this device's, and keeps it with every new pair of tokens. */
  keep(session: Session): void {
    session.onTokens = (changed) => {
      this.write(changed);
    };
    this.write(session);
  }

  private write(session: Session): void {
    this.storage.setItem(this.key, JSON.stringify(session));
  }

  /** On logging out, before the server is asked: a page that is loaded again meanwhile has no login. */
  forgetSession(): void {
    this.storage.removeItem(this.key);
  }

  /** After logging out: drops the session and what the store holds. Close the client before. */
  async forget(): Promise<void> {
    this.forgetSession();
    await IndexedDbStore.delete(this.storeName, this.options.indexedDB ?? indexedDB);
  }
}

/**
 * Takes the first device that no open tab uses.
 *
 * @param name Of the application: tabs with the same name share slots.
 * @throws LimitExceeded As many tabs are open as may be.
 * @throws TypeError There are no Web Locks: the page is neither https nor localhost.
 */
export async function takeSlot(name: string, options: SlotOptions = {}): Promise<Slot> {
  const { maxSlots = MAX_SLOTS, storage = localStorage } = options;
  const locks = options.locks ?? systemLocks();
  if (locks === undefined) {
    throw new TypeError("no Web Locks here: they need https or localhost");
  }
  for (let number = 0; number < maxSlots; number++) {
    const release = await holdLock(locks, `chinwag slot ${name}-${number}`);
    if (release !== undefined) return new Slot(name, number, release, storage, options);
  }
  throw new LimitExceeded(`${maxSlots} tabs are open, as many as may be: close one of them`, { code: 8 });
}
