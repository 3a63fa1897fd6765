"""An epoch: one ownership of one shard."""

from __future__ import annotations

from chinwag_server.mesh.lease import HeldLease


class EpochRefused(Exception):
    """What is stored elsewhere of this shard has a higher epoch, or the same of another owner: the
    coordination was restored or rebuilt. The text says what to do."""


class Epoch:
    """One ownership of one shard. It ends once and for good.

    Args:
        base: What revisions lack, where etcd was restored or rebuilt (`mesh.raising`).

    Attributes:
        revision: At which the key was made.
        number: Of the epoch, which is the revision and the base: greater than that of all epochs
            of the shard before.
        nonce: Drawn for the claim; revisions can repeat after a restore.
    """

    __slots__ = ("_held", "_over", "nonce", "number", "revision", "shard")

    def __init__(
        self, shard: int, revision: int, nonce: bytes, held: HeldLease, *, base: int = 0
    ) -> None:
        self.shard = shard
        self.revision = revision
        self.number = base + revision
        self.nonce = nonce
        self._held = held
        self._over = False

    def alive(self) -> bool:
        """Whether this process certainly owns the shard now. Once this is false it stays so."""
        return not self._over and self._held.alive()

    def end(self) -> None:
        """It counts no more."""
        self._over = True

    def __repr__(self) -> str:
        return f"Epoch(shard={self.shard}, number={self.number}, nonce={self.nonce.hex()})"
