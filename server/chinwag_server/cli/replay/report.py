"""What a replay prints at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Report:
    """The figures of a replay; times in milliseconds.

    Attributes:
        notes: What a reader should know, such as who was spoken for.
        difference: The first difference, or None.
    """

    channels: int = 0
    people: int = 0
    devices: int = 0
    sends: int = 0
    deliveries: int = 0
    seconds: float = 0.0
    kills: int = 0
    ack_p50_ms: float = 0.0
    ack_p99_ms: float = 0.0
    delivery_p50_ms: float = 0.0
    delivery_p99_ms: float = 0.0
    notes: list[str] = field(default_factory=list)
    difference: str | None = None

    @property
    def ok(self) -> bool:
        return self.difference is None

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return {"ok": self.ok, **asdict(self)}

    def lines(self) -> list[str]:
        """For a person."""
        rate = self.deliveries / self.seconds if self.seconds else 0.0
        lines = [
            f"channels    {self.channels}, {self.people} people, {self.devices} devices",
            f"sends       {self.sends} in {self.seconds:.1f} s",
            f"deliveries  {self.deliveries} ({rate:,.0f} a second)",
            f"ack         p50 {self.ack_p50_ms:.1f} ms, p99 {self.ack_p99_ms:.1f} ms",
            f"delivery    p50 {self.delivery_p50_ms:.1f} ms, p99 {self.delivery_p99_ms:.1f} ms",
        ]
        if self.kills:
            lines.append(f"kills       {self.kills} with SIGKILL")
        lines += [f"note        {note}" for note in self.notes]
        lines.append("OK" if self.ok else f"DIFFERENCE  {self.difference}")
        return lines


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """A percentile of sorted values; 0 if there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]
