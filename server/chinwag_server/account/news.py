"""What changed in the account store, told from node to node.

Who commits a change publishes it on the bus; whoever hears it calls the same hooks as for a change
of its own. News only hasten: one that is lost is made up for by the `Audit`, within its time.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from chinwag.common.v1 import close_pb2
from chinwag_server.account.sessions import OnEnd
from chinwag_server.mesh.bus import Bus, Undo

log = logging.getLogger(__name__)

# Of the form of a message. Kinds and fields may be added within it: who does not know them passes
# over them.
VERSION = 1
MAX_BYTES = 1024

_REASONS = frozenset(close_pb2.CloseReason.values())


@dataclass(slots=True, frozen=True)
class UserChanged:
    """A commit to a user's partition: their profile, privacy, ban, sessions, blocks, or their side
    of a friendship. Of a pair, each side has its own."""

    user_id: str


@dataclass(slots=True, frozen=True)
class EventsAdded:
    """A user's log of events has grown."""

    user_id: str


@dataclass(slots=True, frozen=True)
class SessionEnded:
    """A device's session has ended, or with "" all of a user's: also by a ban or a deletion.

    Attributes:
        reason: A `CloseReason`.
    """

    user_id: str
    device_id: str
    reason: int


@dataclass(slots=True, frozen=True)
class KeyRevoked:
    """An API key was revoked."""

    api_key_id: str


@dataclass(slots=True, frozen=True)
class SigningKeysChanged:
    """A key that signs access tokens was made or dropped."""


News = UserChanged | EventsAdded | SessionEnded | KeyRevoked | SigningKeysChanged

_KINDS: dict[str, type[News]] = {
    "user": UserChanged,
    "events": EventsAdded,
    "session": SessionEnded,
    "key": KeyRevoked,
    "signing keys": SigningKeysChanged,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TYPES = {"str": str, "int": int}


def encode(news: News, node: str) -> bytes:
    """A message of a node."""
    message = {"v": VERSION, "node": node, "kind": _NAMES[type(news)], **asdict(news)}
    return json.dumps(message, separators=(",", ":")).encode()


def decode(payload: bytes) -> tuple[str, News | None]:
    """The node that a message is of, and its news; None: of a kind or form that is not known here.

    Raises:
        ValueError: It is no such message.
    """
    if len(payload) > MAX_BYTES:
        raise ValueError(f"{len(payload)} bytes, at most {MAX_BYTES} may come")
    try:
        message: Any = json.loads(payload)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(message, dict) or not isinstance(message.get("node"), str):
        raise ValueError("it names no node")
    kind = message.get("kind")
    made: Any = _KINDS.get(kind) if isinstance(kind, str) else None
    if message.get("v") != VERSION or made is None:
        return message["node"], None
    values = {field.name: message.get(field.name) for field in fields(made)}
    for field in fields(made):
        if type(values[field.name]) is not _TYPES[str(field.type)]:
            raise ValueError(f"{field.name} of {kind!r} is {values[field.name]!r}")
    return message["node"], made(**values)


@dataclass(slots=True, frozen=True)
class Hooks:
    """What is called for changes, here or on another node. The lists are those of who makes the
    changes: what they tell of is published, what is heard calls all that is in them.

    Attributes:
        on_change, on_event: Of `Users`.
        on_end: Of `Sessions`.
        on_revoke: Of `ApiKeys`.
        on_keys: Of `SigningKeys`.
        heard_user: Called first, for a user whom another node has changed.
        heard_keys: Called when another node has changed the signing keys.
    """

    on_change: list[Callable[[str], None]]
    on_event: list[Callable[[str], None]]
    on_end: list[OnEnd]
    on_revoke: list[Callable[[str], None]]
    on_keys: list[Callable[[], None]]
    heard_user: Callable[[str], None]
    heard_keys: Callable[[], None]


class AccountNews:
    """A node's news: publishes its own, hears those of others.

    Args:
        topic: Of all nodes that share a store, and of nobody else.
        node: This one, unlike all others: what it publishes comes back to it, and is passed over.
        on_gap: Called when news may have been missed.
    """

    def __init__(
        self, bus: Bus, hooks: Hooks, *, topic: str, node: str, on_gap: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._hooks = hooks
        self._topic = topic
        self._node = node
        self._on_gap = on_gap
        self._undo: list[Undo] = []
        self._quiet = False

    def start(self) -> None:
        """Begins to publish and to hear."""
        hooks = self._hooks
        hooks.on_change.append(lambda user_id: self._publish(UserChanged(user_id)))
        hooks.on_event.append(lambda user_id: self._publish(EventsAdded(user_id)))
        hooks.on_end.append(
            lambda user_id, device_id, reason: self._publish(
                SessionEnded(user_id, device_id or "", reason)
            )
        )
        hooks.on_revoke.append(lambda key_id: self._publish(KeyRevoked(key_id)))
        hooks.on_keys.append(lambda: self._publish(SigningKeysChanged()))
        self._undo = [
            self._bus.subscribe(self._topic, self._received),
            self._bus.on_gap(self._on_gap),
        ]

    def stop(self) -> None:
        """Neither publishes nor hears any more."""
        self._quiet = True
        for undo in self._undo:
            undo()
        self._undo = []

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Publishes nothing of what hooks are called for meanwhile, without a wait: others have
        heard of it, or find it out as this node did."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _publish(self, news: News) -> None:
        if not self._quiet:
            self._bus.publish(self._topic, encode(news, self._node))

    def _received(self, payload: bytes) -> None:
        try:
            node, news = decode(payload)
        except ValueError as error:
            log.warning("a message on %s was passed over: %s", self._topic, error)
            return
        if news is not None and node != self._node:
            with self.quietly():
                self._handle(news)

    def _handle(self, news: News) -> None:
        hooks = self._hooks
        match news:
            case UserChanged(user_id):
                hooks.heard_user(user_id)
                for changed in hooks.on_change:
                    changed(user_id)
            case EventsAdded(user_id):
                for grown in hooks.on_event:
                    grown(user_id)
            case SessionEnded(user_id, device_id, reason):
                known = reason if reason in _REASONS else close_pb2.CLOSE_REASON_SESSION_REVOKED
                for ended in hooks.on_end:
                    ended(user_id, device_id or None, close_pb2.CloseReason.ValueType(known))
            case KeyRevoked(api_key_id):
                for revoked in hooks.on_revoke:
                    revoked(api_key_id)
            case SigningKeysChanged():
                hooks.heard_keys()
