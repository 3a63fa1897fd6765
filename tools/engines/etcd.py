"""etcd from Debian's package: one member, or a cluster of three on 127.0.0.1, .2 and .3."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.engines import debian
from tools.engines.process import Child, free_port

READY_S = 20.0
CALL_S = 5.0
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@dataclass(slots=True, frozen=True)
class TlsFiles:
    """PEM files of a server: its certificate and key, and what signed it."""

    ca: Path
    cert: Path
    key: Path


class Etcd:
    """One member: of its own cluster, unless `cluster` says otherwise.

    Args:
        folder: For its data and log; made if it is not there.
        tls: Clients then have to speak TLS.
        cluster: "NAME=PEER_URL" of all members; needs `peer_port`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "e1",
        host: str = "127.0.0.1",
        tls: TlsFiles | None = None,
        peer_port: int = 0,
        cluster: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = free_port(host)
        self._tls = tls
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        peer = f"http://{host}:{peer_port or free_port(host)}"
        binary = debian.unpack("etcd", ["etcd-server"]) / "usr/bin/etcd"
        command: list[str | Path] = [binary, "--name", name, "--data-dir", folder / "data"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", cluster or f"{name}={peer}"]
        command += ["--initial-cluster-state", "new"]
        if tls:
            command += ["--cert-file", tls.cert, "--key-file", tls.key]
        self.child = Child(
            f"etcd {name}", command, log=folder / "log", ready=self.healthy, ready_s=READY_S
        )

    @property
    def endpoint(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.host}:{self.port}"

    def healthy(self) -> bool:
        """Whether it serves, and knows a leader."""
        try:
            return bool(self._http("/health").get("health") == "true")
        except (OSError, ValueError):
            return False

    def leads(self) -> bool:
        """Whether it is its cluster's leader."""
        status = self.call("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])

    def compact(self) -> None:
        """Forgets all history up to now."""
        revision = self.call("maintenance/status", {})["header"]["revision"]
        self.call("kv/compaction", {"revision": revision, "physical": True})

    def require_users(self, root_password: str, users: dict[str, tuple[str, str]]) -> None:
        """Switches authentication on, once for a cluster.

        Args:
            users: By name: password, and the prefix of the keys that the user may read and write.
        """
        self.call("auth/user/add", {"name": "root", "password": root_password})
        self.call("auth/role/add", {"name": "root"})
        self.call("auth/user/grant", {"user": "root", "role": "root"})
        for name, (password, prefix) in users.items():
            self.call("auth/user/add", {"name": name, "password": password})
            self.call("auth/role/add", {"name": name})
            keys = {"key": _base64(prefix), "range_end": _base64(_after(prefix))}
            permission = {"permType": "READWRITE", **keys}
            self.call("auth/role/grant", {"name": name, "perm": permission})
            self.call("auth/user/grant", {"user": name, "role": name})
        self.call("auth/enable", {})

    def call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call through etcd's own JSON gateway; bytes are base64, 64-bit numbers strings.

        Raises:
            OSError: It does not answer, or refuses.
        """
        return self._http(f"/v3/{method}", body)

    def start(self) -> None:
        """Starts it and waits until it serves.

        Raises:
            EngineError: It does not.
        """
        self.child.start()

    def stop(self) -> None:
        """Ends it in its own way."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with its data."""
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.child.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.child.thaw()

    def _http(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)
        context = ssl.create_default_context(cafile=str(self._tls.ca)) if self._tls else None
        # Straight to it, whatever proxy the environment names.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=CALL_S) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise OSError(f"etcd refuses {path}: {error.code} {text}") from error


class EtcdCluster:
    """Three members.

    Args:
        folder: For their data and logs.
    """

    def __init__(self, folder: Path) -> None:
        peers = [free_port(host) for host in HOSTS]
        names = [f"e{number}" for number in range(1, len(HOSTS) + 1)]
        cluster = ",".join(
            f"{name}=http://{host}:{port}"
            for name, host, port in zip(names, HOSTS, peers, strict=True)
        )
        self.members = [
            Etcd(folder / name, name=name, host=host, peer_port=port, cluster=cluster)
            for name, host, port in zip(names, HOSTS, peers, strict=True)
        ]

    @property
    def endpoints(self) -> list[str]:
        """HOST:PORT of all members, for clients."""
        return [member.endpoint for member in self.members]

    def leader(self) -> Etcd:
        """The member that leads now.

        Raises:
            LookupError: No running member does.
        """
        for member in self.members:
            if member.child.running and member.leads():
                return member
        raise LookupError("no member of this etcd cluster leads: wait for an election")

    def start(self) -> None:
        """Starts all and waits until each serves.

        Raises:
            EngineError: One does not.
        """
        for member in self.members:
            member.child.spawn()
        for member in self.members:
            member.child.wait_ready()

    def stop(self) -> None:
        """Ends all by SIGKILL: what they acked is on disk, and a leader that is asked to end tries
        for 7 s to hand over to one that is ending too."""
        for member in self.members:
            member.kill()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _after(prefix: str) -> str:
    """The end of the range of all keys that start with an ASCII prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
