"""Killed at any moment: repair dies by SIGKILL beside a running ingest and a reader that polls; no
day is ever seen half done, and nothing is lost or doubled.

    python -m tests.crash [--runs 200] [--seed 0]

A run is one seed: a repaired lake of three days, late rows with faults that reach into some of
them and into a fourth, older one, an ingest into a fifth that keeps appending, and a repair that is
killed after a random time, once or twice, then run to its end. In half of the runs it works in
slices so small that processes of its own do the work. The reader must find each day as it was
before, or as an undisturbed repair leaves it (`tests.crash_ops` has what both share).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from ingest.run import ingest
from lake import Lake
from tests import quality_traces as traces
from tests.crash_ops import attacked, filled, jaeger, shifted


def late(root: Path, lake: Lake, seed: int, rng: random.Random) -> None:
    """Rows of days that are repaired already, and of one that there is not yet."""
    for number, day in enumerate([*rng.sample(range(3), 2), 3]):
        rows, _ = traces.spoiled(500_000 + seed * 10 + number, faults=10)
        file = root / f"late-{number}.json"
        file.write_text(jaeger(shifted(rows, -day)), encoding="utf-8")
        ingest(lake, "jaeger", file)


def once(seed: int, files: int = 15, *, sliced: bool | None = None) -> str:
    """One seeded run; what it was. Raises AssertionError where something is lost, doubled or half
    done."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake = filled(root, seed)
        late(root, lake, seed, rng)
        small = rng.random() < 0.5 if sliced is None else sliced
        return attacked(root, lake, seed, "repair sliced" if small else "repair", rng, files)


def main() -> int:
    """As many runs as asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    for seed in range(given.seed, given.seed + given.runs):
        told = once(seed)
        print(f"{seed}  {time.monotonic() - began:.0f} s  {told}", flush=True)
    print(f"{given.runs} runs, nothing lost, doubled or half done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
