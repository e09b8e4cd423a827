"""A day comes out the same, whichever days it is repaired with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ingest.run import ingest
from lake import UNPLACED, Lake
from quality.run import repair
from tests import quality_traces as traces
from tests.conftest import TIMES
from tests.crash_ops import jaeger, shifted, state

DAYS = 4
MIDNIGHT = 37_598_000_000  # µs from the requests to midnight, about


def told(root: Path, seed: int, by: int) -> Lake:
    """A lake with raw spans of some days, each with faults of its own, later `by` so many µs."""
    lake = Lake(root).create()
    for day in range(DAYS):
        rows, _ = traces.spoiled(seed * 100 + day, faults=14)
        for row in rows[7::30]:  # swapped: whether it can be mended, other rows tell
            row["start"], row["duration"] = row["start"] + row["duration"], -row["duration"]
        if (seed + day) % 2:
            rows[3]["duration"] += 50_000  # outlives its parent: such calls bound nothing
        file = root.with_suffix(f".{day}.json")
        file.write_text(jaeger(shifted(rows, -day - 10, by)), encoding="utf-8")
        ingest(lake, "jaeger", file)
    return lake


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize("by", [0, MIDNIGHT])
def test_days_repaired_one_by_one_are_as_days_repaired_together(
    tmp_path: Path, seed: int, by: int
) -> None:
    together, apart = (told(tmp_path / name, seed, by) for name in ("together", "apart"))
    repair(together)
    days = [day for day in apart.days("raw_spans") if day != UNPLACED]
    random.Random(seed).shuffle(days)
    for day in days:
        repair(apart, days=[day])
    assert state(apart) == state(together)
