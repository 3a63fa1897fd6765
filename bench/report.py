"""What is printed: a row a figure, with what it has to reach."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        reach: What it has to reach, in the same unit; None: told beside the others only.
        more: Whether more is better.
        tolerance: So small a part of `reach` may lack.
        reference: The same figure of `--wire grpcio` in the same run, if there is one.
        wrong: What was wrong with a delivery, or why there is no figure: then it does not hold.
        detail: What else the run showed.
    """

    name: str
    value: float
    unit: str
    reach: float | None = None
    more: bool = False
    reference: float | None = None
    wrong: tuple[str, ...] = ()
    detail: str = ""
    tolerance: float = 0.0

    @property
    def ratio(self) -> float | None:
        """The value in parts of `--wire grpcio`'s."""
        return self.value / self.reference if self.reference else None

    @property
    def holds(self) -> bool | None:
        """Whether it reaches what it has to; None: nothing to reach, and nothing wrong."""
        if self.wrong:
            return False
        if self.reach is None:
            return None
        if self.more:
            return self.value >= self.reach * (1 - self.tolerance)
        return self.value <= self.reach * (1 + self.tolerance)

    def as_json(self) -> dict[str, object]:
        """The row of bench/out/latest.json."""
        row: dict[str, object] = {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "reach": self.reach,
            "grpcio": None if self.reference is None else _rounded(self.reference),
            "ratio": None if self.ratio is None else _rounded(self.ratio),
            "holds": self.holds,
        }
        if self.detail:
            row["detail"] = self.detail
        if self.wrong:
            row["wrong"] = list(self.wrong)
        return row


def failed(name: str, unit: str, reach: float | None, why: str) -> Row:
    """A row without a figure."""
    return Row(name, float("nan"), unit, reach, wrong=(why,))


def write(rows: Sequence[Row], path: Path) -> None:
    """Writes the rows as JSON, whole or not at all."""
    text = json.dumps([row.as_json() for row in rows], indent=2, allow_nan=False)
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def print_table(rows: Sequence[Row], machine: Sequence[str]) -> None:
    """Prints the rows with the machine that they are of."""
    console = Console(width=150)
    table = Table(caption="\n".join(machine), caption_justify="left")
    table.add_column("figure", ratio=5)
    for title in ("value", "reach", "grpcio", "ratio"):
        table.add_column(title, justify="right")
    table.add_column("holds")
    table.add_column("beside it", ratio=4)
    for row in rows:
        reach = "" if row.reach is None else f"{'>=' if row.more else '<='} {_shown(row.reach)}"
        table.add_row(
            row.name,
            f"{_shown(row.value)} {row.unit}",
            reach,
            "" if row.reference is None else _shown(row.reference),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            {True: "yes", False: "NO", None: ""}[row.holds],
            row.detail,
        )
    console.print(table)
    for row in rows:
        for line in row.wrong:
            console.print(f"{row.name}: {line}", style="red", markup=False)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")
