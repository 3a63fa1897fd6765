"""Keys, ranges and entries between etcd's messages and the port."""

from __future__ import annotations

from chinwag_server.mesh.coordination import Deleted, Entry
from chinwag_server.mesh.etcd.pb import kv_pb2


def end_of(prefix: str) -> bytes:
    """The end of the range of all keys that start with `prefix`: the first key after them.

    Raises:
        ValueError: There is no prefix: that would be every key of the cluster.
    """
    if not prefix:
        raise ValueError("expected a prefix of keys, got an empty one")
    raw = prefix.encode()  # UTF-8 has no byte 0xff, so the last one can be raised
    return raw[:-1] + bytes((raw[-1] + 1,))


def entry_of(pair: kv_pb2.KeyValue) -> Entry:
    """A key as it was read. One that is not UTF-8 is not ours, and is shown with marks."""
    key = pair.key.decode(errors="replace")
    return Entry(key, pair.value, pair.create_revision, pair.mod_revision, pair.lease)


def change_of(event: kv_pb2.Event) -> Entry | Deleted:
    """What a watch tells."""
    if event.type == kv_pb2.Event.DELETE:
        return Deleted(event.kv.key.decode(errors="replace"), event.kv.mod_revision)
    return entry_of(event.kv)
