/** Does something soon, and at most once a frame however often it is asked for: bursts stay cheap. */

const FRAME_MS = 16;

export class Pace {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private lastMs = -FRAME_MS;

  constructor(private readonly act: () => void) {}

  /** At once if the last time is a frame ago. A timer, not a frame: hidden tabs have no frames. */
  soon(): void {
    if (this.timer !== undefined) return;
    const left = this.lastMs + FRAME_MS - performance.now();
    if (left <= 0) this.now();
    else this.timer = setTimeout(() => { this.now(); }, left);
  }

  now(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.lastMs = performance.now();
    this.act();
  }
}
