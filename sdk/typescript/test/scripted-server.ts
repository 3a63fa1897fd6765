/** A server in the same process: what a test says to the stream, and answers to calls. */

import { type HandlerContext, type ServiceImpl, createRouterTransport } from "@connectrpc/connect";
import { type MessageInitShape, create } from "@bufbuild/protobuf";
import type { OpenTransport } from "../src/transports.js";
import { AccountService } from "../src/gen/chinwag/account/v1/account_service_pb.js";
import { TokensSchema } from "../src/gen/chinwag/account/v1/user_pb.js";
import { ChatService } from "../src/gen/chinwag/chat/v1/chat_service_pb.js";
import { type ConnectRequest, type ConnectResponse, ConnectResponseSchema } from "../src/gen/chinwag/chat/v1/connect_pb.js";
import { Session } from "../src/session.js";

/** Waits until something holds, which `changed` says anew. */
export class Watched {
  private waiters: (() => void)[] = [];

  changed(): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) waiter();
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.waiters.push(resolve);
      });
    }
  }
}

/** A stream, from the server's side. */
export class ServerStream extends Watched {
  readonly frames: ConnectRequest[] = [];
  private readonly out: (ConnectResponse | Error | undefined)[] = [];

  constructor(readonly token: string) {
    super();
  }

  send(frame: MessageInitShape<typeof ConnectResponseSchema>): void {
    this.out.push(create(ConnectResponseSchema, frame));
    this.changed();
  }

  end(error?: Error): void {
    this.out.push(error);
    this.changed();
  }

  get sends() {
    return this.frames.flatMap((frame) => frame.sends);
  }

  async read(requests: AsyncIterable<ConnectRequest>): Promise<void> {
    for await (const frame of requests) {
      this.frames.push(frame);
      this.changed();
    }
  }

  async *answers(): AsyncGenerator<ConnectResponse> {
    for (;;) {
      await this.until(() => this.out.length > 0);
      const next = this.out.shift();
      if (next === undefined) return;
      if (next instanceof Error) throw next;
      yield next;
    }
  }
}

const tokenOf = (context: HandlerContext) => (context.requestHeader.get("authorization") ?? "").replace("Bearer ", "");

/** The server. */
export class ScriptedServer extends Watched {
  readonly streams: ServerStream[] = [];
  private taken = 0;
  /** How many refreshes there were: the tokens are "t2", "t3" and so on. */
  refreshes = 0;
  isDown = false;

  constructor(private readonly calls: Partial<ServiceImpl<typeof ChatService>> = {}) {
    super();
  }

  readonly open: OpenTransport = () =>
    createRouterTransport((router) => {
      router.service(ChatService, {
        ...this.calls,
        connect: (requests, context) => this.connect(requests, context),
      });
      router.service(AccountService, {
        refreshToken: () => {
          this.refreshes++;
          const number = this.refreshes + 1;
          return { tokens: create(TokensSchema, { accessToken: `t${number}`, refreshToken: `r${number}` }) };
        },
      });
    });

  private async *connect(
    requests: AsyncIterable<ConnectRequest>,
    context: HandlerContext,
  ): AsyncGenerator<ConnectResponse> {
    const stream = new ServerStream(tokenOf(context));
    stream.read(requests).catch(() => undefined);
    this.streams.push(stream);
    this.changed();
    yield* stream.answers();
  }

  /** The next stream, after its hello. */
  async stream(): Promise<ServerStream> {
    await this.until(() => this.streams.length > this.taken);
    const stream = this.streams[this.taken] as ServerStream;
    this.taken++;
    await stream.until(() => stream.frames.length > 0);
    return stream;
  }

  /** The same, welcomed and caught up. */
  async live(): Promise<ServerStream> {
    const stream = await this.stream();
    const limits = { maxFrameBytes: 4 << 20, maxSendsPerFrame: 100 };
    stream.send({ welcome: { userId: "ada", deviceId: "d", limits }, caughtUp: { stamp: "s" } });
    return stream;
  }
}

/** A login. */
export function login(): Session {
  const tokens = { userId: "ada", deviceId: "d", accessToken: "t1", refreshToken: "r1" };
  return Session.of(create(TokensSchema, tokens), { address: "localhost:1" });
}
