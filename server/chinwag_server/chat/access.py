"""May this user do this here? The checks that every operation starts with."""

from __future__ import annotations

from chinwag_server.chat import permissions
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import not_found, storage_unavailable
from chinwag_server.chat.permissions import Action
from chinwag_server.chat.store import MemberRecord
from chinwag_server.rpc.errors import Refusal


def check(log: ChannelLog, member: MemberRecord | None, action: Action) -> MemberRecord:
    """The member, if the assigned state allows the action. Never waits: what it allows holds
    until the caller waits for something.

    Raises:
        Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, CHANNEL_KIND, ROLE_REQUIRED, CHANNEL_DELETED,
            STORAGE_UNAVAILABLE (the store failed a moment ago).
    """
    if log.dead:
        raise storage_unavailable()
    if member is None:
        raise not_found(log.id)
    if not member.role:
        raise Refusal("NOT_A_MEMBER", "you are no member of this channel any more")
    if log.record.deleted:
        raise Refusal("CHANNEL_DELETED", "the channel was deleted")
    if log.kind == permissions.DIRECT and action in permissions.FIXED_IN_DIRECT:
        raise Refusal("CHANNEL_KIND", f"nobody can {action.value} in a direct channel")
    if not permissions.allowed(log.kind, member.role, action):
        raise Refusal("ROLE_REQUIRED", f"your role does not allow you to {action.value}")
    return member


def check_read(log: ChannelLog, member: MemberRecord | None) -> MemberRecord:
    """The member, present or past, who reads what their ranges allow.

    Raises:
        Refusal: CHANNEL_NOT_FOUND, CHANNEL_DELETED.
    """
    if member is None:
        raise not_found(log.id)
    if log.record.deleted:
        raise Refusal("CHANNEL_DELETED", "the channel was deleted")
    return member
