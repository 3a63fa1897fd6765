"""Changing messages: edit, delete, react. All are entries; the projection follows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from chinwag.chat.v1 import chat_service_pb2, message_pb2
from chinwag_server.chat import access, ranges
from chinwag_server.chat.channel import ChannelLog, MessageState
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.entries import (
    MAX_REACTION_USERS,
    add_reaction,
    parse,
    project,
    redacted,
    remove_reaction,
    state_of,
)
from chinwag_server.chat.permissions import Action
from chinwag_server.chat.requests import Remember
from chinwag_server.chat.store import (
    DeleteReactions,
    EntryKind,
    MemberRecord,
    PutMessage,
    PutReaction,
    Redact,
    StoredEntry,
    Write,
)
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

MAX_RETRIES = 16


def message_not_found(message_id: int) -> Refusal:
    """No such message in what the caller may see."""
    return Refusal("MESSAGE_NOT_FOUND", f"there is no message {message_id} that you may see")


def put_state(log: ChannelLog, state: MessageState) -> PutMessage:
    """The write that stores a projection as assigned."""
    return PutMessage(log.id, state.message.id, state_of(state.message), state.content_entry_id)


class Messages:
    """The rules for messages that are there already.

    Args:
        max_reactions: Different emoji on one message.
        max_text_length: Code points in a text.
    """

    def __init__(
        self,
        channels: Channels,
        clock: Clock,
        *,
        max_reactions: int = 50,
        max_text_length: int = 100_000,
    ) -> None:
        self._channels = channels
        self._store = channels.store
        self._clock = clock
        self._max_reactions = max_reactions
        self._max_text_length = max_text_length

    def check_text(self, content: message_pb2.MessageContent) -> None:
        """Refuses a text that is longer than this deployment takes; the contract's own bound was
        checked before.

        Raises:
            Refusal: INVALID_FIELD.
        """
        if len(content.text) > self._max_text_length:
            problem = f"at most {self._max_text_length} characters, got {len(content.text)}"
            raise Refusal(
                "INVALID_FIELD",
                f"content.text: {problem}",
                fields=[("content.text", problem)],
            )

    async def state(self, log: ChannelLog, message_id: int) -> MessageState | None:
        """A message's projection as assigned, without its content; None if there is none."""
        state = log.states.get(message_id)
        if state is not None:
            return state
        stored = await self._store.message(log.id, message_id)
        state = log.states.get(message_id)
        if state is not None or stored is None:
            return state
        message = project(stored)
        message.ClearField("content")
        edited = stored.content_entry
        return log.keep_state(MessageState(message, parse(edited).id if edited is not None else 0))

    async def read(self, log: ChannelLog, message_id: int) -> message_pb2.Message:
        """A message as it is stored now.

        Raises:
            Refusal: MESSAGE_NOT_FOUND.
        """
        stored = await self._store.message(log.id, message_id)
        if stored is None:
            raise message_not_found(message_id)
        return project(stored)

    async def _member(self, log: ChannelLog, caller: Caller) -> MemberRecord | None:
        return await self._channels.member(log, caller.user_id)

    def _visible(self, log: ChannelLog, member: MemberRecord, message_id: int) -> None:
        if not ranges.contains(log.visible(member), message_id):
            raise message_not_found(message_id)

    async def edit(
        self, caller: Caller, request: chat_service_pb2.EditMessageRequest, remember: Remember
    ) -> None:
        """Replaces the content of the caller's own message.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MESSAGE_NOT_FOUND, NOT_THE_SENDER,
                MESSAGE_DELETED, STORAGE_UNAVAILABLE.
        """
        self.check_text(request.content)
        async with self._channels.use(request.channel_id) as log:
            found = await self._member(log, caller)
            access.check(log, found, Action.EDIT_OWN)
            state = await self.state(log, request.message_id)
            member = access.check(log, found, Action.EDIT_OWN)
            if state is None:
                raise message_not_found(request.message_id)
            self._visible(log, member, request.message_id)
            if state.message.sender_id != caller.user_id:
                raise Refusal("NOT_THE_SENDER", "only the sender can edit a message")
            self._live(state)
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.message_edited.message_id = request.message_id
            entry.message_edited.content.CopyFrom(request.content)
            state.message.edit_time.CopyFrom(entry.create_time)
            state.message.last_entry_id = entry.id
            state.content_entry_id = entry.id
            write = log.append(
                entry, EntryKind.MESSAGE_EDITED, now_us, message_id=request.message_id
            )
            await self._commit(log, state, [write, put_state(log, state)], remember)

    async def delete(
        self,
        caller: Caller,
        channel_id: str,
        message_id: int,
        remember: Remember,
        *,
        by_server: bool = False,
    ) -> None:
        """Deletes a message and redacts its entries; a second time changes nothing.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MESSAGE_NOT_FOUND, ROLE_REQUIRED,
                STORAGE_UNAVAILABLE.
        """
        async with self._channels.use(channel_id) as log:
            found = None if by_server else await self._member(log, caller)
            if not by_server:
                access.check(log, found, Action.DELETE_OWN)
            for _ in range(MAX_RETRIES):
                state = await self.state(log, message_id)
                if state is not None and state.in_flight:
                    # An edit on its way has an entry that would escape the redaction.
                    await self._channels.commit(log, [])
                    continue
                last_entry_id = state.message.last_entry_id if state is not None else 0
                entries = await self._store.entries_of_message(log.id, message_id)
                if state is None or _unchanged(log, state, last_entry_id):
                    break
            else:
                raise Refusal(
                    "OVERLOADED", "the message changes too fast: try again", retry_after=1.0
                )
            if state is None:
                raise message_not_found(message_id)
            if not by_server:
                own = state.message.sender_id == caller.user_id
                member = access.check(log, found, Action.DELETE_OWN if own else Action.DELETE_ANY)
                self._visible(log, member, message_id)
            if state.message.HasField("delete_time"):
                return
            await self._delete(log, state, entries, caller, remember)

    async def _delete(
        self,
        log: ChannelLog,
        state: MessageState,
        entries: Sequence[StoredEntry],
        caller: Caller,
        remember: Remember,
    ) -> None:
        message_id = state.message.id
        now_us = self._clock.time_us()
        entry = log.next_entry(now_us, caller.user_id, caller.device_id)
        entry.message_deleted.message_id = message_id
        state.message.delete_time.CopyFrom(entry.create_time)
        state.message.last_entry_id = entry.id
        state.content_entry_id = 0
        del state.message.reactions[:]
        writes: list[Write] = [
            log.append(entry, EntryKind.MESSAGE_DELETED, now_us, message_id=message_id),
            put_state(log, state),
            DeleteReactions(log.id, message_id),
        ]
        writes += [Redact(log.id, old.id, redacted(old.payload)) for old in entries]
        await self._commit(log, state, writes, remember)

    async def add_reaction(
        self, caller: Caller, request: chat_service_pb2.AddReactionRequest, remember: Remember
    ) -> None:
        """Adds the caller to a reaction; a second time changes nothing.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MESSAGE_NOT_FOUND, MESSAGE_DELETED,
                REACTION_LIMIT, STORAGE_UNAVAILABLE.
        """
        async with self._channels.use(request.channel_id) as log:
            state, has = await self._reaction(log, caller, request.message_id, request.emoji)
            if has:
                return
            groups = state.message.reactions
            if len(groups) >= self._max_reactions and all(
                group.emoji != request.emoji for group in groups
            ):
                raise Refusal(
                    "REACTION_LIMIT",
                    f"a message has at most {self._max_reactions} different reactions",
                )
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.reaction_added.message_id = request.message_id
            entry.reaction_added.emoji = request.emoji
            add_reaction(state.message, request.emoji, caller.user_id)
            state.message.last_entry_id = entry.id
            writes: list[Write] = [
                log.append(entry, EntryKind.REACTION_ADDED, now_us, message_id=request.message_id),
                put_state(log, state),
                PutReaction(log.id, request.message_id, request.emoji, caller.user_id, entry.id),
            ]
            await self._commit(log, state, writes, remember)

    async def remove_reaction(
        self, caller: Caller, request: chat_service_pb2.RemoveReactionRequest, remember: Remember
    ) -> None:
        """Takes the caller out of a reaction; without one, changes nothing.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MESSAGE_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        async with self._channels.use(request.channel_id) as log:
            with suppress(_NothingThere):
                state, has = await self._reaction(
                    log, caller, request.message_id, request.emoji, removing=True
                )
                if not has:
                    return
                group = next(g for g in state.message.reactions if g.emoji == request.emoji)
                first_users = None
                if group.count > len(group.user_ids):
                    first_users = await self._store.reaction_users(
                        log.id, request.message_id, request.emoji, MAX_REACTION_USERS + 1
                    )
                    # The list was read: what is assigned may have moved on.
                    again, has = await self._reaction(
                        log, caller, request.message_id, request.emoji, removing=True
                    )
                    if again is not state or not has:
                        return
                now_us = self._clock.time_us()
                entry = log.next_entry(now_us, caller.user_id, caller.device_id)
                entry.reaction_removed.message_id = request.message_id
                entry.reaction_removed.emoji = request.emoji
                remove_reaction(state.message, request.emoji, caller.user_id, first_users)
                state.message.last_entry_id = entry.id
                writes: list[Write] = [
                    log.append(
                        entry, EntryKind.REACTION_REMOVED, now_us, message_id=request.message_id
                    ),
                    put_state(log, state),
                    DeleteReactions(log.id, request.message_id, request.emoji, caller.user_id),
                ]
                await self._commit(log, state, writes, remember)

    async def _reaction(
        self,
        log: ChannelLog,
        caller: Caller,
        message_id: int,
        emoji: str,
        *,
        removing: bool = False,
    ) -> tuple[MessageState, bool]:
        """The message, and whether the caller reacts to it so: checked, and not waiting after
        the answer was found."""
        found = await self._member(log, caller)
        access.check(log, found, Action.REACT)
        for _ in range(MAX_RETRIES):
            state = await self.state(log, message_id)
            if state is None:
                raise message_not_found(message_id)
            if state.in_flight:
                await self._channels.commit(log, [])
                continue
            last_entry_id = state.message.last_entry_id
            has = await self._store.has_reaction(log.id, message_id, emoji, caller.user_id)
            if _unchanged(log, state, last_entry_id):
                break
        else:
            raise Refusal("OVERLOADED", "the message changes too fast: try again", retry_after=1.0)
        member = access.check(log, found, Action.REACT)
        self._visible(log, member, message_id)
        if state.message.HasField("delete_time"):
            if removing:
                raise _NothingThere
            self._live(state)
        return state, has

    @staticmethod
    def _live(state: MessageState) -> None:
        if state.message.HasField("delete_time"):
            raise Refusal("MESSAGE_DELETED", f"message {state.message.id} was deleted")

    async def _commit(
        self, log: ChannelLog, state: MessageState, writes: list[Write], remember: Remember
    ) -> None:
        # The message as it will be is read again for the answer: its text must not lie in the
        # rows of remembered requests, where a redaction would miss it.
        writes += remember(message_pb2.Message())
        state.in_flight += 1

        def after() -> None:
            state.in_flight -= 1

        await self._channels.commit(log, writes, after)


def _unchanged(log: ChannelLog, state: MessageState, last_entry_id: int) -> bool:
    """Whether nothing was assigned to a message while something was waited for."""
    return (
        not state.in_flight
        and state.message.last_entry_id == last_entry_id
        and log.states.get(state.message.id) is state
    )


class _NothingThere(Exception):
    """The message is deleted: it has no reactions to take back."""
