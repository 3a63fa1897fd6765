"""Coverage-guided fuzzing of the core: `python -m tests.wire.core.fuzz --seconds 20`.

Where atheris is not to be had (it is built for some Pythons only) the same target gets seeded
random changes of the corpus. New inputs go to a temporary folder unless --keep names one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent.parent / "corpus"
MAX_INPUT = 4096


def guided(seconds: int, corpus: Path, keep: Path) -> None:
    """Runs atheris; it ends the process, with 0 if it found nothing."""
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["chinwag_server.wire"]):
        from tests.wire.core import target

    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            f"-artifact_prefix={keep}/",
            str(keep),
            str(corpus),
        ],
        target.run,
    )
    atheris.Fuzz()


def unguided(seconds: int, corpus: Path) -> None:
    """Seeded random changes of what is in the corpus."""
    from tests.wire.core import target

    seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
    chance = random.Random(1)
    until = time.monotonic() + seconds
    runs = 0
    while time.monotonic() < until:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(8)):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(3):
                case 0:
                    data[at:at] = chance.randbytes(chance.randrange(1, 9))
                case 1:
                    del data[at : at + chance.randrange(1, 9)]
                case _:
                    other = chance.choice(seeds)
                    cut = chance.randrange(len(other) + 1)
                    data[at:] = other[cut:]
        target.run(bytes(data[:MAX_INPUT]))
        runs += 1
    print(f"{runs} runs, nothing found")


def main() -> None:
    """Fuzzes for a time."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.core.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--keep", type=Path, help="a folder for what is found")
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        unguided(args.seconds, args.corpus)
        return
    with tempfile.TemporaryDirectory(prefix="chinwag-fuzz-") as folder:
        guided(args.seconds, args.corpus, args.keep or Path(folder))


if __name__ == "__main__":
    main()
