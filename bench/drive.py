"""Runs bench/load and reads the server at its marks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.process import ROOT

BINARY = ROOT / "bench/out/load"
MARKS = ("ready", "begin", "end")


class Measured(Protocol):
    """What takes the load: one process, or several together."""

    def cpu_s(self) -> float:
        """CPU that it has taken, in seconds."""
        ...

    def rss_kib(self) -> int:
        """Its resident memory, in KiB."""
        ...


class LoadError(Exception):
    """The load generator could not do its work: the text is what it said."""


@dataclass(frozen=True, slots=True)
class Place:
    """A channel and its members, as indices into the devices of a `Spec`."""

    channel_id: str
    members: Sequence[int]
    generation: int = 0
    cursor: int = 0
    head: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """Whom the load connects: (user, token) a device.

    Attributes:
        addresses: Where each device connects, if not all at `address`.
    """

    address: str
    devices: Sequence[tuple[str, str]]
    places: Sequence[Place] = ()
    addresses: Sequence[str] = ()

    def as_json(self) -> str:
        """What `bench/load` reads."""
        addresses = self.addresses or [self.address] * len(self.devices)
        return json.dumps(
            {
                "address": self.address,
                "devices": [
                    {"user_id": user, "token": token, "address": address}
                    for (user, token), address in zip(self.devices, addresses, strict=True)
                ],
                "channels": [
                    {
                        "id": place.channel_id,
                        "generation": place.generation,
                        "cursor": place.cursor,
                        "head": place.head,
                        "members": list(place.members),
                    }
                    for place in self.places
                ],
            }
        )


@dataclass(slots=True)
class Run:
    """What a run showed.

    Attributes:
        rss_kib: The server's memory at each mark, by the mark's name.
        window_cpu_s: The server's CPU between begin and end; of several pairs the sum.
        beside_cpu_s: The same of what was given to `run` as `beside`.
        result: As the scenario prints it; see bench/load.
        load_cpu_s: What the load itself took, all in all.
    """

    rss_kib: dict[str, int] = field(default_factory=dict)
    window_cpu_s: float = 0.0
    beside_cpu_s: float = 0.0
    result: Any = None
    problems: tuple[str, ...] = ()
    load_cpu_s: float = 0.0


def run(
    scenario: str,
    spec: Spec,
    server: Measured,
    *flags: str,
    timeout_s: float = 300,
    on_ready: Callable[[], None] | None = None,
    beside: Measured | None = None,
) -> Run:
    """Runs a scenario to its end.

    Args:
        server: Whose CPU and memory are read at the marks.
        flags: As `bench/load SCENARIO -h` lists them.
        beside: Another process whose CPU is read.
        on_ready: Called when all devices are connected; then the load goes on.

    Raises:
        LoadError: It did not come to its end.
    """
    done = Run()
    with _spec_file(spec) as path:
        process = subprocess.Popen(
            [BINARY, scenario, "-spec", path, "-wait", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            last = _follow(process, server, beside, done, on_ready)
            assert process.stderr is not None
            errors = process.stderr.read().strip()
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
    if code not in (0, 1) or not last:
        raise LoadError(f"load {scenario} ended with {code}: {errors or 'it said nothing'}")
    answer = json.loads(last)
    done.result = answer["result"]
    done.problems = tuple(answer["problems"] or ())
    done.load_cpu_s = answer["load_cpu_s"]
    return done


def _follow(
    process: subprocess.Popen[str],
    server: Measured,
    beside: Measured | None,
    done: Run,
    on_ready: Callable[[], None] | None,
) -> str:
    """Reads marks as they come, and answers each; gives the last line."""
    assert process.stdout is not None
    assert process.stdin is not None
    last = ""
    for line in process.stdout:
        mark = line.strip()
        if mark not in MARKS:
            last = line
            continue
        if mark == "ready" and on_ready is not None:
            on_ready()
        # Added from end to end: that of a begin is taken away.
        sign = {"begin": -1, "end": 1}.get(mark, 0)
        done.window_cpu_s += sign * server.cpu_s()
        if beside is not None:
            done.beside_cpu_s += sign * beside.cpu_s()
        done.rss_kib[mark] = server.rss_kib()
        process.stdin.write("\n")
        process.stdin.flush()
    return last


@contextlib.contextmanager
def _spec_file(spec: Spec) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix="chinwag-bench-", suffix=".json")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(spec.as_json())
        yield path
    finally:
        path.unlink()
