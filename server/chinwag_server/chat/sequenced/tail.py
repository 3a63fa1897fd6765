"""The end of a log as a new owner finds it, and what of it is the log's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chinwag.mesh.v1 import log_pb2
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.tables import Tables
from chinwag_server.chat.store import EntryKind

# Ids above the head that may be in flight: a span. Never lower it between two versions.
WINDOW = 128
PAGE = 250


@dataclass(slots=True, frozen=True)
class Head:
    """A committed end of a log.

    Attributes:
        epoch: Of the entry's record.
        last_message_id: The newest message of the main timeline, 0 if none.
    """

    id: int = 0
    count: int = 0
    time_us: int = 0
    last_message_id: int = 0
    epoch: int = 0

    def after(self, entry_id: int, record: log_pb2.LogRecord) -> Head:
        """The head once an entry is committed."""
        main = record.kind == EntryKind.MESSAGE_SENT and not record.thread_root_id
        return Head(
            entry_id,
            record.timeline_count,
            record.time_us,
            entry_id if main else self.last_message_id,
            record.epoch,
        )

    def pack(self) -> bytes:
        """For the channel's row."""
        numbers = (self.id, self.count, self.time_us, self.last_message_id, self.epoch)
        return b" ".join(b"%d" % number for number in numbers)

    @staticmethod
    def unpack(packed: bytes) -> Head:
        """What `pack` made; nothing is the head of a log without entries."""
        return Head(*(int(number) for number in packed.split())) if packed else Head()


Found = tuple[int, log_pb2.LogRecord]


async def read_after(tables: Tables, channel_id: str, head: Head) -> list[Found]:
    """The entries above a head that was announced which belong to the log: the longest run without
    a hole in which the epoch never falls.

    What lies behind a hole was in flight and never acked. So was what follows on an entry of a
    later epoch: a late writer of an older epoch wrote it where a newer owner did not look.

    Raises:
        TablesUnavailable: It is not known what is there; that is not the same as nothing.
    """
    kept: list[Found] = []
    last, epoch = head.id, head.epoch
    while True:
        bucket = schema.bucket_of(last + 1)
        rows = await tables.read(schema.ENTRIES, (channel_id, bucket), after=(last,), limit=PAGE)
        for row in rows:
            record = log_pb2.LogRecord.FromString(row.blob("record"))
            if row.key[0] != last + 1 or record.epoch < epoch:
                return kept
            last, epoch = last + 1, record.epoch
            kept.append((last, record))
        if len(rows) < PAGE and schema.bucket_of(last + 1) == bucket:
            return kept


def spans(first_id: int, last_id: int) -> Sequence[tuple[int, int, int]]:
    """A run of ids by bucket: (bucket, first, last) of each."""
    found: list[tuple[int, int, int]] = []
    while first_id <= last_id:
        bucket = schema.bucket_of(first_id)
        end = min(last_id, (bucket + 1) * schema.BUCKET - 1)
        found.append((bucket, first_id, end))
        first_id = end + 1
    return found
