/** For Node alone: native gRPC over HTTP/2. A browser never loads this module. */

import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";
import type { OpenTransport } from "./transports.js";

/** What native gRPC is set to. */
export interface NodeTransportOptions {
  /** An idle connection is asked for a sign of life so often. */
  pingIntervalMs?: number;
  /** And given up if none comes within so long. */
  pingTimeoutMs?: number;
  /** The longest message that is taken. */
  maxMessageBytes?: number;
}

/** Native gRPC, one HTTP/2 connection a server. */
export function nodeTransport(options: NodeTransportOptions = {}): OpenTransport {
  return (baseUrl) => {
    const sessions = new Http2SessionManager(baseUrl, {
      pingIntervalMs: options.pingIntervalMs ?? 30_000,
      pingTimeoutMs: options.pingTimeoutMs ?? 10_000,
      pingIdleConnection: true,
    });
    const transport = createGrpcTransport({
      baseUrl,
      sessionManager: sessions,
      readMaxBytes: options.maxMessageBytes ?? 8 << 20,
    });
    return {
      unary: transport.unary.bind(transport),
      stream: transport.stream.bind(transport),
      close: () => {
        sessions.abort();
      },
    };
  };
}
