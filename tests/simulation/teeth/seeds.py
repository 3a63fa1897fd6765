"""For each rule the first seed found that notices when it is taken out."""

from __future__ import annotations

SEEDS: dict[str, int] = {}
