"""The projections at the end of a run, against what the log says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chinwag.chat.v1 import entry_pb2
from chinwag_server.chat.entries import project
from chinwag_server.chat.ids import client_message_id_bytes
from tests.simulation.checker import Violation

if TYPE_CHECKING:
    from tests.simulation.asking import Asking


@dataclass(slots=True)
class _Message:
    text: str
    deleted: bool = False
    reactions: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class Replay:
    """What a log says, read from its first entry to its last."""

    members: dict[str, int] = field(default_factory=dict)
    messages: dict[int, _Message] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)

    def take(self, entry: entry_pb2.Entry) -> None:
        """The next entry."""
        kind = entry.WhichOneof("kind")
        if kind == "channel_created":
            self.members |= {m.user_id: m.role for m in entry.channel_created.members}
        elif kind == "members_added":
            self.members |= {m.user_id: m.role for m in entry.members_added.members}
        elif kind == "member_removed":
            self.members[entry.member_removed.user_id] = 0
        elif kind == "message_sent":
            self.messages[entry.id] = _Message(entry.message_sent.content.text)
            self.own[entry.actor_id] = entry.id
        elif kind == "message_edited":
            self.messages[entry.message_edited.message_id].text = entry.message_edited.content.text
        elif kind == "message_deleted":
            message = self.messages[entry.message_deleted.message_id]
            message.deleted = True
            message.reactions.clear()
        elif kind == "reaction_added":
            added = entry.reaction_added
            self.messages[added.message_id].reactions.add((added.emoji, entry.actor_id))
        elif kind == "reaction_removed":
            gone = entry.reaction_removed
            self.messages[gone.message_id].reactions.discard((gone.emoji, entry.actor_id))
        else:
            raise Violation(f"{entry.channel_id}: entry {entry.id} is of a kind {kind}")


async def check_projections(
    scenario: Asking, channel_id: str, log: Sequence[tuple[int, bytes]]
) -> None:
    """Members, messages, marks and idempotency rows are what the log says."""
    replay = Replay()
    for _, payload in log:
        replay.take(entry_pb2.Entry.FromString(payload))
    seen = await scenario.ask("the end", "state", channel_id, list(replay.messages))
    if seen["head"] != (len(log), entry_pb2.Entry.FromString(log[-1][1]).timeline_count):
        raise Violation(f"{channel_id}: the head is {seen['head']}, the log ends at {len(log)}")
    roles = {row.user_id: row.role for row in seen["members"]}
    if roles != replay.members:
        raise Violation(f"{channel_id}: the members are {roles}, the log says {replay.members}")
    if sum(bool(role) for role in roles.values()) != seen["member_count"]:
        raise Violation(f"{channel_id}: {seen['member_count']} members are counted of {roles}")
    for row in seen["members"]:
        if seen["own_rows"].get(row.user_id) != row:
            raise Violation(
                f"{channel_id}: {row.user_id}'s own row {seen['own_rows'].get(row.user_id)} is "
                f"not the channel's {row}"
            )
        least = max(
            replay.own.get(row.user_id, 0) if row.role else 0,
            scenario.marks.get((channel_id, row.user_id), 0),
        )
        if row.read_id < least:
            raise Violation(f"{channel_id}: {row.user_id} has read {row.read_id}, not {least}")
    _check_messages(channel_id, replay, seen["messages"])
    for (channel, sender, key), (entry_id, _) in scenario.world.history.acked.items():
        if channel == channel_id:
            (found,) = await scenario.ask(
                "the end", "find", channel_id, sender, client_message_id_bytes(key)
            )
            if found is None or found.message_id != entry_id:
                raise Violation(f"{channel_id}: {sender}'s {key} is {found}, not {entry_id}")


def _check_messages(channel_id: str, replay: Replay, stored: dict[int, object]) -> None:
    for message_id, expected in replay.messages.items():
        message = project(stored[message_id])  # type: ignore[arg-type]
        reactions = {(group.emoji, user) for group in message.reactions for user in group.user_ids}
        text = "" if expected.deleted else expected.text
        got = (message.content.text, message.HasField("delete_time"), reactions)
        if got != (text, expected.deleted, expected.reactions):
            raise Violation(f"{channel_id}: message {message_id} is {got}, the log says {expected}")
