"""Where a node listens for the others, how it trusts them, and what a link may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chinwag_server.mesh.links import DEAD_S, QUESTIONS, QUEUE_BYTES
from chinwag_server.rpc.listening import ListenError, Tls, is_loopback


@dataclass(slots=True, frozen=True)
class LinkOptions:
    """What a node is told of its links.

    Attributes:
        port: 0: any that is free.
        tls_cert_file, tls_key_file: This node's, for both directions, in PEM form.
        tls_ca_file: Of the mesh alone: whoever has a certificate of it can be a node.
        tls_name: What the others' certificates are for, where that is not their addresses' hosts.
        queue_bytes: What may wait to leave on one link: more is not taken, and with more answers
            than that the next questions wait.
        questions: In flight on one link; at_work: answers on one link.
        connections: Open at one time, those that others opened.
        dead_s: A peer without a sign of life for so long is dead.
        hello_s: In which an accepted link must say who it is, and its opener become known.
        dial_s: In which an opened link must be up.
        retry_s: The first pause after a link went down; max_retry_s: the longest.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_name: str = ""
    queue_bytes: int = QUEUE_BYTES
    questions: int = QUESTIONS
    at_work: int = QUESTIONS
    connections: int = 2_000
    dead_s: float = DEAD_S
    hello_s: float = 2.0
    dial_s: float = 5.0
    retry_s: float = 0.05
    max_retry_s: float = 2.0

    @property
    def secure(self) -> bool:
        """Whether the nodes prove to each other that they are of one mesh."""
        return self.tls_ca_file is not None

    def tls(self) -> Tls | None:
        """What to listen with; None: plain text."""
        if self.tls_cert_file is None or self.tls_key_file is None or self.tls_ca_file is None:
            return None
        return Tls(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)

    def check(self) -> None:
        """Refuses what must not be served.

        Raises:
            ListenError: Plain text for others than this machine, or TLS files that are none.
        """
        files = (self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
        if any(files) and not all(files):
            raise ListenError(
                "links between nodes take a certificate, its key and the authority's certificate "
                "together (tls_cert_file, tls_key_file, tls_ca_file): give all three, or none"
            )
        tls = self.tls()
        if tls is not None:
            tls.check()
        elif not is_loopback(self.host):
            raise ListenError(
                f"refusing to link nodes in plain text on {self.host}: give a certificate, its key "
                "and the authority's certificate (mutual TLS), or bind to 127.0.0.1"
            )


def host_of(address: str) -> str:
    """The host of HOST:PORT or [HOST]:PORT."""
    return address.rpartition(":")[0].strip("[]")
