/**
 * chinwag: a chat client that keeps the delivery contract.
 *
 *     const client = await connect("https://chat.example.com", session);
 *     await client.channel(channelId).send("hello");
 *     for await (const event of client.events()) { ... }
 *
 * The modules under gen/ are generated from the contract; what is written by hand stands beside them.
 */

export { type ConnectOptions, connect } from "./connect.js";
export { type LogInOptions, Session, type SessionData, type SignUpOptions, logIn, signUp } from "./session.js";
export { type KeyValue, Slot, type SlotOptions, takeSlot } from "./slots.js";
export type { Locks } from "./locks.js";
export { Client } from "./client.js";
export { Channel, type HistoryOptions, type SendOptions } from "./channel.js";
export type { ChannelList, ChannelSummary } from "./channel-list.js";
export type { Failed, OutboxView, Pending } from "./outbox-view.js";
export { PendingSend } from "./pending-send.js";
export type { Send, Sent } from "./outbox.js";
export type { Account } from "./account.js";
export type { CallOptions } from "./calls.js";
export type { Content } from "./content.js";
export type { Addresses } from "./addresses.js";
export { MemoryStore } from "./memory-store.js";
export { type IndexedDbOptions, IndexedDbStore } from "./indexeddb-store.js";
export type { ClientStore, MessagesWanted, Saved } from "./store.js";
export { applyEntry, applyReply, newMessage } from "./projection.js";
export { type ClosableTransport, type OpenTransport, type WebTransportOptions, webTransport } from "./transports.js";
export { type WebSocketTransportOptions, createWebSocketTransport } from "./websocket-transport.js";
export type { CallLimits, WebSocketConstructor, WebSocketLike } from "./websocket-call.js";
export type * from "./events.js";
export * from "./errors.js";

export { AccountService } from "./gen/chinwag/account/v1/account_service_pb.js";
export {
  Audience,
  type Block,
  type Device,
  type Friend,
  type FriendRequest,
  FriendRequestDirection,
  Platform,
  type PrivacySettings,
  Relation,
  type Tokens,
  type User,
} from "./gen/chinwag/account/v1/user_pb.js";
export {
  type Channel as ChannelRecord,
  ChannelKind,
  type ChannelPreferences,
  type ChannelState,
  HistoryVisibility,
  type Member,
  MemberRole,
  NotificationLevel,
  type Receipt,
} from "./gen/chinwag/chat/v1/channel_pb.js";
export { ChatService, type ChannelView } from "./gen/chinwag/chat/v1/chat_service_pb.js";
export type { Entry } from "./gen/chinwag/chat/v1/entry_pb.js";
export {
  type Attachment,
  type Message,
  type MessageContent,
  MessageContentSchema,
} from "./gen/chinwag/chat/v1/message_pb.js";
