"""The node's metrics, in a registry of their own (Prometheus' text form at /metrics).

What happens often is counted by whoever does it as a plain number and read here when somebody asks
(`gauge`, `counter`): a delivery costs no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from chinwag_server.rpc.errors import Code
from chinwag_server.rpc.registry import Method

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Read = Callable[[], float]


@dataclass(slots=True)
class _MethodMetrics:
    """A method's metrics, kept: looking one up by its labels costs more than counting."""

    running: Gauge
    seconds: Histogram
    calls: dict[int, Counter]


class Metrics:
    """All metrics of one node; told of calls by the middleware (`CallObserver`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._methods: dict[str, _MethodMetrics] = {}
        ProcessCollector(registry=self.registry)
        self._calls = Counter(
            "chinwag_calls",
            "Calls that ended, by method and gRPC status code; streams too.",
            ("method", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "chinwag_call_seconds",
            "How long unary calls took.",
            ("method",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._running = Gauge(
            "chinwag_running_calls",
            "Calls and streams in work.",
            ("method",),
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "chinwag_store_commit_seconds",
            "How long a commit of a store took, fsync included.",
            ("store",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._commit_size = Histogram(
            "chinwag_store_commit_submissions",
            "Submissions that shared a commit of a store.",
            ("store",),
            buckets=SIZES,
            registry=self.registry,
        )
        self._read = _ReadWhenAsked()
        self.registry.register(self._read)

    # --- told ---

    def call_started(self, method: Method) -> None:
        self._of(method.path).running.inc()

    def call_finished(self, method: Method, code: int, seconds: float) -> None:
        of = self._of(method.path)
        of.running.dec()
        calls = of.calls.get(code)
        if calls is None:
            calls = of.calls[code] = self._calls.labels(method.path, _code_name(code))
        calls.inc()
        if not (method.request_streaming or method.response_streaming):
            of.seconds.observe(seconds)

    def _of(self, path: str) -> _MethodMetrics:
        found = self._methods.get(path)
        if found is None:
            running, seconds = self._running.labels(path), self._seconds.labels(path)
            found = self._methods[path] = _MethodMetrics(running, seconds, {})
        return found

    def committed(self, store: str, submissions: int, seconds: float) -> None:
        """A commit of a store; may be called from any thread."""
        self._commit_seconds.labels(store).observe(seconds)
        self._commit_size.labels(store).observe(submissions)

    # --- read ---

    def gauge(self, name: str, text: str, read: Read) -> None:
        """Shows a number that rises and falls."""
        self._read.add(name, text, read, GaugeMetricFamily)

    def counter(self, name: str, text: str, read: Read) -> None:
        """Shows a number that only rises; "_total" is put behind its name."""
        self._read.add(name, text, read, CounterMetricFamily)

    def page(self) -> bytes:
        """What /metrics shows."""
        return generate_latest(self.registry)


class _ReadWhenAsked(Collector):
    """Metrics whose values are read when somebody asks."""

    def __init__(self) -> None:
        self._reads: list[tuple[str, str, Read, type[Metric]]] = []

    def add(self, name: str, text: str, read: Read, kind: type[Metric]) -> None:
        self._reads.append((name, text, read, kind))

    def collect(self) -> Iterator[Metric]:
        for name, text, read, kind in self._reads:
            yield kind(name, text, value=read())  # type: ignore[call-arg]


def _code_name(code: int) -> str:
    try:
        return Code(code).name
    except ValueError:
        return str(code)
