/** The driver of the TypeScript SDK, over native gRPC: README.md has the protocol. */

import { createInterface } from "node:readline";
import {
  ChinwagError,
  type Client,
  type Cursor,
  type Event,
  MemoryStore,
  Session,
  connect,
} from "../../sdk/typescript/src/index.js";
import { nodeTransport } from "../../sdk/typescript/src/node.js";

type Facts = Record<string, unknown>;
type Arguments = Record<string, never>;

function say(said: Facts): void {
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

const cursorOf = (cursor: Cursor | undefined) =>
  cursor === undefined ? null : { generation: String(cursor.generation), id: String(cursor.id) };

/** What is said of an event beside its type. */
function factsOf(event: Event): Facts {
  if (event.type === "ConnectionChanged") {
    const { error } = event;
    return { connection: event.connection, reason: error?.reason ?? "", text: error?.message ?? "" };
  }
  if (!("channelId" in event)) return {};
  const said: Facts = { channel: event.channelId };
  if ("entry" in event) said["id"] = String(event.cursor.id);
  switch (event.type) {
    case "MessageReceived":
      return { ...said, sender: event.senderId, text: event.text, redacted: event.entry.redacted };
    case "MessageEdited":
      return { ...said, message_id: String(event.messageId), text: event.text };
    case "MessageDeleted":
      return { ...said, message_id: String(event.messageId) };
    case "ReactionChanged":
      return { ...said, message_id: String(event.messageId), emoji: event.emoji, added: event.added };
    case "ChannelOpened":
      return { ...said, cursor: cursorOf(event.cursor) };
    case "ChannelReset":
      return { ...said, reason: event.reason, cursor: cursorOf(event.cursor) };
    case "GapSeen":
      return { ...said, from_id: String(event.fromId), to_id: String(event.toId) };
    case "StateChanged":
      return { ...said, read_id: String(event.state.readId) };
    case "ReceiptChanged": {
      const marks = { delivered_id: String(event.deliveredId), read_id: String(event.readId) };
      return { ...said, user: event.userId, ...marks };
    }
    case "TypingChanged":
      return { ...said, user: event.userId, active: event.active };
    case "SendResolved":
      return { ...said, message_id: String(event.messageId), reason: event.error?.reason ?? "" };
    default:
      return said;
  }
}

const store = new MemoryStore();
let open: { client: Client; reading: Promise<void> } | undefined;

function client(): Client {
  if (open === undefined) throw new Error("connect comes first");
  return open.client;
}

async function read(from: Client): Promise<void> {
  try {
    for await (const event of from.events()) say({ type: event.type, ...factsOf(event) });
  } catch (error) {
    if (!(error instanceof ChinwagError)) throw error; // a ConnectionChanged has said so
  }
}

const commands: Record<string, (given: Record<string, any>) => Promise<Facts | void>> = {
  async connect({ addresses, session, catch_up_limit = 0, delivered_marks = false }) {
    const login = Session.fromJSON({
      userId: session.user_id,
      deviceId: session.device_id,
      username: "",
      address: "",
      accessToken: session.access_token,
      accessExpireTimeMs: 0,
      refreshToken: session.refresh_token,
      refreshExpireTimeMs: 0,
    });
    const made = await connect(addresses, login, {
      store,
      transport: nodeTransport(),
      catchUpLimit: catch_up_limit,
      deliveredMarks: delivered_marks,
    });
    open = { client: made, reading: read(made) };
  },
  async send({ channel, text }) {
    const sent = await client().channel(channel).send(text);
    return { message_id: String(sent.messageId), client_message_id: sent.clientMessageId };
  },
  async post({ channel, text }) {
    client().channel(channel).post(text);
  },
  async mark_read({ channel, ids }) {
    for (const id of ids as string[]) client().channel(channel).markRead(BigInt(id));
  },
  async typing({ channel }) {
    client().channel(channel).typing();
  },
  async edit({ channel, id, text }) {
    const message = await client().channel(channel).edit(BigInt(id), text);
    return { text: message.content?.text ?? "" };
  },
  async view({ channel }) {
    const view = await client().channel(channel).view();
    return { name: view.channel?.name ?? "" };
  },
  async history({ channel }) {
    const texts: string[] = [];
    for await (const message of client().channel(channel).history()) texts.push(message.content?.text ?? "");
    return { texts };
  },
  async kept({ channel }) {
    const messages = await client().channel(channel).kept();
    return { channel, texts: messages.map((message) => message.content?.text ?? "") };
  },
  async close() {
    await open?.client.close();
    await open?.reading;
    open = undefined;
  },
};

async function run(number: number, name: string, given: Arguments): Promise<void> {
  try {
    const gives = await commands[name]?.(given);
    say({ reply: number, ...gives });
  } catch (error) {
    if (!(error instanceof ChinwagError)) throw error;
    say({ reply: number, error: { kind: error.name, reason: error.reason } });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { number, do: name, ...given } = JSON.parse(line);
  void run(number, name, given);
}
await commands["close"]?.({});
process.exit(0);
