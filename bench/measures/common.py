"""What the measures share: a place for data, the length of a run, and a run for each wire."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from bench.backend import Backend, backend, make_key
from bench.drive import Place, Run, Spec
from bench.process import WIRE_VARIABLE, Server, chinwag, reference

T = TypeVar("T")


@dataclass(slots=True)
class Bench:
    """A run of the harness.

    Attributes:
        folder: For data and logs; removed at the end.
        window_s: The measured window of one rate.
        warmup_s: Traffic before it.
        devices: Of the measures with many.
        wires: The server cores that are measured, and compared if there are two.
        prefix: Put before the server's command, such as a profiler's.
        environment: Settings of the server.
    """

    folder: Path
    window_s: float = 10.0
    warmup_s: float = 2.0
    devices: int = 10_000
    wires: tuple[str, ...] = ("",)
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_data(self) -> Path:
        """A data directory that is not there yet."""
        return self.folder / f"data{next(self._numbers)}"

    def with_settings(self, **settings: str) -> Bench:
        """The same, with more environment of the server."""
        return replace(self, environment={**self.environment, **settings})

    def serve(
        self, data: Path, *, port: int = 0, mortal: bool = False
    ) -> contextlib.AbstractContextManager[Server]:
        """`chinwag serve` on a data directory; see `process.chinwag`."""
        return chinwag(data, extra=self.environment, prefix=self.prefix, port=port, mortal=mortal)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[tuple[Server, Backend]]:
        """A server with an empty store, and a backend with a key to it."""
        data = self.new_data()
        key = make_key(data)
        with self.serve(data) as server, backend(server, key) as caller:
            yield server, caller

    def reference(self) -> contextlib.AbstractContextManager[Server]:
        """The bare grpc.aio server."""
        return reference(self.folder)

    @property
    def times(self) -> tuple[str, ...]:
        """The flags of a load of traffic."""
        return (f"-length={self.window_s}s", f"-warmup={self.warmup_s}s")


@dataclass(frozen=True, slots=True)
class Both(Generic[T]):
    """The same done on our wire, and with `--wire grpcio` if both are measured."""

    ours: T
    grpcio: T | None

    def figures(self, figure: Callable[[T], float]) -> tuple[float, float | None]:
        """A figure of both."""
        return figure(self.ours), None if self.grpcio is None else figure(self.grpcio)

    def __iter__(self) -> Iterator[T]:
        yield self.ours
        if self.grpcio is not None:
            yield self.grpcio


def each_wire(bench: Bench, measured: Callable[[Bench], T]) -> Both[T]:
    """Does it on each wire."""
    done = [
        measured(bench.with_settings(**{WIRE_VARIABLE: wire}) if wire else bench)
        for wire in bench.wires
    ]
    return Both(done[0], done[1] if len(done) > 1 else None)


# A run that answers less of its rate, or later, has not kept up.
MIN_SHARE = 0.95
LATE_MS = 1000
# Little enough that a division by it is no figure, but none by nothing.
LEAST_CPU_S = 0.001


def user_ids(count: int) -> list[str]:
    """Names of users."""
    return [f"bench-{number:05}" for number in range(count)]


def stranger(address: str, people: int, channels: Sequence[Sequence[int]]) -> Spec:
    """A spec for the reference server, which knows neither users nor tokens."""
    return Spec(
        address,
        [(user_id, "none") for user_id in user_ids(people)],
        [Place(f"reference{number}", members) for number, members in enumerate(channels)],
    )


def wrong_with(runs: Both[Run]) -> tuple[str, ...]:
    """What was wrong with the deliveries of the runs, on either wire."""
    ours, grpcio = runs.ours.problems, runs.grpcio.problems if runs.grpcio else ()
    return (*ours[:5], *(f"--wire grpcio: {problem}" for problem in grpcio[:3]))


def cpu_us(run: Run, count: float) -> float:
    """The server's CPU for one of so many, in microseconds."""
    return run.window_cpu_s * 1e6 / max(count, 1)


def per_core(run: Run, count: float) -> float:
    """How many of them a second of the server's CPU would do."""
    return count / max(run.window_cpu_s, LEAST_CPU_S)


def late(run: Run, sends_per_s: float) -> str:
    """Why a run did not keep up with the rate that it was offered; empty: it did."""
    result = run.result
    share = result["sends"] / result["window_s"] / sends_per_s
    if share < MIN_SHARE:
        return f"only {share:.0%} of the rate was answered"
    if result["delivery"]["p99_ms"] > LATE_MS:
        return f"p99 of delivery was {result['delivery']['p99_ms']:.0f} ms"
    if result["behind_ms"] > LATE_MS:
        return f"the load sent {result['behind_ms']:.0f} ms after its time"
    return ""


def cores(run: Run) -> float:
    """How many cores the server kept busy in a run of traffic."""
    window_s: float = run.result["window_s"]
    return run.window_cpu_s / window_s
