import { useEffect, useState } from "preact/hooks";
import { type Member, MemberRole } from "chinwag";
import type { Chat } from "./chat.js";
import type { Conversation } from "./conversation.js";

const SHOWN = 200;

export function Members({ chat, conversation }: { chat: Chat; conversation: Conversation }) {
  const [members, setMembers] = useState<readonly Member[]>([]);
  const [name, setName] = useState("");
  const { channel } = conversation;

  async function load(): Promise<void> {
    const found: Member[] = [];
    for await (const member of channel.members()) {
      found.push(member);
      if (found.length >= SHOWN) break;
    }
    setMembers(found);
  }
  useEffect(() => { void chat.attempt("The members were not read", load); }, [conversation]);

  const mine = members.find((member) => member.userId === chat.userId)?.role;
  const leads = mine === MemberRole.OWNER || mine === MemberRole.ADMIN;

  async function add(): Promise<void> {
    const done = await chat.attempt("Nobody was added", async () => {
      const user = await chat.people.find(name.trim());
      await channel.addMembers([user.id]);
      await load();
    });
    if (done) setName("");
  }

  return (
    <aside class="members" aria-label="Members">
      <ul>
        {members.map((member) => (
          <li key={member.userId}>
            {chat.people.name(member.userId)} <span class="role">{MemberRole[member.role]?.toLowerCase()}</span>
            {leads && member.userId !== chat.userId && (
              <button class="quiet" onClick={() => void chat.attempt("Not removed", async () => { await channel.removeMember(member.userId); await load(); })}>Remove</button>
            )}
          </li>
        ))}
      </ul>
      {leads && (
        <form onSubmit={(event) => { event.preventDefault(); void add(); }}>
          <input aria-label="Name of somebody to add" placeholder="Name" required value={name} onInput={(event) => { setName(event.currentTarget.value); }} />
          <button>Add</button>
        </form>
      )}
      <button class="quiet" onClick={() => void chat.attempt("You are still in it", async () => { await channel.leave(); location.hash = ""; })}>Leave</button>
    </aside>
  );
}
