import { useEffect, useRef, useState } from "preact/hooks";
import { type ChannelSummary } from "chinwag";
import type { Account } from "./account.js";
import type { Chat } from "./chat.js";
import { folded } from "./text.js";
import { clock, dateOf } from "./times.js";

export function ChannelList({ account, chat }: { account: Account; chat: Chat }) {
  const [making, setMaking] = useState(false);
  void chat.people.changes.value;
  const channels = chat.channels.value;
  return (
    <nav class="channels" aria-label="Channels">
      <header>
        <h1>chinwag</h1>
        <ThemeSwitch />
        <button class="quiet" onClick={() => void account.signOut()}>Log out</button>
      </header>
      <button class="primary" aria-expanded={making} onClick={() => { setMaking(!making); }}>New conversation</button>
      {making && <NewChannel chat={chat} onDone={() => { setMaking(false); }} />}
      {channels.length === 0 && !making && <p class="hint">No conversations yet. Start one with somebody's name.</p>}
      <ul>
        {channels.map((summary) => (
          <Row key={summary.id} chat={chat} summary={summary} />
        ))}
      </ul>
      <footer>Signed in as {account.chat.value?.client.session.username}</footer>
    </nav>
  );
}

function Row({ chat, summary }: { chat: Chat; summary: ChannelSummary }) {
  const isSelected = chat.selectedId.value === summary.id;
  const last = summary.lastMessage;
  const typing = chat.typing.value.get(summary.id)?.size ?? 0;
  const unread = isSelected && document.hasFocus() ? 0 : summary.unreadCount;
  return (
    <li>
      <a href={`#${encodeURIComponent(summary.id)}`} aria-current={isSelected ? "page" : undefined}>
        <span class="title">{chat.title(summary)}</span>
        {last !== undefined && <time>{clock(dateOf(last.createTime))}</time>}
        <span class="last">
          {typing > 0 ? "typing…" : last?.content === undefined ? (last === undefined ? "" : "deleted") : folded(last.content.text).slice(0, 80)}
        </span>
        {unread > 0 && <span class="unread" aria-label={`${unread} unread`}>{unread > 999 ? "999+" : unread}</span>}
      </a>
    </li>
  );
}

function NewChannel({ chat, onDone }: { chat: Chat; onDone: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => { box.current?.focus(); }, []);

  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const names = String(data.get("names")).split(/[\s,]+/u).filter((name) => name !== "");
    setBusy(true);
    setProblem("");
    try {
      const users = await Promise.all(names.map((name) => chat.people.find(name)));
      const ids = users.map((user) => user.id);
      const title = String(data.get("title")).trim();
      const [only] = ids;
      const channel =
        ids.length === 1 && title === "" && only !== undefined
          ? await chat.client.direct(only)
          : await chat.client.createGroup(title || names.join(", "), ids);
      await chat.client.channels.refresh().catch(() => undefined);
      location.hash = encodeURIComponent(channel.id);
      onDone();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <form class="new-channel" onSubmit={(event) => void submit(event)}>
      <label>With (names, several for a group)<input ref={box} name="names" required spellcheck={false} autocomplete="off" /></label>
      <label>Title of the group (optional)<input name="title" maxLength={100} /></label>
      {problem !== "" && <p class="problem" role="alert">{problem}</p>}
      <button class="primary" disabled={busy}>Start</button>
    </form>
  );
}

function ThemeSwitch() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "");
  document.documentElement.dataset["theme"] = theme;
  const next = theme === "" ? "dark" : theme === "dark" ? "light" : "";
  const name = theme === "" ? "as the system" : theme;
  return (
    <button
      class="quiet"
      aria-label={`Colours: ${name}. Change`}
      title={`Colours: ${name}`}
      onClick={() => {
        localStorage.setItem("theme", next);
        setTheme(next);
      }}
    >
      {theme === "dark" ? "☾" : theme === "light" ? "☀" : "◐"}
    </button>
  );
}
