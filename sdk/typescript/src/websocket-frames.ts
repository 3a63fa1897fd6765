/**
 * The bytes of `grpc-websockets`: one WebSocket a call.
 *
 * From the client come the metadata as text, then frames that each begin with a byte of their own: a
 * message behind it, or the end of sending. From the server comes one stream of gRPC-Web envelopes,
 * cut into WebSocket frames anywhere.
 */

import { Code, ConnectError } from "@connectrpc/connect";
import { type EnvelopedMessage, encodeEnvelope } from "@connectrpc/connect/protocol";

/** The subprotocol's name. */
export const SUBPROTOCOL = "grpc-websockets";
/** The frame that says that nothing more will be sent. */
export const FINISH = new Uint8Array([1]);
const DATA = 0;
const HEAD_BYTES = 5;

/** The first frame: a line for each header, without an empty one at the end. */
export function metadataFrame(header: Headers): Uint8Array<ArrayBuffer> {
  let text = "";
  header.forEach((value, name) => {
    text += `${name}: ${value}\r\n`;
  });
  return new TextEncoder().encode(text);
}

/** A message's frame. */
export function dataFrame(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const envelope = encodeEnvelope(0, message);
  const frame = new Uint8Array(envelope.length + 1);
  frame[0] = DATA;
  frame.set(envelope, 1);
  return frame;
}

/** Cuts the server's stream of bytes into envelopes. */
export class EnvelopeReader {
  private rest = new Uint8Array(0);

  /** @param maxBytes A longer message is refused. */
  constructor(private readonly maxBytes: number) {}

  /** Whether the stream may end here. */
  get isEmpty(): boolean {
    return this.rest.length === 0;
  }

  /**
   * Takes bytes, gives the envelopes that are complete with them.
   *
   * @throws ConnectError A message is longer than it may be.
   */
  read(bytes: Uint8Array): EnvelopedMessage[] {
    let all = bytes;
    if (this.rest.length > 0) {
      all = new Uint8Array(this.rest.length + bytes.length);
      all.set(this.rest);
      all.set(bytes, this.rest.length);
    }
    const found: EnvelopedMessage[] = [];
    let at = 0;
    while (all.length - at >= HEAD_BYTES) {
      const size = new DataView(all.buffer, all.byteOffset + at + 1, 4).getUint32(0);
      if (size > this.maxBytes) {
        throw new ConnectError(
          `the server sent a message of ${size} bytes, at most ${this.maxBytes} are taken`,
          Code.ResourceExhausted,
        );
      }
      const end = at + HEAD_BYTES + size;
      if (end > all.length) break;
      found.push({ flags: all[at] ?? 0, data: all.subarray(at + HEAD_BYTES, end) });
      at = end;
    }
    // A copy: a small rest must not keep a large frame in memory.
    this.rest = all.slice(at);
    return found;
  }
}
