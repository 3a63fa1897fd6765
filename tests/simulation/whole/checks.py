"""What every device's application must have seen, by what the logs say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from chinwag.chat.v1 import chat_service_pb2, entry_pb2
from tests.simulation.checker import History, Violation
from tests.simulation.whole.device import Device, Posted
from tests.simulation.whole.people import NEWS, USERS

if TYPE_CHECKING:
    from tests.simulation.whole.scenario import WholeScenario


NO_MEMBER = ("NOT_A_MEMBER", "CHANNEL_NOT_FOUND")


class Seen:
    """Who may see what of a channel.

    Args:
        since_joining: Who comes in does not see what was before.
        all_see: Its members are not in the log, and all may see everything.

    Attributes:
        counts: How many messages there are up to each entry.
    """

    def __init__(
        self, log: Sequence[tuple[int, bytes]], *, since_joining: bool, all_see: bool = False
    ) -> None:
        self.head = len(log)
        self.counts: list[int] = [0]
        self._since_joining = since_joining
        self._stays: dict[str, list[tuple[int, int]]] = {}
        present: dict[str, int] = dict.fromkeys(USERS, 1) if all_see else {}
        for entry_id, payload in log:
            entry = entry_pb2.Entry.FromString(payload)
            kind = entry.WhichOneof("kind")
            self.counts.append(self.counts[-1] + (kind == "message_sent"))
            if kind == "channel_created":
                present |= {ref.user_id: 1 for ref in entry.channel_created.members}
            elif kind == "members_added":
                present |= {ref.user_id: entry_id for ref in entry.members_added.members}
            elif kind == "member_removed":
                user = entry.member_removed.user_id
                self._stays.setdefault(user, []).append((present.pop(user), entry_id))
        for user, first in present.items():
            self._stays.setdefault(user, []).append((first, self.head))

    def was_away(self, user: str) -> bool:
        """Whether a user was ever no member, after having been one."""
        stays = self._stays.get(user, ())
        return not stays or len(stays) > 1 or stays[0][1] < self.head

    def came_back(self, user: str, after_id: int, before_id: int) -> bool:
        """Whether a user became a member again between two entries."""
        return any(after_id < first < before_id for first, _ in self._stays.get(user, ())[1:])

    def gets(self, user: str, entry_id: int) -> bool:
        """Whether a user's devices have to get an entry: they were there."""
        return any(first <= entry_id <= last for first, last in self._stays.get(user, ()))

    def may_see(self, user: str, entry_id: int) -> bool:
        """Whether a user may see an entry, also one of when they were away: a device that catches
        up gets these, and one that is told at once that it is back begins anew."""
        if self._since_joining:
            return self.gets(user, entry_id)
        return entry_id <= self.end(user)

    def of(self, user: str, after_id: int) -> list[int]:
        """What a user's devices get behind an entry."""
        return [item for item in range(after_id + 1, self.head + 1) if self.gets(user, item)]

    def end(self, user: str) -> int:
        """The last entry that a user may see; 0: none."""
        return max((last for _, last in self._stays.get(user, ())), default=0)


def run_ahead(devices: Iterable[Device], seen: dict[str, Seen]) -> str:
    """Which device has entries that are newer than the logs that were read; "": none."""
    for device in devices:
        for channel_id, view in device.views.items():
            if view.seen and channel_id in seen and view.seen[-1] > seen[channel_id].head:
                return f"{channel_id}: {device.name} has {view.seen[-1]} of {seen[channel_id].head}"
    return ""


def lags(devices: Iterable[Device], seen: dict[str, Seen]) -> str:
    """Which device has yet to get something; "": none."""
    for device in devices:
        for channel_id, channel in seen.items():
            if not channel.end(device.user):
                continue
            view = device.views.get(channel_id)
            if view is None:
                return f"{device.name} does not know the channel {channel_id}"
            seen_ids = set(view.seen)
            lacks = [i for i in channel.of(device.user, view.start) if i not in seen_ids]
            if lacks:
                return (
                    f"{channel_id}: {device.name} began behind {view.start}, is at "
                    f"{view.seen[-1:]} of {channel.head} and lacks {lacks}"
                )
    return ""


def check_devices(devices: Iterable[Device], seen: dict[str, Seen]) -> None:
    """Nothing that may not be seen was, and no stream left out what may be.

    Raises:
        Violation: One did.
    """
    for device in devices:
        for channel_id, view in device.views.items():
            if channel_id not in seen:
                raise Violation(f"{device.name} has a channel that nobody made: {channel_id}")
            channel = seen[channel_id]
            for entry_id in view.seen:
                if not channel.may_see(device.user, entry_id):
                    raise Violation(f"{channel_id}: {device.name} saw {entry_id}, which it may not")
        for jump in device.jumps:
            channel = seen[jump.channel_id]
            for entry_id in range(jump.after_id + 1, jump.entry_id):
                if channel.gets(device.user, entry_id):
                    raise Violation(
                        f"{jump.channel_id}: a stream of {device.name} went from {jump.after_id} "
                        f"to {jump.entry_id} and left out {entry_id}"
                    )


def check_sends(devices: Iterable[Device], seen: dict[str, Seen], history: History) -> None:
    """What a device sent lies in its channels in the order in which it was sent, and only who was
    no member was refused.

    Who leaves and comes back may have sent something while away of which it did not hear that it
    was refused: that is sent again, behind what it has sent since.

    Raises:
        Violation: Something was overtaken, or refused without a reason.
    """
    for device in devices:
        for refused in device.refused:
            channel = seen[refused.channel_id]
            if refused.reason not in NO_MEMBER or not channel.was_away(device.user):
                raise Violation(
                    f"{refused.channel_id}: {device.name}'s {refused.text!r} was refused: "
                    f"{refused.reason}"
                )
        ids: dict[str, list[tuple[int, Posted]]] = {}
        for key, posted in device.posted.items():
            sent = history.acked.get((posted.channel_id, device.user, key))
            if sent is None:
                continue
            earlier = ids.setdefault(posted.channel_id, [])
            for before_id, before in earlier:
                if sent[0] < before_id and not seen[posted.channel_id].came_back(
                    device.user, before.seen_id, sent[0]
                ):
                    raise Violation(
                        f"{posted.channel_id}: {device.name}'s {posted.text!r} is {sent[0]}, and "
                        f"{before.text!r}, which it sent before, is {before_id}"
                    )
            earlier.append((sent[0], posted))


async def check_unread(scenario: WholeScenario, seen: dict[str, Seen]) -> None:
    """What every user has not read, as any node says, is what counting gives.

    Raises:
        Violation: It is not.
    """
    for user in USERS:
        request = chat_service_pb2.ListChannelsRequest(page_size=50)
        answer = await scenario.ask(user, "call", user, "ListChannels", request)
        for view in answer.channels:
            channel, state = seen[view.channel.id], view.state
            if view.channel.id == scenario.channels[NEWS]:
                continue
            counted = channel.counts[channel.end(user)] - channel.counts[state.read_id]
            if state.unread_count != max(0, counted):
                raise Violation(
                    f"{view.channel.id}: {user} has read {state.read_id}, and is told of "
                    f"{state.unread_count} messages behind it where the log has {counted}"
                )
