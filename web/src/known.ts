/** Names that were seen once, kept in this browser: yesterday's chat has its names without the server. */

const LIMIT = 2_000;

interface Kept {
  readonly names: Record<string, string>;
  readonly others: Record<string, string>;
}

export class Known {
  private readonly names: Map<string, string>;
  private readonly others: Map<string, string>;
  private readonly key: string;

  constructor(userId: string) {
    this.key = `chinwag.known.${userId}`;
    const kept = read(this.key);
    this.names = new Map(Object.entries(kept.names));
    this.others = new Map(Object.entries(kept.others));
  }

  name(userId: string): string | undefined {
    return this.names.get(userId);
  }

  /** The other one of a direct channel. */
  other(channelId: string): string | undefined {
    return this.others.get(channelId);
  }

  putNames(names: Iterable<readonly [string, string]>): void {
    for (const [userId, name] of names) put(this.names, userId, name);
    this.write();
  }

  putOther(channelId: string, userId: string): void {
    put(this.others, channelId, userId);
    this.write();
  }

  /** Nothing of a user stays in this browser. */
  static forget(userId: string): void {
    localStorage.removeItem(`chinwag.known.${userId}`);
  }

  private write(): void {
    const kept: Kept = { names: Object.fromEntries(this.names), others: Object.fromEntries(this.others) };
    try {
      localStorage.setItem(this.key, JSON.stringify(kept));
    } catch {
      // The storage is full or forbidden: names come from the server then.
    }
  }
}

/** The newest ones are kept. */
function put(map: Map<string, string>, key: string, value: string): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > LIMIT && oldest !== undefined) map.delete(oldest);
}

function read(key: string): Kept {
  try {
    const kept = JSON.parse(localStorage.getItem(key) ?? "{}") as Partial<Kept>;
    return { names: kept.names ?? {}, others: kept.others ?? {} };
  } catch {
    return { names: {}, others: {} };
  }
}
