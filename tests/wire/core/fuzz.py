"""Coverage-guided fuzzing of the core: `python -m tests.wire.core.fuzz --seconds 20`.

Where atheris is not to be had (it is built for some Pythons only) the same target gets seeded
random changes of the corpus. New inputs go to a temporary folder unless --keep names one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[3]
CORPUS = Path(__file__).parents[1] / "corpus"
MAX_INPUT = 4096


def guided(seconds: int, corpus: Path, keep: Path) -> NoReturn:
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
    sys.exit(0)


def unguided(seconds: int, corpus: Path, keep: Path | None) -> None:
    """Seeded random changes of what is in the corpus; keeps the input that fails, if it may."""
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
        one = bytes(data[:MAX_INPUT])
        try:
            target.run(one)
        except Exception:
            print(f"failed after {runs} runs: {one.hex()}", file=sys.stderr)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / "failed").write_bytes(one)
            raise
        runs += 1
    print(f"{runs} runs, nothing found")


def main() -> int:
    """Fuzzes for a time; gives 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.core.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--keep", type=Path, help="a folder for what is found")
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        unguided(args.seconds, args.corpus, args.keep)
        return 0
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
        guided(args.seconds, args.corpus, args.keep)
    # It ends its process: another is there to clean up behind it.
    with tempfile.TemporaryDirectory(prefix="chinwag-fuzz-") as folder:
        asked = ["--seconds", str(args.seconds), "--corpus", str(args.corpus), "--keep", folder]
        command = [sys.executable, "-m", "tests.wire.core.fuzz", *asked]
        return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
