/** `connect`: what a client is made of, checked before anything is opened. */

import { type Addresses, baseUrl, parseAddresses } from "./addresses.js";
import { Client } from "./client.js";
import type { SubscriptionsInit } from "./control.js";
import type { Cursor } from "./events.js";
import { MemoryStore } from "./memory-store.js";
import type { AllowAddress } from "./redirect.js";
import type { Session } from "./session.js";
import type { ClientStore } from "./store.js";
import { type OpenTransport, webTransport } from "./transports.js";

/** How a client connects. */
export interface ConnectOptions {
  /** What the device keeps; default: nothing, in memory. */
  store?: ClientStore;
  /** Default: `webTransport()`. */
  transport?: OpenTransport;
  /** Plain http to any address: only over a network that you trust. */
  insecure?: boolean;
  /** What the stream carries beside messages; default: receipts, typing and the account's events. */
  subscriptions?: SubscriptionsInit;
  /** A channel that misses more entries is reset at its head; 0: no limit. */
  catchUpLimit?: number;
  /**
   * Where to start, in place of the store's cursors: those that the application committed with its own
   * data.
   */
  cursors?: Iterable<Cursor>;
  /** Tell the others that messages have arrived, once the application took them. */
  deliveredMarks?: boolean;
  /**
   * Wait so long for the server's welcome, and fail if none comes; default 0: do not wait, so that a
   * page shows what the store holds first.
   */
  waitMs?: number;
  /** `close({ drain: true })` waits so long for messages that are still on their way. */
  drainMs?: number;
  /**
   * A node may send a client to another one. Of addresses that are not among the client's own it is
   * asked whether to go there, with the session's token; default: never.
   */
  allowAddress?: AllowAddress;
}

/**
 * Makes a client of one device, which stays connected by itself.
 *
 * @param address "https://host", "host:port", or several with commas or as a list: one at random is
 * used, and another one when it fails. Empty: the session's.
 * @throws InsecureAddress See `insecure`.
 * @throws TypeError No good address is given.
 * @throws StoreMismatch The store is another user's, or used by another tab.
 * @throws Unavailable The server did not answer within `waitMs`.
 */
export async function connect(
  address: Addresses,
  session: Session,
  options: ConnectOptions = {},
): Promise<Client> {
  const addresses = parseAddresses(address === "" ? session.address : address);
  const insecure = options.insecure ?? false;
  for (const each of addresses) baseUrl(each, insecure);
  return await Client.start(addresses, session, {
    ...options,
    insecure,
    store: options.store ?? new MemoryStore(),
    transport: options.transport ?? webTransport(),
  });
}
