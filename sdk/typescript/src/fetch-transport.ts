/**
 * Unary calls over gRPC-Web with fetch, in the binary form alone.
 *
 * What `createGrpcWebTransport` of connect-web does too; that brings the code for Protobuf's JSON along,
 * an eighth of what a page would load, and nothing here speaks JSON.
 */

import {
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  type Transport,
  type UnaryResponse,
  createContextValues,
} from "@connectrpc/connect";
import { createMethodUrl, encodeEnvelope, runUnaryCall } from "@connectrpc/connect/protocol";
import {
  requestHeader,
  trailerFlag,
  trailerParse,
  validateResponse,
  validateTrailer,
} from "@connectrpc/connect/protocol-grpc-web";
import { EnvelopeReader } from "./websocket-frames.js";

/** What unary calls over fetch are made with. */
export interface FetchOptions {
  baseUrl: string;
  fetch?: typeof globalThis.fetch | undefined;
  /** The longest answer that is taken. */
  maxMessageBytes?: number | undefined;
}

/** The unary half of a transport. */
export function createFetchCalls(options: FetchOptions): Pick<Transport, "unary"> {
  const maxBytes = options.maxMessageBytes ?? 16 << 20;
  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      message: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      return await runUnaryCall<I, O>({
        ...(signal && { signal }),
        ...(timeoutMs !== undefined && { timeoutMs }),
        req: {
          stream: false,
          service: method.parent,
          method,
          requestMethod: "POST",
          url: createMethodUrl(options.baseUrl, method),
          header: requestHeader(true, timeoutMs, header, false),
          contextValues: contextValues ?? createContextValues(),
          message,
        },
        next: async (req) => {
          const fetch = options.fetch ?? globalThis.fetch;
          const response = await fetch(req.url, {
            method: "POST",
            headers: req.header,
            body: encodeEnvelope(0, toBinary(method.input, req.message)),
            signal: req.signal,
            // A token goes nowhere but to the address that it was given for.
            redirect: "error",
            credentials: "omit",
          });
          const { headerError } = validateResponse(response.status, response.headers);
          const bytes = new Uint8Array(await response.arrayBuffer());
          const { answer, trailer } = take(new EnvelopeReader(maxBytes).read(bytes));
          if (trailer === undefined) {
            throw headerError ?? new ConnectError("the answer ended without a status", Code.Unavailable);
          }
          validateTrailer(trailer, response.headers);
          if (answer === undefined) throw new ConnectError("no answer", Code.Unimplemented);
          return {
            stream: false,
            service: method.parent,
            method,
            header: response.headers,
            message: fromBinary(method.output, answer),
            trailer,
          };
        },
      });
    },
  };
}

function take(envelopes: readonly { flags: number; data: Uint8Array }[]): {
  answer: Uint8Array | undefined;
  trailer: Headers | undefined;
} {
  let answer: Uint8Array | undefined;
  let trailer: Headers | undefined;
  for (const { flags, data } of envelopes) {
    if (flags === trailerFlag) trailer = trailerParse(data);
    else if (flags !== 0 || answer !== undefined) {
      throw new ConnectError("expected one uncompressed answer", Code.Internal);
    } else answer = data;
  }
  return { answer, trailer };
}
