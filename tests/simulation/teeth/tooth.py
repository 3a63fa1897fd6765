"""What a tooth is, and the list of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tests.simulation.run import simulate

Patches = Callable[[], Sequence[Any]]


@dataclass(slots=True, frozen=True)
class Tooth:
    """A rule that can be taken out.

    Attributes:
        flavour: Of the seeds that look for it; "": each its own.
    """

    name: str
    patches: Patches
    flavour: str

    @contextmanager
    def taken_out(self) -> Iterator[None]:
        """The rule does not hold within."""
        with ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield

    def notices(self, seeds: Iterable[int]) -> tuple[int, str] | None:
        """The first of the seeds that notices that the rule is gone, and what it says. A run that
        does not end is none: it breaks no promise."""
        with self.taken_out(), closing(simulate(seeds, self.flavour)) as outcomes:
            for outcome in outcomes:
                if outcome.violation and outcome.violation.startswith("Violation"):
                    return outcome.seed, outcome.violation
        return None


TEETH: dict[str, Tooth] = {}


def tooth(flavour: str = "") -> Callable[[Patches], Patches]:
    """Registers patches under the name of the rule that they take out."""

    def register(patches: Patches) -> Patches:
        TEETH[patches.__name__] = Tooth(patches.__name__, patches, flavour)
        return patches

    return register


def method(owner: Any, name: str, function: Any) -> Any:
    """A patch of an attribute."""
    return mock.patch.object(owner, name, function)


async def nothing(*_args: Any, **_named: Any) -> None:
    """Does nothing in a method's place."""
