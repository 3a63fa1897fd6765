/**
 * A transport over several addresses: clients are made over it as over any other.
 *
 * A unary call that does not reach one node is made at the next one at once, so what fails with it has
 * failed everywhere, and the back-off (`calls`) is one over the whole set.
 */

import type {
  DescMessage,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { type Addresses, baseUrl, parseAddresses } from "./addresses.js";
import { systemClock } from "./clock.js";
import { Endpoints } from "./endpoints.js";
import { fromTransport } from "./errors.js";
import { ATTEMPT_SHARE, hasChangedNothing, isAway, isRepeatable } from "./failover.js";
import { systemRandom } from "./random.js";
import type { ClosableTransport, OpenTransport } from "./transports.js";

/** One transport a node. */
export class Routes implements Transport {
  private readonly transports = new Map<string, ClosableTransport>();

  constructor(
    readonly endpoints: Endpoints,
    private readonly open: OpenTransport,
    private readonly insecure: boolean,
    private readonly monotonic: () => number = () => systemClock.monotonic(),
  ) {}

  /**
   * The transport to a node.
   *
   * @throws InsecureAddress See `baseUrl`.
   */
  to(address: string): ClosableTransport {
    let transport = this.transports.get(address);
    if (transport === undefined) {
      transport = this.open(baseUrl(address, this.insecure));
      this.transports.set(address, transport);
    }
    return transport;
  }

  /** A stream over this connection has ended: it is kept only if it is one of the client's own. */
  leave(address: string): void {
    if (this.endpoints.has(address)) return;
    this.transports.get(address)?.close?.();
    this.transports.delete(address);
  }

  /** Closes all connections. */
  close(): void {
    for (const transport of this.transports.values()) transport.close?.();
    this.transports.clear();
  }

  /**
   * Makes a call at one node after the other, until one answers.
   *
   * @throws ConnectError One refused, none could be reached, or the time is over; or a call that must
   * not be made twice broke.
   */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const end = timeoutMs === undefined ? undefined : this.monotonic() + timeoutMs;
    const repeatable = isRepeatable(method);
    const order = this.endpoints.order();
    for (const [index, address] of order.entries()) {
      const isLast = index === order.length - 1;
      let left = end === undefined ? undefined : Math.max(end - this.monotonic(), 1);
      if (left !== undefined && !isLast && repeatable) left *= ATTEMPT_SHARE;
      const limit = left === undefined ? undefined : Math.ceil(left);
      try {
        const to = this.to(address);
        const answer = await to.unary(method, signal, limit, header, input, contextValues);
        this.endpoints.answered(address);
        return answer;
      } catch (thrown) {
        const error = fromTransport(thrown);
        if (signal?.aborted || !isAway(error)) throw thrown;
        this.endpoints.failed(address);
        if (isLast || !(repeatable || hasChangedNothing(error))) throw thrown;
      }
    }
    throw new ConnectError("no address", Code.Unavailable);
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const to = this.to(this.endpoints.current);
    return await to.stream(method, signal, timeoutMs, header, input, contextValues);
  }
}

/**
 * Routes over one address or several.
 *
 * @throws TypeError See `parseAddresses`.
 * @throws InsecureAddress See `baseUrl`.
 */
export function openRoutes(addresses: Addresses, open: OpenTransport, insecure: boolean): Routes {
  const parsed = parseAddresses(addresses);
  for (const address of parsed) baseUrl(address, insecure);
  const endpoints = new Endpoints(parsed, systemRandom, () => systemClock.monotonic());
  return new Routes(endpoints, open, insecure);
}
