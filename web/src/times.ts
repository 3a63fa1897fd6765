/** Times as people read them, in their language. */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export function clock(date: Date): string {
  return CLOCK.format(date);
}

export function day(date: Date): string {
  return DAY.format(date);
}

export function full(date: Date): string {
  return FULL.format(date);
}

export function sameDay(one: Date, other: Date): boolean {
  return one.toDateString() === other.toDateString();
}

/** A protobuf timestamp; the present where there is none. */
export function dateOf(timestamp: { seconds: bigint; nanos: number } | undefined): Date {
  if (timestamp === undefined) return new Date();
  return new Date(Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6);
}
