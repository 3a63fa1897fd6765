/** Message ids: UUIDs of version 7, rising within a process (RFC 9562, section 5.7). */

import { type Random, systemRandom } from "./random.js";

const bits31 = (rng: Random) => Math.floor(rng() * 2 ** 31);
const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");

/** Draws client_message_ids. */
export class MessageIds {
  private lastMs = 0;
  private counter = 0;

  constructor(private readonly rng: Random = systemRandom) {}

  /**
   * A new id.
   *
   * @param timeMs Since 1970, by the server's clock as far as it is known.
   */
  draw(timeMs: number): string {
    let ms = Math.max(Math.floor(timeMs), this.lastMs);
    if (ms === this.lastMs) {
      // The 12 bits after the version count within a millisecond (method 1 of section 6.2).
      this.counter++;
      if (this.counter > 0xfff) {
        ms++;
        this.counter = 0;
      }
    } else {
      this.counter = 0;
    }
    this.lastMs = ms;
    const time = hex(ms, 12);
    // 62 random bits behind the variant's two (10).
    const high = hex((bits31(this.rng) >>> 1) + 0x80000000, 8);
    const low = hex(bits31(this.rng) * 2 + (this.rng() < 0.5 ? 0 : 1), 8);
    return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(this.counter, 3)}-${high.slice(0, 4)}-${high.slice(4)}${low}`;
  }
}

/** A request_id: 128 random bits. */
export function requestId(rng: Random = systemRandom): string {
  let id = "";
  for (let part = 0; part < 8; part++) id += hex(Math.floor(rng() * 0x10000), 4);
  return id;
}
