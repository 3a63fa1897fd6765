import { useEffect, useRef, useState } from "preact/hooks";
import { type Message, OutboxFull } from "chinwag";
import type { Chat } from "./chat.js";
import type { Conversation } from "./conversation.js";
import { folded } from "./text.js";

const MAX_LENGTH = 100_000;

interface Props {
  readonly chat: Chat;
  readonly conversation: Conversation;
  readonly replyTo: Message | undefined;
  onSent(): void;
  onNoReply(): void;
}

export function Composer({ chat, conversation, replyTo, onSent, onNoReply }: Props) {
  const [text, setText] = useState("");
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => { box.current?.focus(); }, [conversation, replyTo]);

  function send(): void {
    const content = text.trim();
    if (content === "") return;
    const names = [...content.matchAll(/@([\w.-]+)/gu)].map((match) => match[1] ?? "");
    const mentions = names.length === 0 ? [] : chat.people.like("").filter((user) => names.includes(user.username)).map((user) => user.id);
    const options = { mentions, ...(replyTo === undefined ? {} : { replyTo: replyTo.id }) };
    try {
      // Into the outbox: it goes out in its turn, now or when there is a connection again.
      conversation.channel.post(content, options);
    } catch (error) {
      chat.say(error instanceof OutboxFull ? "Too many messages wait to be sent." : String(error));
      return;
    }
    setText("");
    onSent();
  }

  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); send(); }}>
      {replyTo !== undefined && (
        <div class="replying">
          <span>Reply to {chat.people.name(replyTo.senderId)}: {folded(replyTo.content?.text ?? "").slice(0, 80)}</span>
          <button type="button" class="quiet" onClick={onNoReply}>Cancel</button>
        </div>
      )}
      <textarea
        ref={box}
        aria-label="Message"
        placeholder="Message"
        rows={1}
        maxLength={MAX_LENGTH}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          conversation.channel.typing();
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
          if (event.key === "Escape") onNoReply();
        }}
      />
      <button class="primary" disabled={text.trim() === ""}>Send</button>
    </form>
  );
}
