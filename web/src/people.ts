/** Names of users, read as they are needed, many at once. */

import { type ReadonlySignal, signal } from "@preact/signals";
import type { Client, User } from "chinwag";

const BATCH_MS = 30;
const AT_ONCE = 200;

export class People {
  private readonly users = new Map<string, User>();
  private readonly asked = new Set<string>();
  private wanted: string[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly version = signal(0);

  constructor(private readonly client: Client) {}

  /** Changes when a name has come. */
  get changes(): ReadonlySignal<number> {
    return this.version;
  }

  /** A user's name; the id until it is known. */
  name(userId: string): string {
    void this.version.value;
    const user = this.users.get(userId);
    if (user === undefined) this.want(userId);
    return user?.displayName || user?.username || userId;
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
    for (const user of users) this.users.set(user.id, user);
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
      // Offline, most likely: asked again when they are drawn again.
      for (const userId of some) this.asked.delete(userId);
    }
  }
}
