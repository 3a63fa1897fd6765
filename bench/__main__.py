"""`python -m bench [NAME ...]`: measures, prints the table, writes bench/out/latest.json."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import machine, report
from bench.drive import BINARY
from bench.measures import MEASURES
from bench.measures.common import Bench
from bench.process import ROOT, allow_descriptors, wires
from bench.report import Row

OUT = ROOT / "bench/out"
QUIET_CORES = 0.1
TERMINATED = 143


def main() -> int:
    """Runs the measures that were named; 1 if a figure does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--window", type=float, default=8, help="seconds of each rate (8)")
    parser.add_argument("--warmup", type=float, default=2, help="seconds before that (2)")
    parser.add_argument("--devices", type=int, default=10_000, help="of idle, comeback (10000)")
    parser.add_argument("--wire", help="only this one, without a ratio: wire or grpcio")
    parser.add_argument("--out", type=Path, default=OUT / "latest.json", help="the JSON file")
    parser.add_argument("--keep", action="store_true", help="keep data and logs of the servers")
    args = parser.parse_args()
    unknown = set(args.names) - set(MEASURES)
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if not BINARY.exists():
        parser.error(f"{BINARY} is not built: run `make bench`")

    # An exception, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    OUT.mkdir(parents=True, exist_ok=True)
    # On the disk of the repository, whose fsync is one; /tmp may be memory.
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=OUT))
    bench = Bench(
        folder,
        window_s=args.window,
        warmup_s=args.warmup,
        devices=args.devices,
        wires=(args.wire,) if args.wire else wires(),
    )
    allow_descriptors()
    try:
        rows, others = _measure(bench, args.names or list(MEASURES))
    finally:
        if args.keep:
            print(f"data and logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    lines = [*machine.describe(BINARY), _ratios(bench.wires), _told(others)]
    report.print_table(rows, lines)
    report.write(rows, args.out)
    args.out.with_name("machine.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(row.holds is False for row in rows))


def _measure(bench: Bench, names: list[str]) -> tuple[list[Row], dict[str, float]]:
    """Runs the measures; gives the rows, and how many cores others took beside each measure."""
    rows: list[Row] = []
    cores: dict[str, float] = {}
    for name in names:
        start = time.monotonic()
        others = machine.Others()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            rows += MEASURES[name](bench)
        except Exception as error:
            # The other measures need not suffer for it.
            rows.append(report.failed(name, "", None, f"{type(error).__name__}: {error}"))
        cores[name] = others.cores()
        print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return rows, cores


def _ratios(measured: tuple[str, ...]) -> str:
    if len(measured) > 1:
        return f"Ratio: --wire {measured[0]} in parts of --wire {measured[1]}, in this run"
    if measured[0]:
        return f"Only --wire {measured[0]}: there are no ratios"
    return "This server has no setting listen.wire: there are no ratios"


def _told(others: dict[str, float]) -> str:
    told = ", ".join(f"{name} {cores:.2f}" for name, cores in others.items())
    text = f"Cores that other processes took beside each measure: {told}"
    if max(others.values()) > QUIET_CORES:
        text += ". THE MACHINE WAS NOT QUIET: measure again"
    return text


if __name__ == "__main__":
    sys.exit(main())
