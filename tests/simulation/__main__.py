"""Runs seeds: `python -m tests.simulation FIRST [COUNT]`; one seed alone prints its history."""

from __future__ import annotations

import hashlib
import os
import sys
import time

from tests.simulation.run import simulate


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets belongs to what a seed decides.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started = time.monotonic()
    failed = 0
    seen = hashlib.sha256()
    for outcome in simulate(range(first, first + count)):
        seen.update("\n".join(outcome.history).encode())
        if outcome.violation is not None:
            failed += 1
            if count == 1:
                print("\n".join(outcome.history))
            print(f"seed {outcome.seed}: {outcome.violation}")
        elif count == 1:
            print("\n".join(outcome.history))
            print(
                f"seed {outcome.seed}: holds; {outcome.acks} acks, {outcome.entries} entries in "
                f"{outcome.virtual_s:.0f} s of virtual time, {outcome.steps} steps"
            )
    took_s = time.monotonic() - started
    print(f"{count - failed} of {count} seeds hold; {took_s:.1f} s; {seen.hexdigest()[:16]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
