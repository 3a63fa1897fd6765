"""Who may do what in a channel: one table; tests/server/chat/test_permissions.py walks it whole."""

from __future__ import annotations

from enum import Enum

from chinwag.chat.v1 import channel_pb2

DIRECT = channel_pb2.CHANNEL_KIND_DIRECT
GROUP = channel_pb2.CHANNEL_KIND_GROUP
BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST

OWNER = channel_pb2.MEMBER_ROLE_OWNER
ADMIN = channel_pb2.MEMBER_ROLE_ADMIN
MEMBER = channel_pb2.MEMBER_ROLE_MEMBER
READER = channel_pb2.MEMBER_ROLE_READER


class Action(Enum):
    """What a member can try to do."""

    READ = "read"
    MARK = "mark"
    SEND = "send"
    TYPE = "type"
    REACT = "react"
    EDIT_OWN = "edit one's own message"
    DELETE_OWN = "delete one's own message"
    DELETE_ANY = "delete others' messages"
    UPDATE = "change the channel's settings"
    ADD = "add members"
    REMOVE = "remove members"
    SET_ROLE = "change roles"
    LEAVE = "leave"
    DELETE_CHANNEL = "delete the channel"


_EVERYBODY = frozenset({OWNER, ADMIN, MEMBER, READER})
_WRITERS = frozenset({OWNER, ADMIN, MEMBER})
_ADMINS = frozenset({OWNER, ADMIN})
_OWNERS = frozenset({OWNER})
_NOBODY: frozenset[int] = frozenset()

# In direct channels both users are members; their channel is fixed.
TABLE: dict[Action, dict[int, frozenset[int]]] = {
    Action.READ: {DIRECT: _EVERYBODY, GROUP: _EVERYBODY, BROADCAST: _EVERYBODY},
    Action.MARK: {DIRECT: _EVERYBODY, GROUP: _EVERYBODY, BROADCAST: _EVERYBODY},
    Action.SEND: {DIRECT: _WRITERS, GROUP: _WRITERS, BROADCAST: _WRITERS},
    Action.TYPE: {DIRECT: _WRITERS, GROUP: _WRITERS, BROADCAST: _WRITERS},
    Action.REACT: {DIRECT: _EVERYBODY, GROUP: _EVERYBODY, BROADCAST: _EVERYBODY},
    Action.EDIT_OWN: {DIRECT: _WRITERS, GROUP: _WRITERS, BROADCAST: _WRITERS},
    Action.DELETE_OWN: {DIRECT: _EVERYBODY, GROUP: _EVERYBODY, BROADCAST: _EVERYBODY},
    Action.DELETE_ANY: {DIRECT: _NOBODY, GROUP: _ADMINS, BROADCAST: _ADMINS},
    Action.UPDATE: {DIRECT: _NOBODY, GROUP: _ADMINS, BROADCAST: _ADMINS},
    Action.ADD: {DIRECT: _NOBODY, GROUP: _ADMINS, BROADCAST: _ADMINS},
    Action.REMOVE: {DIRECT: _NOBODY, GROUP: _ADMINS, BROADCAST: _ADMINS},
    Action.SET_ROLE: {DIRECT: _NOBODY, GROUP: _ADMINS, BROADCAST: _ADMINS},
    Action.LEAVE: {DIRECT: _NOBODY, GROUP: _EVERYBODY, BROADCAST: _EVERYBODY},
    Action.DELETE_CHANNEL: {DIRECT: _NOBODY, GROUP: _OWNERS, BROADCAST: _OWNERS},
}

# These do not depend on the role but on the kind alone, so that their refusal is CHANNEL_KIND.
FIXED_IN_DIRECT = frozenset(
    action for action, by_kind in TABLE.items() if by_kind[DIRECT] is _NOBODY
) - {Action.DELETE_ANY}


def allowed(kind: int, role: int, action: Action) -> bool:
    """Whether a role may do something in a channel of a kind."""
    return role in TABLE[action][kind]


def outranks(role: int, other: int) -> bool:
    """Whether one role stands above another; numbers fall as rights rise."""
    return role < other


def roles_of(kind: int) -> frozenset[int]:
    """The roles that a channel of a kind has."""
    if kind == DIRECT:
        return frozenset({MEMBER})
    return _EVERYBODY if kind == BROADCAST else _WRITERS
