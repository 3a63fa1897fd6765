import { useEffect } from "preact/hooks";
import type { Account } from "./account.js";
import type { Chat } from "./chat.js";
import { ChannelList } from "./channel-list.js";
import { ConversationView } from "./conversation-view.js";
import { SignIn } from "./sign-in.js";
import { StatusBar } from "./status-bar.js";

export function App({ account }: { account: Account }) {
  const chat = account.chat.value;
  switch (account.stage.value) {
    case "starting":
      return <p class="middle" role="status">Opening…</p>;
    case "failed":
      return <p class="middle" role="alert">This page cannot start: {account.reason}</p>;
    case "signed in":
      return chat === undefined ? null : <Signed account={account} chat={chat} />;
    default:
      return <SignIn account={account} />;
  }
}

function Signed({ account, chat }: { account: Account; chat: Chat }) {
  const selected = chat.selected.value;
  useEffect(() => {
    const go = () => { chat.selectAddressed(); };
    addEventListener("hashchange", go);
    return () => {
      removeEventListener("hashchange", go);
    };
  }, [chat]);
  const unread = chat.channels.value.reduce((sum, each) => sum + each.unreadCount, 0);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) chinwag` : "chinwag";
  }, [unread]);
  return (
    <div class={selected === undefined ? "frame" : "frame reading"}>
      <a class="skip" href="#" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>(".composer textarea")?.focus(); }}>
        Skip to the message box
      </a>
      <StatusBar chat={chat} />
      <ChannelList account={account} chat={chat} />
      {selected === undefined ? (
        <main class="empty"><p>Choose a channel, or start one.</p></main>
      ) : (
        <ConversationView key={selected.id} chat={chat} conversation={selected} />
      )}
      <div class="notice" role="alert">{chat.notice}</div>
    </div>
  );
}
