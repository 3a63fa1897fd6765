"""Looks for seeds that notice: `python -m tests.simulation.teeth NAME FIRST COUNT`; `all` for NAME
takes one rule after the other. `recorded` begins with the seeds that are known to notice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain

from tests.simulation.teeth import edge_rules, log_rules, owning_rules
from tests.simulation.teeth.seeds import SEEDS
from tests.simulation.teeth.tooth import TEETH

__all__ = ["edge_rules", "log_rules", "owning_rules"]

# Another Python may run the same seed another way: so many more are tried.
MORE = 40


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.teeth", *sys.argv[1:]])
    if sys.argv[1] == "recorded":
        for name, seed in SEEDS.items():
            _look(name, chain([seed], range(1, MORE)))
        return 0
    names = list(TEETH) if sys.argv[1] == "all" else sys.argv[1].split(",")
    first, count = int(sys.argv[2]), int(sys.argv[3])
    for name in names:
        _look(name, range(first, first + count))
    return 0


def _look(name: str, seeds: Iterable[int]) -> None:
    found = TEETH[name].notices(seeds)
    told = "not noticed" if found is None else f"noticed by seed {found[0]}: {found[1][:150]}"
    print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
