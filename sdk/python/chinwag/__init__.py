"""chinwag: a chat client that keeps the delivery contract.

    async with chinwag.connect("localhost:7400", session) as client:
        await client.channel(channel_id).send("hello")
        async for event in client.events():
            ...

The folders named `.../v1` are generated from the contract; what is written by hand stands beside
them. Names are imported when they are first used, so that a program that needs the generated
messages alone pays for nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinwag.backend import Backend as Backend
    from chinwag.channel import Channel as Channel
    from chinwag.client import Client as Client
    from chinwag.client import connect as connect
    from chinwag.errors import ChinwagError as ChinwagError
    from chinwag.events import Cursor as Cursor
    from chinwag.outbox import Sent as Sent
    from chinwag.session import Session as Session
    from chinwag.session import log_in as log_in
    from chinwag.session import sign_up as sign_up
    from chinwag.sqlite_store import SqliteStore as SqliteStore
    from chinwag.store import MemoryStore as MemoryStore

__version__ = "0.1.0"

_HOMES = {
    "Backend": "chinwag.backend",
    "Cursor": "chinwag.events",
    "Channel": "chinwag.channel",
    "ChinwagError": "chinwag.errors",
    "Client": "chinwag.client",
    "MemoryStore": "chinwag.store",
    "Sent": "chinwag.outbox",
    "Session": "chinwag.session",
    "SqliteStore": "chinwag.sqlite_store",
    "connect": "chinwag.client",
    "log_in": "chinwag.session",
    "sign_up": "chinwag.session",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in ("backend", "blocking", "errors", "events"):
        return importlib.import_module(f"chinwag.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'chinwag' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
