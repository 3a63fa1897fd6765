"""Those who chat: they send, edit, react, mark, and repeat under the same id until it is done."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chinwag.chat.v1 import channel_pb2, chat_service_pb2
from chinwag_server.rpc.errors import Refusal
from tests.simulation.asking import FOR_A_MOMENT
from tests.simulation.checker import Violation
from tests.simulation.loop import EPOCH_S
from tests.simulation.world import NoAnswer

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario

ROUNDS = 10
QUIET = "quiet"  # the channel that nobody reads before the end


@dataclass(slots=True)
class _Send:
    channel_id: str
    key: str
    text: str


@dataclass(slots=True)
class _Person:
    """What somebody remembers: their messages by channel, and what they may repeat."""

    name: str
    own: dict[str, list[int]] = field(default_factory=dict)
    unfinished: list[_Send] = field(default_factory=list)
    finished: list[_Send] = field(default_factory=list)


class People:
    """The people of a scenario, and their readers."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._rng = scenario.rng
        self._over = False

    async def make_channels(self) -> None:
        """A pair, a group and a channel that nobody reads."""
        scenario = self._scenario
        for name, members, kind in (
            ("pair", ["bob"], channel_pb2.CHANNEL_KIND_DIRECT),
            ("group", ["bob", "cid"], channel_pb2.CHANNEL_KIND_GROUP),
            (QUIET, ["cid"], channel_pb2.CHANNEL_KIND_DIRECT),
        ):
            request = chat_service_pb2.CreateChannelRequest(
                kind=kind, member_user_ids=members, request_id=self._id()
            )
            answer = await scenario.ask("ann", "call", "ann", "CreateChannel", request)
            scenario.channels[name] = answer.channel.channel.id
            scenario.note("ann", f"made {name}, {answer.channel.channel.id}")

    async def live(self) -> None:
        """Until the unrest is over and everybody has finished what they began."""
        loop = self._scenario.world.loop
        readers = [
            loop.create_task(self._reader(f"reader of {name}", self._scenario.channels[name]))
            for name in ("pair", "group")
        ]
        # Each has two devices.
        lives = [self._person(_Person(user)) for user in self._scenario.flavour.people * 2]
        await asyncio.gather(*(loop.create_task(life) for life in lives))
        self._over = True
        await asyncio.gather(*readers)

    async def last_word(self) -> None:
        """Something is sent to the quiet channel, and as often as not its owner dies of it."""
        scenario = self._scenario
        ann = _Person("ann")
        await self._send(
            ann, [_Send(scenario.channels[QUIET], self._message_id(), "the last word")]
        )
        if self._rng.random() < 0.5:
            await scenario.troubles.kill_owner(scenario.channels[QUIET])

    def _id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _message_id(self) -> str:
        world = self._scenario.world
        ms = int((EPOCH_S + world.loop.now) * 1000)
        raw = ms.to_bytes(6, "big") + world.bits(10)
        value = int.from_bytes(raw, "big") & ~(0xF << 76) & ~(0x3 << 62)
        return str(uuid.UUID(int=value | 0x7 << 76 | 0x2 << 62))

    async def _person(self, person: _Person) -> None:
        scenario = self._scenario
        names = ["pair", "group", "group", "pair"] if person.name != "cid" else ["group"]
        if person.name == "ann":
            names.append(QUIET)
        person.own = {name: [] for name in names}
        for number in itertools.count():
            if number >= ROUNDS and not scenario.unrest:
                break
            await self._or_refused(person, self._act(person, self._rng.choice(names), number))
            await asyncio.sleep(self._rng.expovariate(scenario.flavour.pace))
        while person.unfinished:
            await self._or_refused(person, self._repeat(person, person.unfinished.pop(), 0.0))

    async def _or_refused(self, person: _Person, work: Awaitable[None]) -> None:
        try:
            await work
        except Refusal as refusal:
            if refusal.reason == "ID_REUSED":
                raise Violation(f"{person.name}'s repeat was taken for another send") from None
            self._scenario.note(person.name, f"is refused: {refusal.reason}")

    async def _act(self, person: _Person, name: str, number: int) -> None:
        channel_id = self._scenario.channels[name]
        own = person.own[name]
        user = person.name
        draw = self._rng.random()
        if draw < self._scenario.flavour.repeats and person.unfinished:
            send = person.unfinished.pop(self._rng.randrange(len(person.unfinished)))
            await self._repeat(person, send, self._scenario.flavour.put_off)
        elif draw < 0.3 and person.finished:
            # As if the ack had not come.
            await self._repeat(person, self._rng.choice(person.finished), 0.0)
        elif draw < 0.6 or not own or name == QUIET:
            count = self._rng.choice((1, 1, 2, 3))
            sends = [
                _Send(channel_id, self._message_id(), f"{user} {number}.{n}") for n in range(count)
            ]
            await self._send(person, sends, own, self._scenario.flavour.put_off)
        elif draw < 0.68:
            request = chat_service_pb2.EditMessageRequest(
                channel_id=channel_id, message_id=self._rng.choice(own), request_id=self._id()
            )
            request.content.text = f"{user} edits {number}"
            await self._call(user, "EditMessage", request)
        elif draw < 0.74:
            await self._call(
                user,
                "DeleteMessage",
                chat_service_pb2.DeleteMessageRequest(
                    channel_id=channel_id, message_id=own.pop(), request_id=self._id()
                ),
            )
        elif draw < 0.84:
            await self._call(
                user,
                "AddReaction",
                chat_service_pb2.AddReactionRequest(
                    channel_id=channel_id,
                    message_id=self._rng.choice(own),
                    emoji="+1",
                    request_id=self._id(),
                ),
            )
        elif draw < 0.92:
            mark = self._rng.choice(own)
            await self._call(
                user,
                "MarkRead",
                chat_service_pb2.MarkReadRequest(channel_id=channel_id, read_id=mark),
            )
            marks, key = self._scenario.marks, (channel_id, user)
            marks[key] = max(marks.get(key, 0), mark)
        elif user == "ann" and name == "group":
            await self._call(
                user,
                "RemoveMember",
                chat_service_pb2.RemoveMemberRequest(
                    channel_id=channel_id, user_id="cid", request_id=self._id()
                ),
            )
            await self._call(
                user,
                "AddMembers",
                chat_service_pb2.AddMembersRequest(
                    channel_id=channel_id, user_ids=["cid"], request_id=self._id()
                ),
            )

    async def _call(self, user: str, method: str, request: Any) -> Any:
        answer = await self._scenario.ask(user, "call", user, method, request)
        self._scenario.note(user, f"{method} in {request.channel_id[:4]}: done")
        return answer

    async def _repeat(self, person: _Person, send: _Send, put_off: float) -> None:
        self._scenario.note(person.name, f"repeats {send.text!r} in {send.channel_id[:4]}")
        await self._send(person, [send], None, put_off)

    async def _send(
        self,
        person: _Person,
        sends: list[_Send],
        own: list[int] | None = None,
        put_off: float = 0.0,
    ) -> None:
        """Sends messages of one channel; what is put off is unfinished afterwards."""
        scenario, user = self._scenario, person.name
        while sends:
            channel_id = sends[0].channel_id
            pairs = [(send.key, send.text) for send in sends]
            try:
                answers = await scenario.ask(user, "send", user, channel_id, pairs, put_off=put_off)
            except NoAnswer:
                person.unfinished += sends
                return
            again: list[_Send] = []
            for send, answer in zip(sends, answers, strict=True):
                if isinstance(answer, Refusal):
                    if answer.reason not in FOR_A_MOMENT:
                        raise answer
                    again.append(send)
                    continue
                message_id = answer.message_id
                scenario.note(user, f"{send.text!r} in {channel_id[:4]} is {message_id}")
                scenario.world.history.ack(channel_id, user, send.key, message_id, send.text)
                if own is not None:
                    own.append(message_id)
                    person.finished.append(send)
            if again:
                scenario.note(user, f"{len(again)} of {len(sends)} sends have to be repeated")
                await asyncio.sleep(self._rng.uniform(0.05, 0.3))
            sends = again

    async def _reader(self, name: str, channel_id: str) -> None:
        position = 0
        while not self._over:
            entries = await self._scenario.ask(name, "read", channel_id, position)
            for entry_id, _ in entries:
                if entry_id != position + 1:
                    raise Violation(f"{channel_id}: {name} got {entry_id} after {position}")
                position = entry_id
            self._scenario.world.history.show(name, channel_id, entries)
            await asyncio.sleep(self._rng.uniform(0, 0.8))
