"""The keys of the shards as last seen: who holds which."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from chinwag_server.mesh.coordination import Entry, Snapshot
from chinwag_server.mesh.shards import SHARDS

# Its key stands among those of the shards, so that one watch tells of both.
BASE = "base"

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Holder:
    """Who holds a shard's key: what its value says.

    Attributes:
        nonce: In hex.
    """

    node_id: str
    nonce: str

    def to_json(self) -> bytes:
        """The value of the key."""
        return json.dumps({"node": self.node_id, "nonce": self.nonce}).encode()

    @classmethod
    def from_json(cls, value: bytes) -> Holder:
        """Reads a value.

        Raises:
            ValueError: This is no holder.
        """
        try:
            fields = json.loads(value)
            return cls(str(fields["node"]), str(fields["nonce"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected the holder of a shard, got {value[:200]!r}") from error


class ShardKeys:
    """What a watch of the keys has told, and what was learnt ahead of it.

    Attributes:
        revision: Of the last news; 0: there were none yet.
        base: What is added to revisions to make epochs; 0 unless epochs were raised.
        entries: By shard.
        holders: By shard, of the entries that can be read.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = f"{prefix}shards/"
        self.revision = 0
        self.base = 0
        self.entries: dict[int, Entry] = {}
        self.holders: dict[int, Holder] = {}

    def key(self, shard: int) -> str:
        """The key of a shard."""
        return f"{self.prefix}{shard:04d}"

    def replace(self, news: Snapshot) -> None:
        """All keys as they are."""
        self.base = 0
        self.entries.clear()
        self.holders.clear()
        self.revision = news.revision
        for entry in news.entries:
            self.note(entry.key, entry)

    def note(self, key: str, entry: Entry | None) -> int | None:
        """A key as it is now, None: it is gone. Gives its shard, if it is one's."""
        name = key.removeprefix(self.prefix)
        if name == BASE:
            self.base = read_base(entry)
            return None
        if not (name.isdecimal() and int(name) < SHARDS):
            log.warning("%s is no key of a shard", key)
            return None
        shard = int(name)
        self.holders.pop(shard, None)
        if entry is None:
            self.entries.pop(shard, None)
            return shard
        self.entries[shard] = entry
        try:
            self.holders[shard] = Holder.from_json(entry.value)
        except ValueError as error:
            log.warning("shard %d is held by nobody we know: %s", shard, error)
        return shard

    def note_ahead(self, entry: Entry) -> None:
        """A key as an answer showed it. What the watch has passed already is there or gone, as
        the watch says."""
        if entry.mod_revision > self.revision:
            self.note(entry.key, entry)

    def note_deleted(self, shard: int, create_revision: int) -> None:
        """The key that was made then is gone."""
        entry = self.entries.get(shard)
        if entry is not None and entry.create_revision == create_revision:
            self.note(entry.key, None)


def read_base(entry: Entry | None) -> int:
    """The base that a key holds; one that cannot be read is none, and epochs are refused then."""
    if entry is None:
        return 0
    if not entry.value.isdigit():
        log.error("%s holds no base of epochs: %r", entry.key, entry.value[:200])
        return 0
    return int(entry.value)
