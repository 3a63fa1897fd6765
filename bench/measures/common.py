"""What the measures share: a place for data, and the length of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.backend import Backend, backend, make_key
from bench.drive import Place, Run, Spec
from bench.process import Server, chinwag, reference


@dataclass(slots=True)
class Bench:
    """A run of the harness.

    Attributes:
        folder: For data and logs; removed at the end.
        window_s: The measured window of one rate.
        warmup_s: Traffic before it.
        prefix: Put before the server's command, such as a profiler's.
        environment: Settings of the server.
    """

    folder: Path
    window_s: float = 10.0
    warmup_s: float = 2.0
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _count: int = 0

    def new_data(self) -> Path:
        """A data directory that is not there yet."""
        self._count += 1
        return self.folder / f"data{self._count}"

    def serve(self, data: Path) -> contextlib.AbstractContextManager[Server]:
        """`chinwag serve` on a data directory."""
        return chinwag(data, extra=self.environment, prefix=self.prefix)

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


# A run that answers less of its rate, or later, has not kept up.
MIN_SHARE = 0.95
LATE_MS = 1000


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


def wrong_with(run: Run) -> tuple[str, ...]:
    """What was wrong with the deliveries of a run."""
    return run.problems[:5]


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
