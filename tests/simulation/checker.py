"""What a run has shown its clients, and whether it keeps the delivery contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chinwag.chat.v1 import entry_pb2


class Violation(Exception):
    """The contract was broken: the text says how."""


@dataclass(slots=True)
class History:
    """What happened, as clients saw it.

    Attributes:
        lines: For people, in order of time.
        acked: By channel, sender and client_message_id: id and text of the ack.
        shown: By channel and id: every payload that any reader was given.
    """

    lines: list[str] = field(default_factory=list)
    acked: dict[tuple[str, str, str], tuple[int, str]] = field(default_factory=dict)
    shown: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def note(self, now: float, who: str, what: str) -> None:
        """Something for the readable history."""
        self.lines.append(f"{now:9.3f}  {who:8} {what}")

    def ack(self, channel_id: str, sender: str, key: str, entry_id: int, text: str) -> None:
        """A send was acked."""
        known = self.acked.get((channel_id, sender, key))
        if known is not None and known[0] != entry_id:
            raise Violation(
                f"{channel_id}: {sender}'s {key} was acked as {known[0]} and as {entry_id}"
            )
        self.acked[channel_id, sender, key] = (entry_id, text)

    def show(self, who: str, channel_id: str, entries: Sequence[tuple[int, bytes]]) -> None:
        """A reader was given entries."""
        for entry_id, payload in entries:
            known = self.shown.setdefault((channel_id, entry_id), payload)
            if known != payload and not _redacted(known, payload):
                raise Violation(
                    f"{channel_id}: entry {entry_id} was shown with two contents, now to {who}: "
                    f"{_told(known)} and {_told(payload)}"
                )
            self.shown[channel_id, entry_id] = payload

    def check_log(self, channel_id: str, log: Sequence[tuple[int, bytes]]) -> None:
        """The log at the end, against all that was acked and shown."""
        ids = [entry_id for entry_id, _ in log]
        if ids != list(range(1, len(ids) + 1)):
            raise Violation(f"{channel_id}: the ids are not dense from 1: {ids}")
        sends: dict[tuple[str, str], int] = {}
        for entry_id, payload in log:
            entry = entry_pb2.Entry.FromString(payload)
            if entry.id != entry_id or entry.channel_id != channel_id:
                raise Violation(f"{channel_id}: entry {entry_id} says it is {_told(payload)}")
            if entry.HasField("message_sent"):
                send = (entry.actor_id, entry.message_sent.client_message_id)
                if send in sends:
                    raise Violation(
                        f"{channel_id}: {send} lies in the log at {sends[send]} and at {entry_id}"
                    )
                sends[send] = entry_id
        for (channel, sender, key), (entry_id, text) in self.acked.items():
            if channel != channel_id:
                continue
            if sends.get((sender, key)) != entry_id:
                raise Violation(
                    f"{channel_id}: {sender}'s {key} was acked as {entry_id}, the log has it at "
                    f"{sends.get((sender, key))}"
                )
            entry = entry_pb2.Entry.FromString(log[entry_id - 1][1])
            if entry.message_sent.content.text != text and not entry.redacted:
                raise Violation(f"{channel_id}: entry {entry_id} lost its text {text!r}")
        for (channel, entry_id), payload in self.shown.items():
            if channel == channel_id:
                if entry_id > len(log):
                    raise Violation(
                        f"{channel_id}: entry {entry_id} was shown, the log ends at {len(log)}"
                    )
                self.show("the end", channel_id, [(entry_id, log[entry_id - 1][1])])
                del payload


def _redacted(before: bytes, after: bytes) -> bool:
    """Whether the second is what a deletion leaves of the first, or the other way round."""
    one, other = entry_pb2.Entry.FromString(before), entry_pb2.Entry.FromString(after)
    if one.redacted == other.redacted:
        return False
    for entry in (one, other):
        entry.ClearField("redacted")
        if entry.HasField("message_sent"):
            entry.message_sent.ClearField("content")
        if entry.HasField("message_edited"):
            entry.message_edited.ClearField("content")
    return bool(one == other)


def _told(payload: bytes) -> str:
    entry = entry_pb2.Entry.FromString(payload)
    kind = entry.WhichOneof("kind")
    text = entry.message_sent.content.text if kind == "message_sent" else ""
    return f"{entry.channel_id}/{entry.id} {kind} of {entry.actor_id} {text!r}"
