"""Cassandra on this machine: one node, or three that are a cluster on 127.0.0.1, .2 and .3."""

from __future__ import annotations

import fcntl
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement

from tools.engines.cassandra_tls import Certificates
from tools.engines.debian import CACHE
from tools.engines.process import Child, EngineError, free_port, listens

FILES = Path(__file__).parent / "cassandra_files"
MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
JAVA = "17"
# Equal shares of the ring.
TOKENS = (-9223372036854775808, -3074457345618258603, 3074457345618258602)
DATACENTER = "datacenter1"  # what SimpleSnitch calls it
USER, PASSWORD = "cassandra", "cassandra"  # what Cassandra makes by itself when it has passwords
# On a busy machine; a quiet one takes 5 s for one node and 20 s for three.
READY_S = 120.0
POLL_S = 0.2
HEAP_MIB = 512

_YAML = """\
cluster_name: chinwag-test
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
initial_token: '{token}'
auto_bootstrap: false
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seeds}"}}]
listen_address: {address}
rpc_address: {address}
storage_port: {storage_port}
start_native_transport: true
native_transport_port: {port}
# `periodic`, the usual default, loses acknowledged rows when a node is killed.
commitlog_sync: batch
# With v1, the usual default, conditional writes fail for seconds after a node dies.
paxos_variant: v2
disk_failure_policy: stop
auto_snapshot: false
memtable_heap_space: 64MiB
memtable_offheap_space: 32MiB
file_cache_size: 32MiB
networking_cache_size: 16MiB
concurrent_compactors: 1
"""
_PASSWORDS = """\
authenticator: PasswordAuthenticator
role_manager: CassandraRoleManager
"""
_TLS = """\
client_encryption_options:
  enabled: true
  optional: false
  keystore: {keystore}
  keystore_password: {password}
  store_type: PKCS12
"""


class Node(Child):
    """One node: started, stopped, killed, frozen and started again by itself.

    Attributes:
        address: Its IP address; all nodes of a cluster listen on the same ports.
    """

    def __init__(self, folder: Path, address: str, port: int, heap_mib: int) -> None:
        self.address = address
        self.port = port
        jars = _jars()
        command = [
            str(_java()),
            f"@{FILES / 'jvm17.args'}",
            f"-Xmx{heap_mib}M",
            f"-javaagent:{jars / 'jamm-0.4.0.jar'}",
            f"-Dcassandra.config={(folder / 'cassandra.yaml').as_uri()}",
            f"-Dcassandra.storagedir={folder}",
            f"-Dlogback.configurationFile={FILES / 'logback.xml'}",
            f"-Djava.io.tmpdir={folder}",
            f"-Djna.tmpdir={folder}",
            "-cp",
            f"{jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]
        super().__init__(
            f"Cassandra on {address}",
            command,
            log=folder / "log",
            ready=lambda: listens(address, port),
            ready_s=READY_S,
            cwd=folder,
            # Without it glibc keeps an arena of 64 MiB for every thread.
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )


class Cassandra:
    """A cluster whose data is in a folder.

    Args:
        folder: Is made; keep it to start the same cluster again.
        nodes: 1 or 3.
        passwords: Whether clients have to log in, as `USER` with `PASSWORD`.
        tls: Whether clients have to speak TLS; `ca` is then what they trust.
        heap_mib: Of each node, at most. A page of 80 MB was too much for 256.

    Attributes:
        port: For clients, on each node.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        passwords: bool = False,
        tls: bool = False,
        heap_mib: int = HEAP_MIB,
    ) -> None:
        assert nodes in (1, 3), "tokens are chosen for one node or three"
        self._passwords = passwords
        addresses = [f"127.0.0.{number + 1}" for number in range(nodes)]
        self.port, storage_port = free_port(*addresses), free_port(*addresses)
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        certificates = Certificates(folder) if tls else None
        self.ca = certificates.ca if certificates else None
        self.nodes: list[Node] = []
        for address, token in zip(addresses, TOKENS, strict=False):
            home = folder / address
            home.mkdir(exist_ok=True)
            text = _YAML.format(
                token=token,
                seeds=",".join(f"{seed}:{storage_port}" for seed in addresses),
                address=address,
                storage_port=storage_port,
                port=self.port,
            )
            if passwords:
                text += _PASSWORDS
            if certificates:
                text += _TLS.format(keystore=certificates.keystore, password=certificates.password)
            (home / "cassandra.yaml").write_text(text)
            self.nodes.append(Node(home, address, self.port, heap_mib))

    def url(self, keyspace: str) -> str:
        """Where a chinwag node finds it, as its settings have it."""
        login = f"{USER}:{PASSWORD}@" if self._passwords else ""
        hosts = ",".join(f"{node.address}:{self.port}" for node in self.nodes)
        url = f"cassandra://{login}{hosts}/{keyspace}?dc={DATACENTER}&rf={len(self.nodes)}"
        return f"{url}&ca={self.ca}" if self.ca else url

    def start(self) -> None:
        """Starts all nodes at once and waits until the cluster serves writes through each.

        Raises:
            EngineError: It does not.
        """
        for node in self.nodes:
            node.spawn()
        try:
            for node in self.nodes:
                node.wait_ready()
            self.wait_whole()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all nodes. They are killed: a clean stop takes 4 s each and saves nothing."""
        for node in self.nodes:
            node.kill()

    def wait_whole(self) -> None:
        """Waits until each node knows all others, all have one schema, and a write through each
        reaches all. That their ports answer does not say so.

        Raises:
            EngineError: It does not come to that in time.
        """
        until = time.monotonic() + READY_S
        for node in self.nodes:
            while (lack := self._lacks(node)) is not None:
                if time.monotonic() > until:
                    raise EngineError(f"{node.name} is not whole: {lack}\n{node.tail()}")
                time.sleep(POLL_S)

    def connect(self, node: Node) -> Cluster:
        """A driver that speaks to this node only; the caller's to shut down."""
        profile = ExecutionProfile(
            load_balancing_policy=WhiteListRoundRobinPolicy([node.address]), request_timeout=10.0
        )
        context = None
        if self.ca:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.check_hostname = False
        return Cluster(
            [node.address],
            port=self.port,
            protocol_version=5,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            auth_provider=PlainTextAuthProvider(USER, PASSWORD) if self._passwords else None,
            ssl_context=context,
            connect_timeout=5.0,
        )

    def _lacks(self, node: Node) -> str | None:
        """What a node cannot do yet; None: nothing."""
        driver = self.connect(node)
        try:
            return self._try(driver.connect())
        except Exception as error:  # The driver has no common class of errors
            return str(error)
        finally:
            driver.shutdown()

    def _try(self, session: Any) -> str | None:
        peers = list(session.execute("SELECT schema_version FROM system.peers_v2"))
        if len(peers) != len(self.nodes) - 1:
            return f"it knows {len(peers)} others, not {len(self.nodes) - 1}"
        versions = {row.schema_version for row in peers}
        versions.add(session.execute("SELECT schema_version FROM system.local").one()[0])
        if len(versions) > 1:
            return "schemas differ"
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS engine WITH replication = "
            f"{{'class': 'SimpleStrategy', 'replication_factor': {len(self.nodes)}}}"
        )
        session.execute("CREATE TABLE IF NOT EXISTS engine.probe (id int PRIMARY KEY)")
        session.execute(
            SimpleStatement(
                "INSERT INTO engine.probe (id) VALUES (1)",
                consistency_level=ConsistencyLevel.ALL,
            )
        )
        return None


def _jars() -> Path:
    """The folder of all jars, copied by Maven, once.

    Raises:
        RuntimeError: Maven is not there or cannot fetch them.
    """
    folder = CACHE / "cassandra"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "cassandra.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        if shutil.which("mvn") is None:
            raise RuntimeError("Cassandra's jars need Maven: apt install maven")
        with tempfile.TemporaryDirectory(dir=CACHE) as made:
            jars = Path(made) / "jars"
            command = ["mvn", "-q", "-B", MAVEN_GOAL, f"-f{FILES / 'pom.xml'}"]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise RuntimeError(f"Maven cannot fetch Cassandra: {done.stdout[-2000:]}")
            jars.rename(folder)
    return folder


def _java() -> Path:
    """Java 17: Cassandra 5.0 does not start on a newer one.

    Raises:
        RuntimeError: There is none.
    """
    homes = [Path(os.environ.get("JAVA_HOME", "/nowhere")), *sorted(Path("/usr/lib/jvm").glob("*"))]
    for home in homes:
        release = home / "release"
        if release.exists() and f'JAVA_VERSION="{JAVA}.' in release.read_text():
            return home / "bin" / "java"
    raise RuntimeError("Cassandra needs Java 17: apt install openjdk-17-jre-headless")
