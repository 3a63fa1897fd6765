"""Redis, from Debian's packages: one server in a folder, or a replica of one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from tools.engines import debian
from tools.engines.process import Child, free_port

HOST = "127.0.0.1"
PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
REPLICA_S = 10.0


class Redis:
    """One server. It starts with what its folder holds, which is nothing unless it `persists`.

    Args:
        folder: Of its own; made if it is not there.
        password: Of the default user; "": none is asked for.
        tls: The server's certificate, which is its own authority, and its key.
        maxmemory: As "64mb"; "": no bound.
        policy: What it does at that bound.
        persists: Whether a stop saves its data.
        primary: What it is a replica of.
        lines: More lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        tls: tuple[Path, Path] | None = None,
        maxmemory: str = "",
        policy: str = "noeviction",
        persists: bool = False,
        primary: Redis | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        self.port = free_port(HOST)
        self._password = password
        self._tls = tls
        self._primary = primary
        folder.mkdir(parents=True, exist_ok=True)
        settings = [
            f"bind {HOST}",
            f"dir {folder}",
            "appendonly no",
            "repl-diskless-sync-delay 0",
            "save 3600 1" if persists else 'save ""',
            *(_tls_lines(self.port, *tls) if tls else [f"port {self.port}"]),
            *([f"requirepass {password}", f"masterauth {password}"] if password else []),
            *([f"maxmemory {maxmemory}", f"maxmemory-policy {policy}"] if maxmemory else []),
            *([f"replicaof {HOST} {primary.port}", "repl-diskless-load swapdb"] if primary else []),
            *lines,
        ]
        # Not on the command line, where everybody may read the password.
        config = folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("\n".join(settings) + "\n")
        unpacked = debian.unpack("redis", PACKAGES)
        self.child = Child(
            "Redis",
            [unpacked / "usr/bin/redis-server", config],
            log=folder / "redis.log",
            ready=self._ready,
            ready_s=10.0,
            cwd=folder,
            env=debian.library_path(unpacked),
        )

    @property
    def url(self) -> str:
        """With the password."""
        login = f":{self._password}@" if self._password else ""
        ca = f"?ca={self._tls[0]}" if self._tls else ""
        return f"{'rediss' if self._tls else 'redis'}://{login}{HOST}:{self.port}/0{ca}"

    def start(self) -> None:
        """Starts it; a replica has all data of its primary then.

        Raises:
            EngineError: It does not serve in time.
        """
        self.child.start()
        if self._primary is not None:
            self._wait_synced()

    def stop(self) -> None:
        """SIGTERM."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self.child.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.child.thaw()

    def promote(self) -> None:
        """Makes a replica a primary."""
        self._primary = None
        with self.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def client(self) -> redis.Redis:
        """A connection of one's own, to look and to break things; to be closed."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            password=self._password or None,
            ssl=self._tls is not None,
            ssl_ca_certs=str(self._tls[0]) if self._tls else None,
            socket_timeout=5.0,
        )

    def _ready(self) -> bool:
        """Whether it answers, be it that a password is needed."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 0.5) as raw:
            raw.settimeout(0.5)
            with self._wrapped(raw) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def _wrapped(self, raw: socket.socket) -> socket.socket:
        if self._tls is None:
            return raw
        context = ssl.create_default_context(cafile=str(self._tls[0]))
        return context.wrap_socket(raw, server_hostname=HOST)

    def _wait_synced(self) -> None:
        until = time.monotonic() + REPLICA_S
        with self.client() as client:
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < until, f"the replica is behind:\n{self.child.tail()}"
                time.sleep(0.05)


def _tls_lines(port: int, certificate: Path, key: Path) -> list[str]:
    return [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {certificate}",
        "tls-auth-clients no",
    ]
