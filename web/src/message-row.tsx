import { useEffect, useRef, useState } from "preact/hooks";
import type { Message } from "chinwag";
import type { Chat } from "./chat.js";
import type { Conversation } from "./conversation.js";
import { find } from "./messages.js";
import { MessageText } from "./message-text.js";
import { folded } from "./text.js";
import { clock, dateOf, day, full, sameDay } from "./times.js";

const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

interface Props {
  readonly chat: Chat;
  readonly conversation: Conversation;
  readonly message: Message;
  readonly before: Message | undefined;
  onReply(message: Message): void;
}

export function MessageRow({ chat, conversation, message, before, onReply }: Props) {
  const [editing, setEditing] = useState(false);
  const isOwn = message.senderId === chat.userId;
  const time = dateOf(message.createTime);
  const isNewDay = before === undefined || !sameDay(dateOf(before.createTime), time);
  const name = chat.people.name(message.senderId);
  const isDeleted = message.deleteTime !== undefined;
  const readers = isOwn && !isDeleted ? conversation.readBy(message.id, chat.userId) : 0;
  return (
    <>
      {isNewDay && <div class="day" role="separator">{day(time)}</div>}
      <article class={isOwn ? "message own" : "message"} aria-label={`${name}, ${clock(time)}`}>
        <header>
          <span class="sender">{name}</span>
          <time dateTime={time.toISOString()} title={full(time)}>{clock(time)}</time>
          {message.editTime !== undefined && !isDeleted && <span class="edited">edited</span>}
          {readers > 0 && <span class="read" title={`Read by ${readers}`}>✓✓</span>}
        </header>
        {message.replyToId > 0n && <Quoted chat={chat} conversation={conversation} id={message.replyToId} />}
        {isDeleted || message.content === undefined ? (
          <p class="deleted">This message was deleted.</p>
        ) : editing ? (
          <Editor chat={chat} conversation={conversation} message={message} onDone={() => { setEditing(false); }} />
        ) : (
          <MessageText text={message.content.text} own={chat.client.session.username} />
        )}
        {message.reactions.length > 0 && <Reactions chat={chat} conversation={conversation} message={message} />}
        {!isDeleted && !editing && (
          <div class="actions" role="group" aria-label="What to do with the message">
            <button onClick={() => { onReply(message); }}>Reply</button>
            <ReactButton chat={chat} conversation={conversation} message={message} />
            {isOwn && <button onClick={() => { setEditing(true); }}>Edit</button>}
            {isOwn && (
              <button onClick={() => void chat.attempt("Not deleted", () => conversation.channel.delete(message.id))}>Delete</button>
            )}
          </div>
        )}
      </article>
    </>
  );
}

function Quoted({ chat, conversation, id }: { chat: Chat; conversation: Conversation; id: bigint }) {
  const quoted = find(conversation.messages.value, id);
  const text = quoted === undefined ? "an older message" : quoted.content === undefined ? "a deleted message" : folded(quoted.content.text).slice(0, 120);
  return <blockquote>{quoted !== undefined && <b>{chat.people.name(quoted.senderId)} </b>}{text}</blockquote>;
}

function Reactions({ chat, conversation, message }: { chat: Chat; conversation: Conversation; message: Message }) {
  return (
    <div class="reactions">
      {message.reactions.filter((group) => group.count > 0n).map((group) => {
        const isMine = group.userIds.includes(chat.userId);
        const names = group.userIds.map((userId) => chat.people.name(userId)).join(", ");
        return (
          <button key={group.emoji} aria-pressed={isMine} title={names} onClick={() => void toggle(chat, conversation, message, group.emoji, isMine)}>
            {group.emoji} {String(group.count)}
          </button>
        );
      })}
    </div>
  );
}

function ReactButton({ chat, conversation, message }: { chat: Chat; conversation: Conversation; message: Message }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button aria-expanded={open} onClick={() => { setOpen(!open); }}>React</button>
      {open && EMOJI.map((emoji) => (
        <button key={emoji} aria-label={`React with ${emoji}`} onClick={() => { setOpen(false); void toggle(chat, conversation, message, emoji, false); }}>{emoji}</button>
      ))}
    </>
  );
}

function toggle(chat: Chat, conversation: Conversation, message: Message, emoji: string, isMine: boolean): Promise<boolean> {
  const { channel } = conversation;
  return chat.attempt("The reaction was not stored", () =>
    isMine ? channel.unreact(message.id, emoji) : channel.react(message.id, emoji),
  );
}

function Editor({ chat, conversation, message, onDone }: { chat: Chat; conversation: Conversation; message: Message; onDone: () => void }) {
  const [text, setText] = useState(message.content?.text ?? "");
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => { box.current?.focus(); }, []);
  async function save(): Promise<void> {
    if (text.trim() === "") return;
    if (await chat.attempt("Not changed", () => conversation.channel.edit(message.id, text))) onDone();
  }
  return (
    <form class="editor" onSubmit={(event) => { event.preventDefault(); void save(); }}>
      <textarea
        aria-label="Edit the message"
        ref={box}
        value={text}
        onInput={(event) => { setText(event.currentTarget.value); }}
        onKeyDown={(event) => {
          if (event.key === "Escape") onDone();
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); void save(); }
        }}
      />
      <button class="primary">Save</button>
      <button type="button" class="quiet" onClick={onDone}>Cancel</button>
    </form>
  );
}
