"""Log lines into templates, beside Drain3 on the same lines in the same run.

    python -m venv /tmp/drain3 && /tmp/drain3/bin/pip install drain3   # it pins old packages
    DRAIN3_PYTHON=/tmp/drain3/bin/python python -m bench.templates [--lines 20000] [--runs 3]

Grouping accuracy is that of the Loghub papers: the share of lines whose group holds exactly the
lines that one statement wrote. Both get the whole line as it stands in the log. Speeds are
medians of alternating runs, in lines per second of processor time (of all threads together), which
other work on the machine disturbs less than the clock; `clock` is the ratio by the clock. Ours
includes the parameters, Drain3's does not. Without DRAIN3_PYTHON ours is measured alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from bench import log_lines
from quality import templates


def accuracy(groups: pl.Series, truth: pl.Series) -> float:
    """Share of lines whose group is exactly the lines of their true template."""
    rows = pl.DataFrame({"group": groups, "truth": truth})
    same = pl.len().over("group", "truth")
    exact = (same == pl.len().over("group")) & (same == pl.len().over("truth"))
    return float(rows.select(exact.mean()).item())


class Run(NamedTuple):
    """processor and clock seconds, and the group of every line."""

    cpu: float
    clock: float
    groups: pl.Series


def ours(lines: pl.DataFrame) -> Run:
    cpu, clock = time.process_time(), time.perf_counter()
    found = templates.assign(lines.select("body"))
    return Run(time.process_time() - cpu, time.perf_counter() - clock, found["template_id"])


def drain3(lines: pl.DataFrame, python: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.json"
        file.write_text(json.dumps(lines["body"].to_list()), encoding="utf-8")
        script = str(Path(__file__).with_name("drain3_lines.py"))
        done = subprocess.run(
            [python, script, str(file)], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    return Run(found["cpu"], found["seconds"], pl.Series(found["clusters"]))


def corpora(lines: int, only: str = "") -> Iterator[tuple[str, pl.DataFrame]]:
    """Names that have `only` in them; body, truth."""
    made: dict[str, Callable[[], pl.DataFrame | None]] = {
        file.stem: partial(log_lines.written, file, lines)
        for file in sorted(log_lines.FORMATS.glob("*.txt"))
    }
    made |= {"train_ticket": log_lines.train_ticket, "sample_data": log_lines.of_the_sample}
    for name, make in made.items():
        found = make() if only in name else None
        if found is not None:
            yield name, found
        elif only in name:
            print("../shared/data is missing: the real pods' lines are left out")


def told(name: str, lines: pl.DataFrame, mine: list[Run], others: list[Run]) -> str:
    """A row of the table."""
    groups, truth = mine[0].groups, lines["truth"]
    cpu = statistics.median(one.cpu for one in mine)
    text = f"{name:<22}{lines.height:>8,}{truth.n_unique():>7}{groups.n_unique():>7}"
    text += f"{accuracy(groups, truth):>8.4f}{lines.height / cpu:>10,.0f}"
    if not others:
        return text
    theirs = statistics.median(one.cpu for one in others)
    ratio = statistics.median(one.clock for one in others) / statistics.median(
        one.clock for one in mine
    )
    text += f"{accuracy(others[0].groups, truth):>11.4f}{lines.height / theirs:>9,.0f}"
    return text + f"{theirs / cpu:>7.1f}{ratio:>7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=20_000, help="of each written corpus")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="corpora whose name has this")
    asked = parser.parse_args()
    python = os.environ.get("DRAIN3_PYTHON")
    if not python:
        print("DRAIN3_PYTHON is not set (see the top of this file): Drain3 is left out")
    templates.assign(pl.DataFrame({"body": ["warm up 1"] * templates.ENOUGH}))
    print(f"{'corpus':<22}{'lines':>8}{'truth':>7}{'found':>7}{'GA':>8}{'lines/s':>10}"
          f"{'drain3 GA':>11}{'lines/s':>9}{'ratio':>7}{'clock':>7}")  # fmt: skip
    for name, lines in corpora(asked.lines, asked.only):
        mine, others = [], []
        for _ in range(asked.runs):
            mine.append(ours(lines))
            others += [drain3(lines, python)] if python else []
        print(told(name, lines, mine, others), flush=True)


if __name__ == "__main__":
    main()
