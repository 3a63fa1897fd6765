"""Clients that are built: when first needed, by one process, into .stamps/wire-compat."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILT = Path(__file__).parents[3] / ".stamps/wire-compat"
BUILD_TIMEOUT_S = 600.0

Command = list[str | Path]


def _build(name: str, tool: str, make: Callable[[Path], None]) -> Path:
    """Builds what is not built of these very sources; gives its folder.

    Args:
        name: A folder here, and one under `BUILT`.
        tool: The program that builds it.
    """
    if shutil.which(tool) is None:
        pytest.skip(f"the client in {name} is built with {tool}, which is not installed")
    wanted = hashlib.sha256()
    for source in (HERE / name, HERE / "proto"):
        for path in sorted(source.rglob("*")):
            if path.is_file():
                wanted.update(path.read_bytes())
    folder = BUILT / name
    folder.mkdir(parents=True, exist_ok=True)
    stamp = BUILT / f"{name}.made-of"
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted.hexdigest():
            make(folder)
            stamp.write_text(wanted.hexdigest())
    return folder


def _run(command: Sequence[str | Path], folder: Path, **environment: str) -> None:
    subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        check=True,
        timeout=BUILD_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def go_client() -> Command:
    """grpc-go."""

    def make(folder: Path) -> None:
        _run(["go", "build", "-o", folder / "client", "."], HERE / "go")

    return [_build("go", "go", make) / "client"]


def node_client() -> Command:
    """@grpc/grpc-js."""

    def make(folder: Path) -> None:
        # The packages lie beside a copy of the program, since Node looks for them there.
        for name in ("package.json", "client.mjs"):
            shutil.copy(HERE / "node" / name, folder)
        shutil.copytree(HERE / "proto", folder.parent / "proto", dirs_exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], folder)

    return ["node", _build("node", "npm", make) / "client.mjs"]


def java_client() -> Command:
    """grpc-java, over netty."""

    def make(folder: Path) -> None:
        _run(["mvn", "-q", "-B", f"-Dbuilt={folder}", "package"], HERE / "java")

    folder = _build("java", "mvn", make)
    return ["java", "-cp", f"{folder / 'classes'}:{folder / 'lib'}/*", "compat.Client"]


def rust_client() -> Command:
    """tonic."""

    def make(folder: Path) -> None:
        # A copy, since cargo writes a lock file beside it, which names a registry.
        shutil.copytree(HERE / "rust", folder / "source", dirs_exist_ok=True)
        shutil.copytree(HERE / "proto", folder / "proto", dirs_exist_ok=True)
        protoc = folder / "protoc"
        protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
        protoc.chmod(0o755)
        _run(
            ["cargo", "build", "--release", "--quiet"],
            folder / "source",
            PROTOC=str(protoc),
            CARGO_TARGET_DIR=str(folder / "target"),
        )

    return [_build("rust", "cargo", make) / "target/release/compat-client"]
