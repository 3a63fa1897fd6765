/**
 * Which of several addresses to use: one at random, and another one when it fails.
 *
 * Nothing here does I/O. The stream's reconnecting (`reconnect`) and the unary calls (`routes`) of
 * one client share one `Endpoints`, so that each learns from the other which nodes are away.
 */

import type { ChinwagError } from "./errors.js";
import { type Random, choice, shuffled } from "./random.js";

// A node that failed is avoided for so long, twice as long after each further failure.
export const AVOID_MS = 5_000;
export const AVOID_MAX_MS = 60_000;

/** The addresses of one client, and what is known of them. */
export class Endpoints {
  // Those that failed since a connection was last good.
  private readonly tried = new Set<string>();
  private readonly failures = new Map<string, number>();
  // In the order in which they failed last.
  private readonly failedOnes = new Set<string>();
  private readonly avoidUntil = new Map<string, number>();
  private inUse: string;

  constructor(
    readonly addresses: readonly string[],
    private readonly rng: Random,
    private readonly monotonic: () => number,
  ) {
    // At random, so that clients that start together spread over the nodes.
    this.inUse = choice(rng, addresses);
  }

  /** The address in use, or to be used next. */
  get current(): string {
    return this.inUse;
  }

  has(address: string): boolean {
    return this.addresses.includes(address);
  }

  /** A node could not be reached, broke off, or asked to go: it is avoided for a while. */
  failed(address: string): void {
    if (!this.has(address)) return;
    this.tried.add(address);
    this.failedOnes.delete(address);
    this.failedOnes.add(address); // the last one in it has failed last
    if (this.isAvoided(address)) return; // the same failure, seen by another call
    const count = this.failures.get(address) ?? 0;
    this.failures.set(address, count + 1);
    const bound = Math.min(AVOID_MAX_MS, AVOID_MS * 2 ** Math.min(count, 10));
    this.avoidUntil.set(address, this.monotonic() + (bound / 2) * (1 + this.rng()));
  }

  /** A stream over this address is caught up: the next break is a new one. */
  works(address: string): void {
    if (this.has(address)) {
      this.inUse = address;
      this.failures.delete(address);
      this.avoidUntil.delete(address);
    }
    this.tried.clear();
  }

  /** A call over this address was answered: further ones go there if the one in use is away. */
  answered(address: string): void {
    if (this.isAvoided(address)) return;
    this.failures.delete(address);
    if (this.isAvoided(this.inUse)) this.inUse = address;
  }

  /** From now on this one of the addresses is used. */
  use(address: string): void {
    this.inUse = address;
  }

  /**
   * Chooses where to connect after a failure.
   *
   * @returns Whether to go to `current` at once. Each address is tried at once but once a break; when
   * all have failed, the caller's back-off paces the attempts at all of them.
   */
  next(): boolean {
    const open = this.addresses.filter((address) => !this.isAvoided(address));
    const untried = open.filter((address) => !this.tried.has(address));
    if (open.length > 0) {
      this.inUse = choice(this.rng, untried.length > 0 ? untried : open);
    } else {
      // One after the other: that which failed longest ago.
      for (const address of this.failedOnes) {
        this.inUse = address;
        break;
      }
    }
    return untried.length > 0;
  }

  /**
   * A stream over an address has ended, or could not be opened; `current` is where to open it again.
   *
   * @param error Why; undefined: it just broke.
   * @returns Whether to do so at once, and not after a back-off and what the error says to wait.
   */
  ended(address: string, error: ChinwagError | undefined): boolean {
    // It is the client that is too fast: another node is no way around that.
    if (error?.reason === "RATE_LIMITED") return false;
    this.failed(address);
    const atOnce = this.next();
    return atOnce && (error === undefined || !error.retryAfterMs || error.reason === "DRAINING");
  }

  /**
   * Where to make a call: the address in use, then the others at random; those that failed a moment
   * ago only if there is no other.
   */
  order(): string[] {
    const open = this.addresses.filter((address) => !this.isAvoided(address));
    const found = shuffled(this.rng, open.length > 0 ? open : this.addresses);
    return found.sort((a, b) => Number(a !== this.inUse) - Number(b !== this.inUse));
  }

  private isAvoided(address: string): boolean {
    return (this.avoidUntil.get(address) ?? -Infinity) > this.monotonic();
  }
}
