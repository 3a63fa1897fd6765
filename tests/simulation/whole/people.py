"""Those who chat by devices: they post, mark, edit, come and go, and make groups."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from chinwag.chat.v1 import channel_pb2, chat_service_pb2
from chinwag_server.rpc.errors import Refusal
from tests.simulation.whole.device import Device

if TYPE_CHECKING:
    from tests.simulation.whole.scenario import WholeScenario

USERS = ("ann", "bob", "cid")
NEWS = "news"


class Chatters:
    """The people of a scenario with whole nodes."""

    def __init__(self, scenario: WholeScenario) -> None:
        self._scenario = scenario
        self._rng = scenario.rng
        self._made = 0

    async def make_channels(self) -> None:
        """A pair, a group, one that is seldom used, and a broadcast channel that all look at."""
        visibility = channel_pb2.HISTORY_VISIBILITY_ALL
        if self._scenario.flavour.since_joining:
            visibility = channel_pb2.HISTORY_VISIBILITY_SINCE_JOINING
        direct, group = channel_pb2.CHANNEL_KIND_DIRECT, channel_pb2.CHANNEL_KIND_GROUP
        for name, members, kind in (
            ("pair", ["bob"], direct),
            ("quiet", ["cid"], direct),
            ("group", ["bob", "cid"], group),
            (NEWS, [], channel_pb2.CHANNEL_KIND_BROADCAST),
        ):
            request = chat_service_pb2.CreateChannelRequest(
                kind=kind, member_user_ids=members, request_id=self._id()
            )
            if kind == group:
                request.history_visibility = visibility
            if name == NEWS:
                request.is_public, request.name = True, name
            await self._make("ann", name, request)
        news = self._scenario.channels[NEWS]
        for user in ("bob", "cid"):
            await self._call(
                user,
                "JoinChannel",
                chat_service_pb2.JoinChannelRequest(channel_id=news, request_id=self._id()),
            )

    async def _make(self, user: str, name: str, request: Any) -> None:
        answer = await self._scenario.ask(user, "call", user, "CreateChannel", request)
        self._scenario.channels[name] = answer.channel.channel.id
        self._scenario.note(user, f"made {name}, {answer.channel.channel.id}")

    async def live(self) -> None:
        """Until the unrest is over and what was begun is done."""
        loop = self._scenario.world.loop
        lives = [loop.create_task(self._life(device)) for device in self._scenario.devices]
        await asyncio.gather(*lives)

    async def _life(self, device: Device) -> None:
        scenario = self._scenario
        number = 0
        while scenario.unrest:
            number += 1
            await asyncio.sleep(self._rng.expovariate(scenario.flavour.pace))
            try:
                await self._act(device, number)
            except Refusal as refusal:
                scenario.note(device.name, f"is refused: {refusal.reason}")

    async def _act(self, device: Device, number: int) -> None:
        scenario, rng, user = self._scenario, self._rng, device.user
        name = rng.choice(("pair", "group", "group", NEWS, "quiet"))
        channel_id = scenario.channels[name]
        if (user == "cid" and name == "pair") or (user == "bob" and name == "quiet"):
            return
        if name == NEWS and user != "ann":
            return
        own = device.own.get(channel_id, [])
        draw = rng.random()
        if draw < 0.5 or not own:
            for count in range(rng.choice((1, 1, 2))):
                device.post(channel_id, f"{device.name} {number}.{count}")
        elif draw < 0.65:
            mark = rng.choice(own)
            device.mark(channel_id, mark)
        elif draw < 0.72:
            request = chat_service_pb2.EditMessageRequest(
                channel_id=channel_id, message_id=rng.choice(own), request_id=self._id()
            )
            request.content.text = f"{device.name} edits {number}"
            await self._call(user, "EditMessage", request)
        elif draw < 0.76:
            message_id = own.pop(rng.randrange(len(own)))
            await self._call(
                user,
                "DeleteMessage",
                chat_service_pb2.DeleteMessageRequest(
                    channel_id=channel_id, message_id=message_id, request_id=self._id()
                ),
            )
        elif draw < 0.82:
            await self._call(
                user,
                "AddReaction",
                chat_service_pb2.AddReactionRequest(
                    channel_id=channel_id,
                    message_id=rng.choice(own),
                    emoji="+1",
                    request_id=self._id(),
                ),
            )
        elif user == "ann" and name == "group":
            await self._come_and_go(rng.choice(("bob", "cid")), channel_id)
        elif user == "ann" and self._made < scenario.flavour.max_made:
            self._made += 1
            create = chat_service_pb2.CreateChannelRequest(
                kind=channel_pb2.CHANNEL_KIND_GROUP,
                member_user_ids=["bob", "cid"],
                request_id=self._id(),
            )
            await self._make(user, f"made {self._made}", create)

    async def _come_and_go(self, user: str, channel_id: str) -> None:
        await self._call(
            "ann",
            "RemoveMember",
            chat_service_pb2.RemoveMemberRequest(
                channel_id=channel_id, user_id=user, request_id=self._id()
            ),
        )
        await asyncio.sleep(self._rng.choice((0.0, 0.0, self._rng.uniform(0, 6))))
        await self._call(
            "ann",
            "AddMembers",
            chat_service_pb2.AddMembersRequest(
                channel_id=channel_id, user_ids=[user], request_id=self._id()
            ),
        )

    async def _call(self, user: str, method: str, request: Any) -> Any:
        answer = await self._scenario.ask(user, "call", user, method, request)
        self._scenario.note(user, f"{method} in {request.channel_id[:4]}: done")
        return answer

    def _id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
