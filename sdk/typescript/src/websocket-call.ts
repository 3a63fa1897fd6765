/** One call over one WebSocket: frames out with back-pressure, envelopes in, and its end. */

import { Code, ConnectError } from "@connectrpc/connect";
import { type EnvelopedMessage, getAbortSignalReason } from "@connectrpc/connect/protocol";
import { after, sleep } from "./timers.js";
import { EnvelopeReader, FINISH, SUBPROTOCOL, dataFrame, metadataFrame } from "./websocket-frames.js";

/** The part of a WebSocket that is used: the browser's, or the `ws` package's. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly readyState: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** Opens one. */
export type WebSocketConstructor = new (url: string, protocols: string) => WebSocketLike;

/** The bounds of a call. */
export interface CallLimits {
  /** Nothing more is given to a WebSocket while so much waits in it. */
  highWaterBytes: number;
  /** A call whose reader lets more wait than this is ended: a browser's WebSocket cannot be paused. */
  maxBufferedBytes: number;
  /** The longest message that is taken. */
  maxMessageBytes: number;
  /** How long opening the WebSocket may take. */
  connectTimeoutMs: number;
}

const OPEN = 1;
const NORMAL = 1000;
// A WebSocket does not tell when it has written: it is asked.
const DRAIN_POLL_MS = 10;

/** A call. Its signal ends it; so does whatever goes wrong, which `receive` then throws. */
export class WebSocketCall {
  private readonly socket: WebSocketLike;
  private readonly reader: EnvelopeReader;
  private readonly arrived: EnvelopedMessage[] = [];
  private arrivedBytes = 0;
  private isOver = false;
  private error: ConnectError | undefined;
  private waiting: (() => void) | undefined;
  private readonly opened: Promise<void>;

  constructor(
    WebSocket: WebSocketConstructor,
    url: string,
    header: Headers,
    private readonly signal: AbortSignal,
    private readonly limits: CallLimits,
  ) {
    this.reader = new EnvelopeReader(limits.maxMessageBytes);
    signal.throwIfAborted();
    const socket = (this.socket = new WebSocket(url.replace(/^http/, "ws"), SUBPROTOCOL));
    socket.binaryType = "arraybuffer";
    signal.addEventListener("abort", this.onAbort);
    this.opened = new Promise((resolve) => {
      const cancel = after(limits.connectTimeoutMs, () => {
        this.fail(`no WebSocket within ${limits.connectTimeoutMs} ms`, Code.Unavailable);
        resolve();
      });
      socket.onopen = () => {
        cancel();
        if (!this.isOver) socket.send(metadataFrame(header));
        resolve();
      };
      socket.onclose = (event: { code: number }) => {
        cancel();
        this.onClose(event.code);
        resolve();
      };
    });
    // A close always follows, and says as much as a browser tells.
    socket.onerror = () => undefined;
    socket.onmessage = (event: { data: unknown }) => {
      this.onMessage(event.data);
    };
  }

  private readonly onAbort = () => {
    this.end(ConnectError.from(getAbortSignalReason(this.signal), Code.Canceled));
  };

  private onMessage(data: unknown): void {
    if (this.isOver) return;
    if (!(data instanceof ArrayBuffer)) {
      this.fail("the server sent a text frame", Code.Internal);
      return;
    }
    try {
      this.arrived.push(...this.reader.read(new Uint8Array(data)));
    } catch (error) {
      this.end(ConnectError.from(error, Code.Internal));
      return;
    }
    this.arrivedBytes += data.byteLength;
    if (this.arrivedBytes > this.limits.maxBufferedBytes) {
      this.fail(`the reader left more than ${this.limits.maxBufferedBytes} bytes`, Code.ResourceExhausted);
      return;
    }
    this.wake();
  }

  private onClose(code: number): void {
    if (code === NORMAL && this.reader.isEmpty) this.end(undefined);
    // A proxy or node that dies leaves no status: whether the call was carried out is not known.
    else this.fail(`the WebSocket was closed with ${code}`, Code.Unavailable);
  }

  private fail(message: string, code: Code): void {
    this.end(new ConnectError(message, code));
  }

  private end(error: ConnectError | undefined): void {
    if (this.isOver) return;
    this.isOver = true;
    this.error = error;
    this.signal.removeEventListener("abort", this.onAbort);
    this.socket.close();
    this.wake();
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.();
  }

  /** Sends a message, once there is room for it. Of a call that is over nothing is sent. */
  async send(message: Uint8Array): Promise<void> {
    await this.opened;
    const { socket } = this;
    while (!this.isOver && socket.bufferedAmount > this.limits.highWaterBytes) {
      await sleep(DRAIN_POLL_MS, this.signal);
    }
    if (!this.isOver && socket.readyState === OPEN) socket.send(dataFrame(message));
  }

  /** Says that nothing more will be sent. */
  async finish(): Promise<void> {
    await this.opened;
    if (!this.isOver && this.socket.readyState === OPEN) this.socket.send(FINISH);
  }

  /** The next envelope; undefined at the end. Throws what the call ended with. */
  async receive(): Promise<EnvelopedMessage | undefined> {
    for (;;) {
      // What came before the end is handed out first; but of a call that was given up, nothing.
      const next = this.error?.code === Code.Canceled ? undefined : this.arrived.shift();
      if (next !== undefined) {
        if (this.arrived.length === 0) this.arrivedBytes = 0;
        return next;
      }
      if (this.error !== undefined) throw this.error;
      if (this.isOver) return undefined;
      await new Promise<void>((resolve) => {
        this.waiting = resolve;
      });
    }
  }

  /** The application's own messages ended with an error. */
  giveUp(error: unknown): void {
    this.end(ConnectError.from(error, Code.Canceled));
  }

  /** The trailer has come: nothing follows. */
  close(): void {
    this.end(undefined);
  }
}
