"""The channels that are in memory, and the one way to the store for all that changes them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.store import (
    AppendEntry,
    ChatStore,
    MemberRecord,
    StoreUnavailable,
    Write,
)
from chinwag_server.rpc.errors import Refusal

# Called for each committed entry, in the order of its channel, on the event loop.
OnEntry = Callable[[ChannelLog, AppendEntry], None]
# Called once for the writes of a submission: (None) when durable, or with the error.
OnDone = Callable[[Exception | None], None]

STORE_RETRY_S = 1.0


def not_found(channel_id: str) -> Refusal:
    """The same answer for a channel that does not exist and one that the caller may not know."""
    return Refusal(
        "CHANNEL_NOT_FOUND",
        f"there is no channel {channel_id!r} that you may see: check the id",
    )


def storage_unavailable() -> Refusal:
    """The store cannot write now; nothing of the call was stored."""
    return Refusal(
        "STORAGE_UNAVAILABLE",
        "the store cannot write now, nothing was stored: retry with the same id",
        retry_after=STORE_RETRY_S,
    )


def _look_at(loading: asyncio.Task[ChannelLog | None]) -> None:
    if not loading.cancelled():
        loading.exception()  # nobody may be waiting any more


class Channels:
    """Loads channels, keeps the used ones, and submits their writes.

    Args:
        store: Where everything is durable.
        max_members: How many member rows are kept in memory in all (about 300 bytes each).
        max_backlog_bytes: Bytes that may wait for the store before new work is held back.
    """

    def __init__(
        self, store: ChatStore, *, max_members: int = 200_000, max_backlog_bytes: int = 64 << 20
    ) -> None:
        self.store = store
        self.on_entry: OnEntry = lambda _log, _entry: None
        self._max_members = max_members
        self._max_backlog_bytes = max_backlog_bytes
        self._logs: OrderedDict[str, ChannelLog] = OrderedDict()
        self._loading: dict[str, asyncio.Task[ChannelLog | None]] = {}
        self._void: set[str] = set()  # loads under way that began before `forget`
        self._members = 0
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()

    # --- loading ---

    def loaded(self, channel_id: str) -> ChannelLog | None:
        """The channel if it is in memory."""
        return self._logs.get(channel_id)

    async def get(self, channel_id: str) -> ChannelLog | None:
        """The channel, read from the store if need be; None if there is none."""
        while True:
            log = self._logs.get(channel_id)
            if log is not None:
                self._logs.move_to_end(channel_id)
                return log
            loading = self._loading.get(channel_id)
            if loading is None:
                # In a task of its own: of those who wait for it any may be cancelled.
                loading = asyncio.ensure_future(self._load_alone(channel_id))
                loading.add_done_callback(_look_at)
                self._loading[channel_id] = loading
            if await asyncio.shield(loading) is None:
                return None
            # It may have been dropped since.

    async def _load_alone(self, channel_id: str) -> ChannelLog | None:
        try:
            return await self._load(channel_id)
        finally:
            # Before the task is done: waiting for one that is does not let anything else run.
            del self._loading[channel_id]
            self._void.discard(channel_id)

    async def _load(self, channel_id: str) -> ChannelLog | None:
        record = await self.store.channel(channel_id)
        if record is None:
            return None
        log = ChannelLog(record, ())
        if not log.is_broadcast:
            log = ChannelLog(record, await self.store.members(channel_id))
        # A channel cannot have changed meanwhile: changes go through this object, which is not
        # there yet, and `_loading` keeps others from making a second one. But it may have been
        # another node's for a while.
        if channel_id in self._void:
            raise StoreUnavailable("the channel changed its owner while it was read: retry")
        return self.adopt(log)

    def adopt(self, log: ChannelLog) -> ChannelLog:
        """Takes a channel into memory: one just read, or one just made."""
        self._logs[log.id] = log
        self._members += len(log.members) + 1
        if self._members > self._max_members:
            self._evict(log)
        return log

    def _evict(self, newest: ChannelLog) -> None:
        # One pass at most: channels in use stay, whatever the bound says.
        for channel_id, log in list(self._logs.items()):
            if self._members <= self._max_members:
                return
            if log is not newest and not log.uses and log.settled:
                del self._logs[channel_id]
                self._members -= len(log.members) + 1

    def drop(self, log: ChannelLog) -> None:
        """Voids a channel's assigned state: what is stored is read anew."""
        log.dead = True
        if self._logs.get(log.id) is log:
            del self._logs[log.id]
            self._members -= len(log.members) + 1

    def forget(self, is_lost: Callable[[str], bool]) -> None:
        """Drops the channels that another process may change from now on, those too that are being
        read.

        Args:
            is_lost: Whether a channel of this id is one.
        """
        for log in list(self._logs.values()):
            if is_lost(log.id):
                self.drop(log)
        self._void.update(filter(is_lost, self._loading))

    @asynccontextmanager
    async def use(self, channel_id: str) -> AsyncIterator[ChannelLog]:
        """A channel that stays in memory for the length of an operation.

        Raises:
            Refusal: CHANNEL_NOT_FOUND.
        """
        log = await self.get(channel_id)
        if log is None:
            raise not_found(channel_id)
        log.uses += 1
        try:
            yield log
        finally:
            log.uses -= 1

    async def member(self, log: ChannelLog, user_id: str) -> MemberRecord | None:
        """A user's row. In broadcast channels rows are read one by one."""
        member = log.members.get(user_id)
        if member is None and log.is_broadcast:
            member = await self.store.member(log.id, user_id)
            # Somebody else may have read or made it in the meantime.
            if member is not None:
                known = log.members.get(user_id)
                if known is not None:
                    return known
                log.members[user_id] = member
                self._members += 1
        return member

    # --- writing ---

    async def wait_for_room(self) -> None:
        """Holds new work back while too much waits for the store: back-pressure."""
        while self.store.backlog_bytes > self._max_backlog_bytes:
            self._room.clear()
            await self._room.wait()

    def submit(self, log: ChannelLog, writes: Sequence[Write], done: OnDone) -> None:
        """Hands assigned writes of one channel to the store. Never waits.

        Of one alone: a store may write channels side by side, and what would wait for another
        channel would be told of after what follows it in its own.

        Args:
            done: Called when they are durable and their entries were passed on, or when the
                store failed and the channel was dropped.
        """
        entries = [write for write in writes if type(write) is AppendEntry]

        def committed(_stamp: int, error: Exception | None) -> None:
            if self.store.backlog_bytes <= self._max_backlog_bytes:
                self._room.set()
            if error is not None:
                self.drop(log)
                done(error)
                return
            for entry in entries:
                log.committed_id = entry.id
                log.committed_count = entry.timeline_count
                self.on_entry(log, entry)
            done(None)

        self.store.submit(writes, committed)

    async def commit(
        self,
        log: ChannelLog,
        writes: Sequence[Write],
        after: Callable[[], None] | None = None,
    ) -> None:
        """`submit`, waiting until the writes are durable.

        Args:
            after: Called when they are durable or failed, also if the caller has gone away.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if after is not None:
                after()
            if future.done():  # the caller went away; what was submitted holds all the same
                return
            if error is None:
                future.set_result(None)
            elif isinstance(error, StoreUnavailable):
                future.set_exception(storage_unavailable())
            else:
                future.set_exception(error)

        self.submit(log, writes, done)
        await future
