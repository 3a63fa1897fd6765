"""Scenarios as they stand in files, and how what came is compared with what was expected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "scenarios"

Step = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """One conversation between a server and an SDK.

    Attributes:
        name: The file's name.
        title: What must hold.
        nodes: How many servers there are.
        pongs: Whether pings are answered.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    nodes: int = 1
    pongs: bool = True


def load() -> list[Scenario]:
    """All scenarios, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*.json"))]


def _read(path: Path) -> Scenario:
    data = json.loads(path.read_text())
    steps = tuple(data.pop("steps"))
    return Scenario(path.stem, steps=steps, **data)


class Mismatch(AssertionError):
    """Something else came than was expected."""


class Bindings:
    """What the names with a dollar stand for.

    The first time that one is met in what is expected, it takes the value that came; after that,
    and in what is sent, it stands for that value.
    """

    def __init__(self, **values: str) -> None:
        self._values: dict[str, Any] = {f"${name}": value for name, value in values.items()}

    def set(self, name: str, value: str) -> None:
        """Gives a name another value."""
        self._values[f"${name}"] = value

    def fill(self, value: Any) -> Any:
        """A value with the names replaced."""
        if isinstance(value, dict):
            return {key: self.fill(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        if isinstance(value, str) and value.startswith("$"):
            return self._values[value]
        return value

    def match(self, expected: Any, got: Any, where: str = "") -> None:
        """Compares: of an object only the keys that are expected (null: it must not be there).

        Raises:
            Mismatch: It is something else.
        """
        if isinstance(expected, dict):
            if not isinstance(got, dict):
                raise Mismatch(f"{where}: expected {expected}, got {got}")
            for key, each in expected.items():
                self.match(each, got.get(key), f"{where}.{key}")
        elif isinstance(expected, list):
            if not isinstance(got, list) or len(expected) != len(got):
                raise Mismatch(f"{where}: expected {expected}, got {got}")
            for index, each in enumerate(expected):
                self.match(each, got[index], f"{where}[{index}]")
        elif isinstance(expected, str) and expected.startswith("$"):
            if got is None or self._values.setdefault(expected, got) != got:
                raise Mismatch(f"{where}: expected {self._values.get(expected)}, got {got}")
        elif expected != got:
            raise Mismatch(f"{where}: expected {expected!r}, got {got!r}")
