/** Names of users, read as they are needed, many at once. */

import { type ReadonlySignal, signal } from "@preact/signals";
import type { Client, User } from "chinwag";
import { Known } from "./known.js";

const BATCH_MS = 30;
const AT_ONCE = 200;

export class People {
  private readonly users = new Map<string, User>();
  private readonly asked = new Set<string>();
  private wanted: string[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly version = signal(0);
  private readonly known: Known;
  private hasFailed = false;

  constructor(private readonly client: Client) {
    this.known = new Known(client.userId);
  }

  /** Changes when a name has come. */
  get changes(): ReadonlySignal<number> {
    return this.version;
  }

  /** A user's name; the id until it is known. */
  name(userId: string): string {
    void this.version.value;
    const user = this.users.get(userId);
    if (user === undefined) this.want(userId);
    return user?.displayName || user?.username || this.known.name(userId) || userId;
  }

  /** The other one of a direct channel, if they were seen once. */
  other(channelId: string): string | undefined {
    return this.known.other(channelId);
  }

  putOther(channelId: string, userId: string): void {
    this.known.putOther(channelId, userId);
    this.version.value++;
  }

  /** There is a connection: what could not be read is asked for again by whatever shows it. */
  again(): void {
    if (!this.hasFailed) return;
    this.hasFailed = false;
    this.version.value++;
  }

  /** The user who has a name. @throws Error There is none who lets themselves be found. */
  async find(username: string): Promise<User> {
    const user = await this.client.account.find(username);
    if (user === undefined) throw new Error(`There is nobody called “${username}”.`);
    this.put([user]);
    return user;
  }

  /** Users whose name begins like this, of those that are known. */
  like(prefix: string): User[] {
    const wanted = prefix.toLocaleLowerCase();
    return [...this.users.values()].filter((user) =>
      [user.username, user.displayName].some((name) => name.toLocaleLowerCase().startsWith(wanted)),
    );
  }

  put(users: Iterable<User>): void {
    const all = [...users];
    for (const user of all) this.users.set(user.id, user);
    this.known.putNames(all.map((user) => [user.id, user.displayName || user.username]));
    this.version.value++;
  }

  private want(userId: string): void {
    if (userId === "" || this.asked.has(userId)) return;
    this.asked.add(userId);
    this.wanted.push(userId);
    this.timer ??= setTimeout(() => void this.read(), BATCH_MS);
  }

  private async read(): Promise<void> {
    this.timer = undefined;
    const some = this.wanted.splice(0, AT_ONCE);
    if (this.wanted.length > 0) this.timer = setTimeout(() => void this.read(), BATCH_MS);
    try {
      this.put(await this.client.account.users(some));
    } catch {
      // Offline, most likely.
      this.hasFailed = true;
      for (const userId of some) this.asked.delete(userId);
    }
  }
}
