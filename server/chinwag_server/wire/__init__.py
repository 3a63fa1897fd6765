"""wire: a gRPC server core on asyncio. See README.md; it knows nothing of chat."""

from __future__ import annotations

from chinwag_server.wire.limits import Limits
from chinwag_server.wire.listener import Tls
from chinwag_server.wire.server import Server
from chinwag_server.wire.status import CallError, Code

__all__ = ["CallError", "Code", "Limits", "Server", "Tls"]
