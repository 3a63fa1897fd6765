"""The SDK without asyncio, for scripts and for backends that use threads.

    with chinwag.blocking.connect("localhost:7400", session) as client:
        client.send(channel_id, "hello")
        for event in client.events():
            ...

The same core (`chinwag.protocol`) as in the asyncio client, over grpc's blocking stubs: one thread
reads, and the thread in which grpc takes the requests keeps time. No event loop is started.
"""

from chinwag.blocking.backend import Backend
from chinwag.blocking.calls import log_in, sign_up
from chinwag.blocking.client import Client, connect

__all__ = ["Backend", "Client", "connect", "log_in", "sign_up"]
