/**
 * Whether the peer lives, and what has to be done about it by when.
 *
 * All times are milliseconds of the monotonic clock.
 */

export const WELCOME_TIMEOUT_MS = 15_000;
export const PONG_TIMEOUT_MS = 10_000;
// An answer to a send that does not come for so long never will: resume over a new connection.
export const ANSWER_TIMEOUT_MS = 60_000;
// A token is renewed when so much of its life has passed.
export const RENEW_AT = 0.8;

/** The times of one connection: begun by `connected`, anew for each. */
export class Liveness {
  pingIntervalMs = 30_000;
  isWelcomed = false;
  private isPaused = false;
  private renewAt: number | undefined;
  private connectedAt: number;
  private wroteAt: number;
  private pingedAt: number | undefined;

  constructor(now: number) {
    this.connectedAt = this.wroteAt = now;
  }

  /** A stream was opened. */
  connected(now: number): void {
    this.isWelcomed = false;
    this.connectedAt = this.wroteAt = now;
    this.pingedAt = undefined;
    this.renewAt = undefined;
  }

  /** A frame came: whatever it says, the peer lives. */
  heard(): void {
    this.pingedAt = undefined;
  }

  /** A frame went out. */
  wrote(now: number): void {
    this.wroteAt = now;
  }

  /** The server told how long the token lives. */
  tokenEndsIn(leftMs: number, now: number): void {
    this.renewAt = now + Math.max(leftMs * RENEW_AT, 1000);
  }

  /** The renewal is to be tried again. */
  renewIn(waitMs: number, now: number): void {
    this.renewAt = now + waitMs;
  }

  /** Nothing is read: silence is no sign of death now. */
  pause(): void {
    this.isPaused = true;
  }

  /** It is read again; an answer that waits gets its time anew. */
  unpause(now: number): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    if (this.pingedAt !== undefined) this.pingedAt = now;
  }

  /**
   * Whether the connection is to be given up.
   *
   * @param oldestSend When the first of the sends under way went out.
   */
  isDead(now: number, oldestSend: number | undefined): boolean {
    if (!this.isWelcomed) return now - this.connectedAt >= WELCOME_TIMEOUT_MS;
    if (this.isPaused) return false;
    const noPong = this.pingedAt !== undefined && now - this.pingedAt >= PONG_TIMEOUT_MS;
    return noPong || (oldestSend !== undefined && now - oldestSend >= ANSWER_TIMEOUT_MS);
  }

  /** Whether a ping has to go out; it counts as sent. */
  mustPing(now: number): boolean {
    if (!this.isWelcomed || now - this.wroteAt < this.pingIntervalMs) return false;
    this.pingedAt ??= now;
    return true;
  }

  /** Whether the token has to be renewed; told once. */
  mustRenew(now: number): boolean {
    if (!this.isWelcomed || this.renewAt === undefined || now < this.renewAt) return false;
    this.renewAt = undefined;
    return true;
  }

  /** When something of the above is due. */
  nextTime(oldestSend: number | undefined): number {
    if (!this.isWelcomed) return this.connectedAt + WELCOME_TIMEOUT_MS;
    const times = [this.wroteAt + this.pingIntervalMs];
    if (this.renewAt !== undefined) times.push(this.renewAt);
    if (!this.isPaused) {
      if (this.pingedAt !== undefined) times.push(this.pingedAt + PONG_TIMEOUT_MS);
      if (oldestSend !== undefined) times.push(oldestSend + ANSWER_TIMEOUT_MS);
    }
    return Math.min(...times);
  }
}
