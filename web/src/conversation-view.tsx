import { useEffect, useState } from "preact/hooks";
import { ChannelKind, type Failed, type Message, type Pending } from "chinwag";
import type { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import type { Conversation } from "./conversation.js";
import { Members } from "./members.js";
import { MessageRow } from "./message-row.js";
import { MessageText } from "./message-text.js";
import { matches } from "./text.js";
import { VirtualList } from "./virtual-list.js";

/** So many of the newest messages may be the same as some that wait. */
const WAITING_SEEN = 200;

export function ConversationView({ chat, conversation }: { chat: Chat; conversation: Conversation }) {
  const [replyTo, setReplyTo] = useState<Message | undefined>(undefined);
  const [wanted, setWanted] = useState("");
  const [showsMembers, setShowsMembers] = useState(false);
  const [atEnd, setAtEnd] = useState(true);
  void chat.people.changes.value;
  const all = conversation.messages.value;
  const messages = wanted === "" ? all : all.filter((message) => matches(message.content?.text ?? "", wanted));
  const newest = new Set(all.slice(-WAITING_SEEN).map((message) => message.clientMessageId));
  // An own message may come as an event before its ack does: it is shown once.
  const waiting = wanted === "" ? [...conversation.failed.value, ...conversation.pending.value].filter((send) => !newest.has(send.clientMessageId)) : [];
  const summary = chat.channels.value.find((each) => each.id === conversation.id);
  const title = summary === undefined ? "" : chat.title(summary);
  const last = all.at(-1)?.id;

  // What is on the screen of a page that somebody looks at has been read.
  useEffect(() => {
    const look = () => { if (atEnd && document.hasFocus()) conversation.markRead(); };
    look();
    addEventListener("focus", look);
    return () => { removeEventListener("focus", look); };
  }, [last, atEnd, conversation]);

  return (
    <main class="conversation" aria-label={title}>
      <header>
        <a class="back" href="#" aria-label="Back to the channels">‹</a>
        <h2>{title}</h2>
        <input type="search" aria-label="Search in what is loaded" placeholder="Search" value={wanted} onInput={(event) => { setWanted(event.currentTarget.value); }} />
        {summary?.channel.kind !== ChannelKind.DIRECT && (
          <button class="quiet" aria-expanded={showsMembers} onClick={() => { setShowsMembers(!showsMembers); }}>Members</button>
        )}
      </header>
      {showsMembers && <Members chat={chat} conversation={conversation} />}
      {all.length === 0 && waiting.length === 0 && !conversation.isLoading.value && <p class="hint">Nothing here yet. Say hello.</p>}
      {wanted !== "" && <p class="hint" role="status">{messages.length} of {all.length} loaded messages hold “{wanted}”.</p>}
      <VirtualList
        count={messages.length + waiting.length}
        keyOf={(index) => {
          const message = messages[index];
          return message === undefined ? (waiting[index - messages.length]?.clientMessageId ?? "") : String(message.id);
        }}
        label={`Messages of ${title}`}
        onNearTop={() => { if (wanted === "") void chat.attempt("Older messages were not loaded", () => conversation.loadOlder()); }}
        onAtEnd={setAtEnd}
        row={(index) => {
          const message = messages[index];
          if (message !== undefined) {
            return <MessageRow chat={chat} conversation={conversation} message={message} before={messages[index - 1]} onReply={setReplyTo} />;
          }
          const send = waiting[index - messages.length];
          return send === undefined ? null : <Waiting chat={chat} send={send} />;
        }}
      />
      <Typing chat={chat} channelId={conversation.id} />
      {conversation.isGone.value ? (
        <p class="hint" role="status">You are not in this conversation any more.</p>
      ) : (
        <Composer
          chat={chat}
          conversation={conversation}
          replyTo={replyTo}
          onNoReply={() => { setReplyTo(undefined); }}
          onSent={() => { setReplyTo(undefined); setWanted(""); }}
        />
      )}
    </main>
  );
}

function Waiting({ chat, send }: { chat: Chat; send: Pending | Failed }) {
  const failed = "error" in send ? send.error : undefined;
  const { outbox } = chat.client;
  return (
    <article class={failed === undefined ? "message own pending" : "message own failed"}>
      <MessageText text={send.content.text} own="" />
      {failed === undefined ? (
        <span class="edited">waits to be sent</span>
      ) : (
        <p class="problem" role="alert">
          Not sent: {failed.message}{" "}
          <button onClick={() => { void outbox.retry(send.clientMessageId).then(undefined, () => undefined); }}>Try again</button>
          <button onClick={() => { outbox.dismiss(send.clientMessageId); }}>Throw away</button>
        </p>
      )}
    </article>
  );
}

function Typing({ chat, channelId }: { chat: Chat; channelId: string }) {
  const users = [...(chat.typing.value.get(channelId) ?? [])].filter((userId) => userId !== chat.userId);
  const names = users.slice(0, 3).map((userId) => chat.people.name(userId)).join(", ");
  return <div class="typing" role="status">{users.length > 0 && `${names}${users.length > 3 ? " and others" : ""} ${users.length > 1 ? "are" : "is"} typing…`}</div>;
}
