"""The permission table, walked whole: every role tries everything in every kind of channel."""

from __future__ import annotations

from typing import Any

import pytest

from chinwag.chat.v1 import message_pb2
from chinwag_server.chat import permissions
from chinwag_server.chat.permissions import (
    ADMIN,
    BROADCAST,
    DIRECT,
    GROUP,
    MEMBER,
    OWNER,
    READER,
    TABLE,
    Action,
)
from chinwag_server.rpc.errors import Refusal
from tests.server.chat.rules import Room, refused

ROLES: dict[int, str] = {OWNER: "own", ADMIN: "adm", MEMBER: "mem", READER: "rea"}


async def channel_of(room: Room, kind: int) -> str:
    """A channel with one user of each role of the kind (named by it) and a target "tgt"."""
    if kind == DIRECT:
        return await room.direct("mem", "tgt")
    answer = await room.call("own", "CreateChannel", kind=kind, name="c")
    channel_id = str(answer.channel.channel.id)
    for role in permissions.roles_of(kind):
        if role != OWNER:
            await room.call(
                "own", "AddMembers", channel_id=channel_id, user_ids=[ROLES[role]], role=role
            )
    lowest = READER if kind == BROADCAST else MEMBER
    await room.call("own", "AddMembers", channel_id=channel_id, user_ids=["tgt"], role=lowest)
    return channel_id


async def attempt(room: Room, action: Action, user: str, channel_id: str, kind: int) -> None:
    """Does the action as the user."""
    own_writer = permissions.allowed(kind, _role(user), Action.SEND)
    by_other = "own" if kind != DIRECT else "tgt"

    async def call(method: str, **fields: Any) -> None:
        await room.call(user, method, channel_id=channel_id, **fields)

    async def own_message() -> int:
        return await room.send(user if own_writer else by_other, channel_id, "mine")

    if action is Action.READ:
        await call("ListMembers")
    elif action is Action.MARK:
        await call("SetChannelPreferences", preferences={"pinned": True}, update_mask="pinned")
    elif action is Action.SEND:
        await room.send(user, channel_id, "x")
    elif action is Action.TYPE:
        await call("SendTyping", active=True)
    elif action is Action.REACT:
        other = await room.send(by_other, channel_id, "x")
        await call("AddReaction", message_id=other, emoji="+1")
    elif action is Action.EDIT_OWN:
        await call(
            "EditMessage",
            message_id=await own_message(),
            content=message_pb2.MessageContent(text="y"),
        )
    elif action is Action.DELETE_OWN:
        if not own_writer:  # a message from before they became a reader
            await room.call(
                "own", "SetMemberRole", channel_id=channel_id, user_id=user, role=MEMBER
            )
            mine = await room.send(user, channel_id, "mine")
            await room.call(
                "own", "SetMemberRole", channel_id=channel_id, user_id=user, role=READER
            )
        else:
            mine = await room.send(user, channel_id, "mine")
        await call("DeleteMessage", message_id=mine)
    elif action is Action.DELETE_ANY:
        writer = "tgt" if kind != BROADCAST else ("adm" if user == "own" else "own")
        await call("DeleteMessage", message_id=await room.send(writer, channel_id, "x"))
    elif action is Action.UPDATE:
        await call("UpdateChannel", name="new", update_mask="name")
    elif action is Action.ADD:
        lowest = READER if kind == BROADCAST else MEMBER
        await call("AddMembers", user_ids=["new"], role=lowest)
    elif action is Action.REMOVE:
        await call("RemoveMember", user_id="tgt")
    elif action is Action.SET_ROLE:
        await call("SetMemberRole", user_id="tgt", role=MEMBER)
    elif action is Action.LEAVE:
        if user == "own":
            await call("SetMemberRole", user_id="tgt", role=OWNER)
        await call("LeaveChannel")
    elif action is Action.DELETE_CHANNEL:
        await call("DeleteChannel")
    else:
        raise AssertionError(f"no attempt for {action}")


def _role(user: str) -> int:
    return next(role for role, name in ROLES.items() if name == user)


CASES = [
    (kind, role, action)
    for kind in (DIRECT, GROUP, BROADCAST)
    for role in sorted(permissions.roles_of(kind))
    for action in TABLE
]


@pytest.mark.parametrize(
    ("kind", "role", "action"), CASES, ids=[f"{k}-{ROLES[r]}-{a.name}" for k, r, a in CASES]
)
async def test_the_table_is_what_the_rules_do(
    room: Room, kind: int, role: int, action: Action
) -> None:
    channel_id = await channel_of(room, kind)
    user = ROLES[role]
    try:
        await attempt(room, action, user, channel_id, kind)
        reason = ""
    except Refusal as refusal:
        reason = refusal.reason
    if permissions.allowed(kind, role, action):
        assert reason == ""
    elif kind == DIRECT and action in permissions.FIXED_IN_DIRECT:
        assert reason == "CHANNEL_KIND"
    else:
        assert reason == "ROLE_REQUIRED"


async def test_strangers_and_former_members(room: Room) -> None:
    channel_id = await channel_of(room, GROUP)
    for action in TABLE:
        if action in (Action.DELETE_OWN, Action.DELETE_ANY, Action.EDIT_OWN, Action.REACT):
            continue
        with pytest.raises(Refusal) as info:
            await attempt_as_stranger(room, action, channel_id)
        assert info.value.reason == "CHANNEL_NOT_FOUND"


async def attempt_as_stranger(room: Room, action: Action, channel_id: str) -> None:
    ROLES[0] = "nobody"
    try:
        if action is Action.LEAVE:
            await room.call("nobody", "LeaveChannel", channel_id=channel_id)
        else:
            await attempt(room, action, "nobody", channel_id, GROUP)
    finally:
        del ROLES[0]


async def test_roles_do_not_reach_above_themselves(room: Room) -> None:
    group = await channel_of(room, GROUP)
    set_role = "SetMemberRole"
    await refused(
        "ROLE_REQUIRED",
        room.call("adm", set_role, channel_id=group, user_id="tgt", role=OWNER),
    )
    await refused(
        "ROLE_REQUIRED", room.call("adm", set_role, channel_id=group, user_id="own", role=MEMBER)
    )
    await refused(
        "ROLE_REQUIRED", room.call("adm", "RemoveMember", channel_id=group, user_id="own")
    )
    await refused(
        "INVALID_FIELD", room.call("own", set_role, channel_id=group, user_id="tgt", role=READER)
    )


async def test_a_channel_keeps_an_owner(room: Room) -> None:
    group = await channel_of(room, GROUP)
    await refused("LAST_OWNER", room.call("own", "LeaveChannel", channel_id=group))
    await refused(
        "LAST_OWNER",
        room.call("own", "SetMemberRole", channel_id=group, user_id="own", role=MEMBER),
    )
    alone = await room.group("ann")
    await room.call("ann", "LeaveChannel", channel_id=alone)
