import { useEffect, useState } from "preact/hooks";
import type { Chat } from "./chat.js";

/** Says what the connection is like where it is not as it should be, and what waits for it. */
export function StatusBar({ chat }: { chat: Chat }) {
  const connection = chat.hasNetwork.value ? chat.connection.value : "waiting";
  const seconds = useSecondsTo(chat.retryAtMs.value);
  const unsent = chat.unsent.value;
  const waiting = unsent === 0 ? "" : ` ${unsent} ${unsent === 1 ? "message waits" : "messages wait"} to be sent.`;
  if (connection === "live") return <div class="status" role="status" data-connection="live" />;
  const text =
    connection === "waiting"
      ? `Offline: no connection to the server.${waiting}${seconds > 0 ? ` Next try in ${seconds} s.` : ""}`
      : connection === "catching up"
        ? "Catching up…"
        : connection === "closed"
          ? "Closed."
          : `Connecting…${waiting}`;
  return (
    <div class="status shown" role="status" data-connection={connection}>
      <span>{text}</span>
      {connection === "waiting" && <button onClick={() => { chat.client.retryNow(); }}>Try now</button>}
    </div>
  );
}

function useSecondsTo(atMs: number | undefined): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (atMs === undefined) return;
    setNow(Date.now());
    const timer = setInterval(() => { setNow(Date.now()); }, 1000);
    return () => { clearInterval(timer); };
  }, [atMs]);
  return atMs === undefined ? 0 : Math.max(0, Math.ceil((atMs - now) / 1000));
}
