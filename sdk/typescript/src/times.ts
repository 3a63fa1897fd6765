/** Protobuf's times and durations as milliseconds. */

import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** Milliseconds; 0 if it is not set. */
export function toMs(time: Timestamp | Duration | undefined): number {
  return time === undefined ? 0 : Number(time.seconds) * 1000 + time.nanos / 1e6;
}

/** A date; undefined if it is not set. */
export function toDate(time: Timestamp | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(toMs(time));
}

/** A point in time. */
export function timestampOf(ms: number): { seconds: bigint; nanos: number } {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
