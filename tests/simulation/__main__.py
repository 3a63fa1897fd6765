"""Runs seeds: `python -m tests.simulation FIRST [COUNT [FLAVOUR]]`; one seed alone prints its
history, many are run by two processes."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import closing

from tests.simulation.many import digest, in_chunks
from tests.simulation.run import BOTH, simulate

TELL_EVERY_S = 10.0


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets belongs to what a seed decides.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    flavour = sys.argv[3] if len(sys.argv) > 3 else BOTH
    return _one(first, flavour) if count == 1 else _many(first, count, flavour)


def _one(seed: int, flavour: str) -> int:
    with closing(simulate([seed], flavour)) as outcomes:
        outcome = next(outcomes)
    print("\n".join(outcome.history))
    print(
        f"seed {seed}, {outcome.flavour}: {outcome.violation or 'holds'}; {outcome.acks} acks, "
        f"{outcome.entries} entries in {outcome.virtual_s:.0f} s of virtual time, "
        f"{outcome.steps} steps; {digest([outcome])}"
    )
    return 1 if outcome.violation else 0


def _many(first: int, count: int, flavour: str) -> int:
    started = told = time.monotonic()
    held = failed = 0
    seen = hashlib.sha256()
    for chunk, violations, seeds in in_chunks(first, count, flavour):
        seen.update(chunk.encode())
        for violation in violations:
            print(violation, flush=True)
        failed += len(violations)
        held += seeds - len(violations)
        took_s = time.monotonic() - started
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            done = held + failed
            print(
                f"{done} of {count} seeds, {failed} broke something; {done / took_s:.1f} a second",
                file=sys.stderr,
                flush=True,
            )
    took_s = time.monotonic() - started
    print(f"{held} of {count} seeds hold; {took_s:.1f} s; {seen.hexdigest()[:16]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
