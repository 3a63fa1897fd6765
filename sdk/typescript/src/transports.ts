/** How a client reaches a server: an opened transport for each address. */

import type { Transport } from "@connectrpc/connect";
import { createFetchCalls } from "./fetch-transport.js";
import type { CallLimits, WebSocketConstructor } from "./websocket-call.js";
import { createWebSocketTransport } from "./websocket-transport.js";

/** A transport that may hold connections. */
export type ClosableTransport = Transport & { close?(): void };

/** Opens the transport to a server. */
export type OpenTransport = (baseUrl: string) => ClosableTransport;

/** What the transport of browsers is made of. */
export interface WebTransportOptions extends Partial<CallLimits> {
  /**
   * How unary calls go. Default "grpc-web", over fetch, which shares connections; "websocket", each one
   * over its own; or a function that makes a transport, such as connect-web's `createGrpcWebTransport`.
   */
  unary?: "grpc-web" | "websocket" | ((options: { baseUrl: string }) => Transport);
  WebSocket?: WebSocketConstructor;
  fetch?: typeof globalThis.fetch;
}

/** Streams over WebSocket, unary calls over gRPC-Web: what works in a browser, through Envoy. */
export function webTransport(options: WebTransportOptions = {}): OpenTransport {
  const { unary = "grpc-web", fetch, ...ofWebSocket } = options;
  const { maxMessageBytes } = options;
  return (baseUrl) => {
    const streams = createWebSocketTransport({ baseUrl, ...ofWebSocket });
    if (unary === "websocket") return streams;
    const calls =
      unary === "grpc-web"
        ? createFetchCalls({ baseUrl, fetch, maxMessageBytes })
        : unary({ baseUrl });
    return {
      unary: calls.unary.bind(calls),
      stream: streams.stream.bind(streams),
    };
  };
}
