"""PostgreSQL: a primary and streaming replicas of it, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tools.engines import debian
from tools.engines.process import Child, EngineError, free_port

# All that the server and its tools load and that is not part of every Debian.
PACKAGES = (
    "postgresql-15",
    "postgresql-client-15",
    "libpq5",
    "libxml2",
    "libicu72",
    "libldap-2.5-0",
    "libsasl2-2",
    "libgssapi-krb5-2",
    "libkrb5-3",
    "libk5crypto3",
    "libkrb5support0",
    "libcom-err2",
    "libkeyutils1",
    "libssl3",
)

SUPERUSER = "postgres"
HOST = "127.0.0.1"
MAX_SOCKET_PATH = 100  # of the 107 bytes that a Unix socket's path may have
TOOL_S = 60.0


class Postgres:
    """One server, with its data, its socket and its log in a folder.

    Args:
        folder: Made if it is not there. Its parents must be open to all: PostgreSQL refuses to
            run as root, so it runs as somebody else.
        password: Of the superuser `postgres`, asked for over TCP by SCRAM; "": nobody is asked.
        tls: Certificate and key, PEM files; then TCP connections must be encrypted.
        settings: Of postgresql.conf, for this server alone.

    Attributes:
        port: On 127.0.0.1; the same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        tls: tuple[Path, Path] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = free_port(HOST)
        self._password = password
        self._tls = tls
        self._settings = dict(settings or {})
        self._replicas = 0
        self._bin, self._env = _binaries()
        self._prepare_folder()
        self._child = Child(
            f"PostgreSQL on port {self.port}",
            self._as_owner(self._bin / "postgres", *self._arguments()),
            log=self.folder / "log",
            ready=self._is_ready,
            ready_s=30.0,
            stop_signal=signal.SIGINT,
            cwd=self.folder,
            env=self._env,
        )

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def url(self, database: str = SUPERUSER, *, user: str = SUPERUSER, password: str = "") -> str:
        """Where a client connects to.

        Args:
            password: Empty: the superuser's.
        """
        secret = password or self._password
        login = f"{quote(user)}:{quote(secret, safe='')}" if secret else quote(user)
        return f"postgresql://{login}@{HOST}:{self.port}/{quote(database)}"

    # --- life ---

    def start(self) -> None:
        """Makes the data directory if there is none, starts, and waits until it serves.

        Raises:
            EngineError: It does not come up.
        """
        if not self.data.exists():
            self._make()
        self._child.start()

    def stop(self) -> None:
        """Ends it and its connections in good order."""
        self.thaw()
        self._child.stop()

    def kill(self) -> None:
        """SIGKILL to all of its processes: like a machine that dies, but for the disk's cache."""
        # Backends that outlive the first process would keep a new one from starting.
        self.freeze()
        processes = self._processes()
        self._child.kill()
        _signal(processes[1:], signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to all of its processes: connections stay, nobody answers."""
        # First the one that makes others.
        self._child.freeze()
        _signal(self._processes()[1:], signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to all of its processes."""
        _signal(self._processes(), signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log."""
        return self._child.tail()

    # --- what else it can do ---

    def replica(self, folder: Path) -> Postgres:
        """A streaming replica on this machine, not started, from a copy of what is here now. A
        replication slot keeps the log for it while it is away.

        Raises:
            EngineError: The copy fails.
        """
        other = Postgres(folder, password=self._password, tls=self._tls, settings=self._settings)
        slot = f"replica{self._replicas}"
        self._replicas += 1
        other._run(
            "pg_basebackup",
            f"--pgdata={other.data}",
            f"--dbname={self.url()}",
            "--write-recovery-conf",
            "--create-slot",
            f"--slot={slot}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        )
        return other

    def create_database(self, name: str) -> None:
        """Makes an empty database.

        Raises:
            EngineError: There is one of this name.
        """
        self._run("createdb", f"--host={self.folder}", f"--port={self.port}", "-U", SUPERUSER, name)

    # --- making it ---

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if len(str(self.folder)) > MAX_SOCKET_PATH:
            raise EngineError(
                f"{self.folder} is too long for a Unix socket, {MAX_SOCKET_PATH} bytes are "
                "room: use a folder nearer to the root"
            )
        if (owner := _owner()) is None:
            return
        os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        for parent in self.folder.parents:
            if not parent.stat().st_mode & 0o001:
                raise EngineError(
                    f"{parent} is closed to the user {owner.pw_name}, as whom PostgreSQL runs: "
                    "use a folder whose parents have the mode 755"
                )

    def _make(self) -> None:
        secret = self.folder / "password"
        arguments = [f"--pgdata={self.data}", f"--username={SUPERUSER}", "--no-sync"]
        arguments += ["--encoding=UTF8", "--no-locale", "--auth=trust"]
        if self._password:
            self._write(secret, self._password)
            arguments.append(f"--pwfile={secret}")
        try:
            self._run("initdb", *arguments)
        finally:
            secret.unlink(missing_ok=True)
        method = "scram-sha-256" if self._password else "trust"
        kind = "hostssl" if self._tls else "host"
        self._write(
            self.data / "pg_hba.conf",
            "local all all trust\n"
            f"{kind} all all {HOST}/32 {method}\n"
            f"{kind} replication all {HOST}/32 {method}\n",
        )
        if self._tls:
            for name, source in zip(("server.crt", "server.key"), self._tls, strict=True):
                self._write(self.data / name, source.read_text())

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        if (owner := _owner()) is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _arguments(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "ssl": "on" if self._tls else "off",
            **self._settings,
        }
        return ["-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]

    # --- processes ---

    def _as_owner(self, *command: str | Path) -> Sequence[str | Path]:
        if (owner := _owner()) is None:
            return command
        ids = (f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups")
        return ("setpriv", *ids, *command)

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            self._as_owner(self._bin / tool, *arguments),
            cwd=self.folder,
            env=self._env,
            check=False,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
        )
        if done.returncode:
            raise EngineError(f"{tool} failed:\n{done.stderr.strip()}")

    def _is_ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-t", "1", "-h", HOST, "-p", str(self.port)]
        return not subprocess.run(command, check=False, env=self._env).returncode

    def _processes(self) -> list[int]:
        """The first process and its children, each of which has a session of its own."""
        if not self.running:
            return []
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [self.pid, *map(int, children.read_text().split())]


def _owner() -> pwd.struct_passwd | None:
    """As whom the server runs if we are root."""
    if os.geteuid():
        return None
    for name in (SUPERUSER, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EngineError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _binaries() -> tuple[Path, dict[str, str]]:
    """The folder of the programs, and the environment in which they find their libraries."""
    if installed := _newest(Path("/")):
        return installed, dict(os.environ)
    root = debian.unpack("postgres", PACKAGES)
    unpacked = _newest(root)
    if unpacked is None:
        raise EngineError(f"there is no PostgreSQL in {root}: remove the folder and try again")
    return unpacked, debian.library_path(root)


def _newest(root: Path) -> Path | None:
    found = [path.parent for path in root.glob("usr/lib/postgresql/*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
