"""Fixtures of tests over real sockets; the others need none."""

from tests.server.fixtures import bare_server, server, server_process, start_node

__all__ = ["bare_server", "server", "server_process", "start_node"]
