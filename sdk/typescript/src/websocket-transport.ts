/** A Connect transport over `grpc-websockets`: all four kinds of methods, in a browser. */

import {
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  type Interceptor,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
  createContextValues,
} from "@connectrpc/connect";
import {
  compressedFlag,
  createMethodUrl,
  runStreamingCall,
  runUnaryCall,
} from "@connectrpc/connect/protocol";
import { requestHeader, trailerFlag, trailerParse, validateTrailer } from "@connectrpc/connect/protocol-grpc-web";
import { type CallLimits, WebSocketCall, type WebSocketConstructor } from "./websocket-call.js";

const GRPC_STATUS = "grpc-status";

/** What a transport over WebSockets is made of. */
export interface WebSocketTransportOptions extends Partial<CallLimits> {
  /** "https://host" or "http://host:port". */
  baseUrl: string;
  /** Default: the environment's. In Node 20, the `ws` package's class. */
  WebSocket?: WebSocketConstructor | undefined;
  interceptors?: Interceptor[];
  /** The deadline of calls that have none of their own. */
  defaultTimeoutMs?: number;
}

/** The answers of one call, with what stands before and after them. */
class Answers<O> {
  readonly header = new Headers();
  readonly trailer = new Headers();
  private early: O[] = [];
  private isOver = false;

  constructor(
    private readonly call: WebSocketCall,
    private readonly parse: (bytes: Uint8Array) => O,
  ) {}

  /** Waits for the headers, or for what comes in their place. */
  async start(): Promise<void> {
    const first = await this.next(true);
    if (first !== undefined) this.early.push(first);
  }

  /** All messages up to the trailer. Throws the status if it is an error. */
  async *messages(): AsyncGenerator<O, void, undefined> {
    for (;;) {
      const message = this.early.shift() ?? (await this.next(false));
      if (message === undefined) return;
      yield message;
    }
  }

  private async next(orHeader: boolean): Promise<O | undefined> {
    while (!this.isOver) {
      const envelope = await this.call.receive();
      if (envelope === undefined) throw new ConnectError("the call ended without a status", Code.Unavailable);
      if ((envelope.flags & compressedFlag) !== 0) {
        throw new ConnectError("the server compressed a message, which nobody asked for", Code.Internal);
      }
      if ((envelope.flags & trailerFlag) === 0) return this.parse(envelope.data);
      const fields = trailerParse(envelope.data);
      if (!fields.has(GRPC_STATUS)) {
        copy(fields, this.header);
        if (orHeader) return undefined;
        continue;
      }
      copy(fields, this.trailer);
      this.isOver = true;
      this.call.close();
      validateTrailer(this.trailer, this.header);
    }
    return undefined;
  }
}

function copy(from: Headers, to: Headers): void {
  from.forEach((value, name) => {
    to.append(name, value);
  });
}

/** Makes the transport. Every call is a WebSocket of its own. */
export function createWebSocketTransport(options: WebSocketTransportOptions): Transport {
  const limits: CallLimits = {
    highWaterBytes: options.highWaterBytes ?? 1 << 20,
    maxBufferedBytes: options.maxBufferedBytes ?? 32 << 20,
    maxMessageBytes: options.maxMessageBytes ?? 16 << 20,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
  };
  const given = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
  if (given === undefined) {
    throw new TypeError("there is no WebSocket here: pass one (in Node, that of the ws package)");
  }
  const WebSocket = given;

  const timeoutOf = (timeoutMs: number | undefined) => {
    const chosen = timeoutMs ?? options.defaultTimeoutMs;
    return chosen !== undefined && chosen > 0 ? chosen : undefined;
  };

  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      message: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      const parse = (bytes: Uint8Array) => fromBinary(method.output, bytes);
      const timeout = timeoutOf(timeoutMs);
      return await runUnaryCall<I, O>({
        ...(options.interceptors && { interceptors: options.interceptors }),
        ...(signal && { signal }),
        ...(timeout !== undefined && { timeoutMs: timeout }),
        req: {
          stream: false,
          service: method.parent,
          method,
          requestMethod: "POST",
          url: createMethodUrl(options.baseUrl, method),
          header: requestHeader(true, timeout, header, false),
          contextValues: contextValues ?? createContextValues(),
          message,
        },
        next: async (req) => {
          const call = new WebSocketCall(WebSocket, req.url, req.header, req.signal, limits);
          try {
            await call.send(toBinary(method.input, req.message));
            await call.finish();
            const answers = new Answers(call, parse);
            let answer: MessageShape<O> | undefined;
            for await (const each of answers.messages()) {
              if (answer !== undefined) throw new ConnectError("more than one answer", Code.Unimplemented);
              answer = each;
            }
            if (answer === undefined) throw new ConnectError("no answer", Code.Unimplemented);
            const { header: head, trailer } = answers;
            const { parent: service } = method;
            return { stream: false, service, method, header: head, trailer, message: answer };
          } finally {
            call.close();
          }
        },
      });
    },

    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues?: ContextValues,
    ): Promise<StreamResponse<I, O>> {
      const parse = (bytes: Uint8Array) => fromBinary(method.output, bytes);
      const timeout = timeoutOf(timeoutMs);
      return await runStreamingCall<I, O>({
        ...(options.interceptors && { interceptors: options.interceptors }),
        ...(signal && { signal }),
        ...(timeout !== undefined && { timeoutMs: timeout }),
        req: {
          stream: true,
          service: method.parent,
          method,
          requestMethod: "POST",
          url: createMethodUrl(options.baseUrl, method),
          header: requestHeader(true, timeout, header, false),
          contextValues: contextValues ?? createContextValues(),
          message: input,
        },
        next: async (req) => {
          const call = new WebSocketCall(WebSocket, req.url, req.header, req.signal, limits);
          sendAll(call, method.input, req.message).catch((error: unknown) => {
            call.giveUp(error);
          });
          const answers = new Answers(call, parse);
          await answers.start();
          const { header: head, trailer } = answers;
          return { ...req, header: head, trailer, message: answers.messages() };
        },
      });
    },
  };
}

async function sendAll<I extends DescMessage>(
  call: WebSocketCall,
  schema: I,
  messages: AsyncIterable<MessageShape<I>>,
): Promise<void> {
  for await (const message of messages) await call.send(toBinary(schema, message));
  await call.finish();
}
