"""`Coordination` on etcd."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from chinwag_server.mesh.coordination import (
    Changes,
    CoordinationUnavailable,
    Entry,
    Lease,
    LeaseGone,
    Snapshot,
)
from chinwag_server.mesh.etcd.client import EtcdClient, Member, Metadata
from chinwag_server.mesh.etcd.keys import end_of, entry_of
from chinwag_server.mesh.etcd.pb import rpc_pb2
from chinwag_server.mesh.etcd.watching import watch

MAX_ENTRIES = 16 * 1024  # of one list


class EtcdCoordination:
    """etcd 3.4 or newer. It closes the client."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    async def grant(self, ttl_s: int) -> Lease:
        async def attempt(member: Member, metadata: Metadata) -> Lease:
            sent = self._client.clock.monotonic()
            request = rpc_pb2.LeaseGrantRequest(TTL=ttl_s)
            reply = await member.lease.LeaseGrant(request, metadata=metadata)
            return Lease(reply.ID, reply.TTL, sent)

        return await self._client.reach(attempt)

    async def keep_alive(self, lease: int) -> float:
        async def attempt(member: Member, metadata: Metadata) -> float:
            # A stream for one question: no answer to an older one can be taken for this one's.
            sent = self._client.clock.monotonic()
            call = member.lease.LeaseKeepAlive(metadata=metadata)
            try:
                await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
                reply = await call.read()
            finally:
                call.cancel()
            if not isinstance(reply, rpc_pb2.LeaseKeepAliveResponse):
                raise TimeoutError  # the stream ended
            if reply.TTL <= 0:
                raise LeaseGone(f"etcd has no lease {lease:x}")
            return sent

        return await self._client.reach(attempt)

    async def revoke(self, lease: int) -> None:
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        try:
            await self._client.call(lambda member: member.lease.LeaseRevoke, request)
        except LeaseGone:
            return

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        request = rpc_pb2.PutRequest(key=key.encode(), value=value, lease=lease)
        reply = await self._client.call(lambda member: member.kv.Put, request)
        return reply.header.revision

    async def create(self, key: str, value: bytes, lease: int = 0) -> Entry:
        absent = rpc_pb2.Compare(
            result=rpc_pb2.Compare.EQUAL,
            target=rpc_pb2.Compare.CREATE,
            key=key.encode(),
            create_revision=0,
        )
        entry = await self._write_if(absent, key, value, lease)
        if entry is None:
            raise CoordinationUnavailable(f"etcd says of {key} that it is there and that it is not")
        return entry

    async def replace(
        self, key: str, mod_revision: int, value: bytes, lease: int = 0
    ) -> Entry | None:
        unchanged = rpc_pb2.Compare(
            result=rpc_pb2.Compare.EQUAL,
            target=rpc_pb2.Compare.MOD,
            key=key.encode(),
            mod_revision=mod_revision,
        )
        return await self._write_if(unchanged, key, value, lease)

    async def delete_if(self, key: str, create_revision: int, value: bytes) -> None:
        raw = key.encode()
        made_then = rpc_pb2.Compare(
            result=rpc_pb2.Compare.EQUAL,
            target=rpc_pb2.Compare.CREATE,
            key=raw,
            create_revision=create_revision,
        )
        holds_it = rpc_pb2.Compare(
            result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.VALUE, key=raw, value=value
        )
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=raw))
        request = rpc_pb2.TxnRequest(compare=[made_then, holds_it], success=[delete])
        await self._client.call(lambda member: member.kv.Txn, request)

    async def list(self, prefix: str) -> Snapshot:
        return await self._list_at(prefix, 0)

    async def _list_at(self, prefix: str, revision: int) -> Snapshot:
        """As it was at a revision; 0: as it is. The revision of the answer is etcd's in any case.

        Raises:
            RevisionAway: It is forgotten, or was not yet.
            CoordinationUnavailable: It is not known what there is.
        """
        request = rpc_pb2.RangeRequest(
            key=prefix.encode(), range_end=end_of(prefix), limit=MAX_ENTRIES, revision=revision
        )
        reply = await self._client.call(lambda member: member.kv.Range, request)
        if reply.more:
            raise CoordinationUnavailable(
                f"etcd has {reply.count} keys under {prefix}, at most {MAX_ENTRIES} are read: "
                "is the prefix used by something else?"
            )
        return Snapshot(reply.header.revision, tuple(entry_of(pair) for pair in reply.kvs))

    def watch(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        return watch(self._client, prefix, self._list_at)

    async def close(self) -> None:
        await self._client.close()

    async def _write_if(
        self, condition: rpc_pb2.Compare, key: str, value: bytes, lease: int
    ) -> Entry | None:
        """Writes under a condition, and gives the key as it is then."""
        raw = key.encode()
        put = rpc_pb2.PutRequest(key=raw, value=value, lease=lease)
        write = rpc_pb2.RequestOp(request_put=put)
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=raw))
        request = rpc_pb2.TxnRequest(compare=[condition], success=[write, read], failure=[read])
        reply = await self._client.call(lambda member: member.kv.Txn, request)
        found = reply.responses[-1].response_range.kvs
        return entry_of(found[0]) if found else None
