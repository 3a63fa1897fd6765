"""Measures what people wait for in a browser: `python -m tests.browser.figures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.browser.stage import stage


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as made:
        for line in made.play("figures.mjs"):
            print(line)


if __name__ == "__main__":
    main()
