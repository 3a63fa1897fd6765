/** Lists of messages with rising ids. */

import type { Message } from "chinwag";

/** The message with an id. */
export function find(messages: readonly Message[], id: bigint): Message | undefined {
  let low = 0;
  let high = messages.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const found = messages[middle];
    if (found === undefined || found.id >= id) high = middle;
    else low = middle + 1;
  }
  const found = messages[low];
  return found?.id === id ? found : undefined;
}

/** Both in one list; of two copies of a message the one that knows more. */
export function merged(some: readonly Message[], more: readonly Message[]): Message[] {
  const [first, last] = [some[0], some.at(-1)];
  const rising = isRising(more);
  // What scrolling and events bring lies at one end: then nothing has to be looked through.
  if (first === undefined || last === undefined) return rising ? [...more] : sorted(more);
  const [from, to] = [more[0], more.at(-1)];
  if (from === undefined || to === undefined) return [...some];
  if (rising && from.id > last.id) return [...some, ...more];
  if (rising && to.id < first.id) return [...more, ...some];
  return sorted([...some, ...more]);
}

function isRising(messages: readonly Message[]): boolean {
  return messages.every((message, index) => {
    const before = messages[index - 1];
    return before === undefined || before.id < message.id;
  });
}

function sorted(messages: readonly Message[]): Message[] {
  const byId = new Map<bigint, Message>();
  for (const message of messages) {
    const known = byId.get(message.id);
    if (known === undefined || known.lastEntryId <= message.lastEntryId) byId.set(message.id, message);
  }
  return [...byId.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}
