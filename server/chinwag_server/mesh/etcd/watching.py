"""A watch of a prefix in etcd that goes on over everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from grpc.aio import AioRpcError

from chinwag_server.mesh.coordination import (
    Changes,
    CoordinationUnavailable,
    Entry,
    LeaseGone,
    Snapshot,
)
from chinwag_server.mesh.etcd.client import EtcdClient, RevisionAway
from chinwag_server.mesh.etcd.keys import change_of, end_of
from chinwag_server.mesh.etcd.pb import rpc_pb2

RETRY_S = 0.1  # after the first failure; doubles
MAX_RETRY_S = 2.0

log = logging.getLogger(__name__)


class _HistoryGone(Exception):
    """What happened since the last event is not to be had: the whole state is."""


async def watch(
    client: EtcdClient, prefix: str, list_at: Callable[[str, int], Awaitable[Snapshot]]
) -> AsyncGenerator[Snapshot | Changes, None]:
    """The work of `Coordination.watch`.

    Args:
        list_at: All keys of a prefix as they were at a revision; 0: as they are.
    """
    known = 0  # the revision that the caller has; 0: it needs a Snapshot
    state: dict[str, Entry] = {}  # what the caller has of it
    is_fresh = False
    retry_s = RETRY_S
    while not client.closed:
        try:
            if known == 0:
                snapshot = await list_at(prefix, 0)
                known, state = snapshot.revision, {entry.key: entry for entry in snapshot.entries}
                is_fresh = True
                yield snapshot
            if not is_fresh:
                await _check_history(prefix, known, state, list_at)
            is_fresh = False
            async with aclosing(_stream(client, prefix, known)) as stream:
                async for changes in stream:
                    retry_s = RETRY_S
                    known = changes.revision
                    _apply(changes, state)
                    yield changes
        except _HistoryGone as error:
            log.warning("the watch of %s starts over: %s", prefix, error)
            known = 0
        except CoordinationUnavailable as error:
            if not client.closed:
                log.warning("the watch of %s is interrupted: %s", prefix, error)
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, MAX_RETRY_S)


def _apply(changes: Changes, state: dict[str, Entry]) -> None:
    for change in changes.changes:
        if isinstance(change, Entry):
            state[change.key] = change
        else:
            state.pop(change.key, None)


async def _check_history(
    prefix: str,
    known: int,
    state: dict[str, Entry],
    list_at: Callable[[str, int], Awaitable[Snapshot]],
) -> None:
    """Makes sure that what is known of a revision is what etcd knows of it. While there was no
    stream it may have been restored from an older copy, and have come past that revision again.

    Raises:
        _HistoryGone: It is not.
        CoordinationUnavailable: It cannot be told.
    """
    try:
        found = await list_at(prefix, known)
    except RevisionAway as error:
        raise _HistoryGone(str(error)) from error
    if {entry.key: entry for entry in found.entries} != state:
        raise _HistoryGone(f"revision {known} is of another history: etcd was restored")


async def _stream(client: EtcdClient, prefix: str, known: int) -> AsyncGenerator[Changes, None]:
    """What happens after a revision, for as long as one stream lives.

    Raises:
        _HistoryGone: The changes after `known` are forgotten, or were never made.
        CoordinationUnavailable: The stream broke.
    """
    member = client.member()
    request = rpc_pb2.WatchCreateRequest(
        key=prefix.encode(), range_end=end_of(prefix), start_revision=known + 1
    )
    call = None
    try:
        async with asyncio.timeout(client.attempt_s):
            call = member.watch.Watch(metadata=await client.metadata(member))
            await call.write(rpc_pb2.WatchRequest(create_request=request))
            reply = await call.read()
        while isinstance(reply, rpc_pb2.WatchResponse):  # else the stream ended
            if reply.compact_revision:
                raise _HistoryGone(f"history before {reply.compact_revision} is compacted")
            if reply.canceled:
                # Also a token that has ended looks like this.
                client.forget_token()
                raise CoordinationUnavailable(f"etcd ended it: {reply.cancel_reason}")
            if reply.created and reply.header.revision < known:
                # etcd would wait for the future without a word.
                now = reply.header.revision
                raise _HistoryGone(f"it is at revision {now}, we were at {known}")
            if reply.events:
                changes = tuple(change_of(event) for event in reply.events)
                yield Changes(reply.events[-1].kv.mod_revision, changes)
            reply = await call.read()
        client.failed(member)
        raise CoordinationUnavailable(f"{member.endpoint} ended the stream")
    except AioRpcError as error:
        client.failed(member)
        try:
            told = client.judge(error)
        except LeaseGone:
            told = str(error.details())
        raise CoordinationUnavailable(f"{member.endpoint}: {told}") from error
    except TimeoutError as error:
        client.failed(member)
        client.forget_token()
        raise CoordinationUnavailable(f"{member.endpoint}: no answer") from error
    except asyncio.CancelledError:
        # Closing the channel looks like this, too.
        task = asyncio.current_task()
        if client.closed and task is not None and not task.cancelling():
            return
        raise
    finally:
        if call is not None:
            call.cancel()
