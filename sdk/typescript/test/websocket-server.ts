/** A scripted server of `grpc-websockets`: says what came, and sends what a test tells it to. */

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";

const ENVELOPE_BYTES = 5;

/** An envelope of gRPC-Web. */
export function envelope(flags: number, data: Uint8Array): Buffer {
  const head = Buffer.alloc(ENVELOPE_BYTES);
  head[0] = flags;
  head.writeUInt32BE(data.length, 1);
  return Buffer.concat([head, data]);
}

/** A block of headers, or of trailers as Envoy writes them: without a space. */
export const block = (text: string) => envelope(0x80, Buffer.from(text));
export const OK = block("grpc-status:0\r\n");
export const HEADERS = block("content-type:application/grpc-web+proto\r\nx-test:yes\r\n");

/** One call, from the server's side. */
export class ServerCall {
  readonly frames: Buffer[] = [];
  closeCode: number | undefined;

  constructor(
    readonly path: string,
    readonly socket: WebSocket,
  ) {
    socket.on("message", (data: Buffer) => {
      this.frames.push(data);
      this.changed();
    });
    socket.on("close", (code) => {
      this.closeCode = code;
      this.changed();
    });
  }

  private changed: () => void = () => undefined;

  /** Waits for a condition on what came. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.changed = resolve;
      });
    }
  }

  get metadata(): string[] {
    return (this.frames[0] ?? Buffer.alloc(0)).toString("ascii").split("\r\n");
  }

  /** The messages: without the frame's own byte and the envelope's head. */
  get messages(): Buffer[] {
    const ofData = this.frames.slice(1).filter((frame) => frame[0] === 0);
    return ofData.map((frame) => frame.subarray(1 + ENVELOPE_BYTES));
  }

  get isFinished(): boolean {
    const last = this.frames.at(-1);
    return last?.length === 1 && last[0] === 1;
  }

  /** Sends bytes, cut into frames of so many. */
  send(bytes: Uint8Array, frameBytes = bytes.length): void {
    for (let at = 0; at < bytes.length; at += frameBytes) {
      this.socket.send(bytes.subarray(at, at + frameBytes));
    }
  }

  /** Sends the last bytes, and closes as the bridge does. */
  end(bytes: Uint8Array): void {
    this.send(bytes);
    this.socket.close(1000);
  }
}

/** The server. */
export class ScriptedWebSockets {
  private readonly waiting: ServerCall[] = [];
  private readonly calls: ServerCall[] = [];
  private arrived: () => void = () => undefined;

  private constructor(private readonly server: WebSocketServer) {
    server.on("connection", (socket, request) => {
      const call = new ServerCall(request.url ?? "", socket);
      this.calls.push(call);
      this.waiting.push(call);
      this.arrived();
    });
  }

  static async start(): Promise<ScriptedWebSockets> {
    const handleProtocols = (protocols: Set<string>) => protocols.has("grpc-websockets") && "grpc-websockets";
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols });
    await once(server, "listening");
    return new ScriptedWebSockets(server);
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** The next call. */
  async call(): Promise<ServerCall> {
    for (;;) {
      const call = this.waiting.shift();
      if (call !== undefined) return call;
      await new Promise<void>((resolve) => {
        this.arrived = resolve;
      });
    }
  }

  close(): void {
    for (const call of this.calls) call.socket.terminate();
    this.server.close();
  }
}
