"""Log lines into templates, beside Drain3 on the same lines in the same run.

    python -m venv /tmp/drain3 && /tmp/drain3/bin/pip install drain3   # it pins old packages
    DRAIN3_PYTHON=/tmp/drain3/bin/python python -m bench.templates [--lines 20000] [--runs 3]

Grouping accuracy is that of the Loghub papers: the share of lines whose group holds exactly the
lines that one statement wrote. Both get the whole line as it stands in the log. Speeds are
medians of alternating runs; ours includes the parameters, Drain3's does not. Without
DRAIN3_PYTHON ours is measured alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import polars as pl

from bench import log_lines
from quality import templates


def accuracy(groups: pl.Series, truth: pl.Series) -> float:
    """Share of lines whose group is exactly the lines of their true template."""
    rows = pl.DataFrame({"group": groups, "truth": truth})
    same = pl.len().over("group", "truth")
    exact = (same == pl.len().over("group")) & (same == pl.len().over("truth"))
    return float(rows.select(exact.mean()).item())


def ours(lines: pl.DataFrame) -> tuple[float, pl.Series]:
    """Seconds, and the template of every line."""
    began = time.perf_counter()
    found = templates.assign(lines.select("body"))
    return time.perf_counter() - began, found["template_id"]


def drain3(lines: pl.DataFrame, python: str) -> tuple[float, pl.Series]:
    """Seconds, and the cluster of every line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.json"
        file.write_text(json.dumps(lines["body"].to_list()), encoding="utf-8")
        script = str(Path(__file__).with_name("drain3_lines.py"))
        done = subprocess.run(
            [python, script, str(file)], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    return found["seconds"], pl.Series(found["clusters"])


def corpora(lines: int) -> dict[str, pl.DataFrame]:
    """name → body, truth."""
    found = {
        file.stem: log_lines.written(file, lines)
        for file in sorted(log_lines.FORMATS.glob("*.txt"))
    }
    real = log_lines.train_ticket()
    if real is None:
        print("../shared/data is missing: the real pods' lines are left out")
    else:
        found["Train Ticket (real)"] = real
    return {**found, "sample_data": log_lines.of_the_sample()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=20_000, help="of each written corpus")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    python = os.environ.get("DRAIN3_PYTHON")
    if not python:
        print("DRAIN3_PYTHON is not set (see the top of this file): Drain3 is left out")
    templates.assign(pl.DataFrame({"body": ["warm up 1"]}))
    total, taken = 0, {"ours": 0.0, "drain3": 0.0}
    print(f"{'corpus':<22}{'lines':>8}{'truth':>7}{'found':>7}{'GA':>8}{'lines/s':>10}"
          f"{'drain3 GA':>11}{'lines/s':>9}{'ratio':>7}")  # fmt: skip
    for name, lines in corpora(asked.lines).items():
        mine = [ours(lines)]
        others = [drain3(lines, python)] if python else []
        for _ in range(asked.runs - 1):
            mine.append(ours(lines))
            others += [drain3(lines, python)] if python else []
        seconds = statistics.median(one[0] for one in mine)
        groups = mine[0][1]
        text = f"{name:<22}{lines.height:>8,}{lines['truth'].n_unique():>7}{groups.n_unique():>7}"
        text += f"{accuracy(groups, lines['truth']):>8.4f}{lines.height / seconds:>10,.0f}"
        total, taken["ours"] = total + lines.height, taken["ours"] + seconds
        if others:
            theirs = statistics.median(one[0] for one in others)
            taken["drain3"] += theirs
            text += f"{accuracy(others[0][1], lines['truth']):>11.4f}{lines.height / theirs:>9,.0f}"
            text += f"{theirs / seconds:>7.1f}"
        print(text)
    print(f"all: ours {total / taken['ours']:,.0f} lines/s")
    if python:
        print(
            f"     drain3 {total / taken['drain3']:,.0f} lines/s, ratio {taken['drain3'] / taken['ours']:.1f}"
        )


if __name__ == "__main__":
    main()
