"""Bounded memory of what was looked up, dropped as soon as it may have changed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """The newest and the most used values, in two generations: when the young one is full it
    becomes the old one, and what nobody asked for since goes. Cheaper than an order of use that
    every hit changes.

    Args:
        size: At most so many values.
    """

    def __init__(self, size: int) -> None:
        self._half = max(size // 2, 1)
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        value = self._young.get(key)
        if value is None and (value := self._old.pop(key, None)) is not None:
            self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remembers a value, which is not None."""
        self._old.pop(key, None)
        self._young[key] = value
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}


class Epochs:
    """Numbers that change with a subject: what was remembered under an older one is void.

    To drop everything about a user costs one assignment, however much it is. Read the number
    *before* looking something up, and remember it with what was found: a change in between then
    voids it too.

    Args:
        size: Subjects of which the change is remembered; above it, all of them count as changed.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._changed: dict[str, int] = {}
        self._floor = 0
        self._newest = 0

    def of(self, subject: str) -> int:
        """The subject's number."""
        return self._changed.get(subject, self._floor)

    def found(self, subject: str, epoch: int, version: int) -> None:
        """Something was found that will be remembered.

        Args:
            epoch: The number under which it will be.
            version: The user's, read before what was found (0: there is no such user). Who shares
                the store with others sees by it whether they have changed something.
        """

    def change(self, subject: str) -> None:
        """Gives a subject another number."""
        self._newest += 1
        self._changed[subject] = self._newest
        if len(self._changed) > self._size:
            self._newest += 1
            self._floor = self._newest
            self._changed.clear()
