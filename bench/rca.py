"""First hits of the diagnosis on the Train Ticket incidents, beside three baselines.

    python -m bench.rca [--lake DIR]

Reads ../shared/data/train-ticket (its answers are in incidents.json and only this file reads
them). `at` is two minutes after the injection, the baseline the day's normal minute. A tie counts
against the method; the baselines are a random order, the order most often right (constant), and
a robust shift over all pod metrics alone (BARO's RobustScorer, with the absolute value).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from ingest.run import ingest
from lake import Lake
from quality.run import repair
from rca import facts
from rca.diagnose import diagnose
from rca.question import Question

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "train-ticket"
NORMAL = {
    "2023-01-29": ("2023-01-29T08:49:00+00:00", "2023-01-29T08:50:10+00:00"),
    "2023-01-30": ("2023-01-30T11:38:50+00:00", "2023-01-30T11:39:53+00:00"),
}
FAULTS = {
    "return": "wrong_return",
    "exception": "exception",
    "cpu_contention": "cpu",
    "network_delay": "network_delay",
}


def filled(lake: Lake) -> Lake:
    """The lake with the recordings in it, repaired."""
    for source, place in (("jaeger", "jaeger"), ("logs", "pods"), ("prometheus", "prometheus")):
        ingest(lake, source, DATA / place)
    repair(lake)
    return lake


def shifted(lake: Lake, at: datetime) -> list[str]:
    """Services by the largest robust shift of any of their pods' metrics."""
    samples, _ = facts.samples_of(lake, (at - timedelta(minutes=2), at + timedelta(seconds=30)))
    bad = pl.col("ts") >= at - timedelta(minutes=2)
    bad &= pl.col("ts") < at + timedelta(seconds=30)
    healthy = pl.col("value").filter(~bad)
    spread = healthy.quantile(0.75) - healthy.quantile(0.25)
    off = (pl.col("value").filter(bad) - healthy.median()).abs().max()
    scored = samples.group_by("service", "series").agg(
        (off / pl.when(spread > 0).then(spread).otherwise(1.0)).alias("score")
    )
    best = scored.group_by("service").agg(pl.col("score").max()).drop_nulls()
    return best.sort("score", descending=True)["service"].to_list()


def hits(orders: Sequence[Sequence[str]], answers: Sequence[str]) -> str:
    """How often the answer is within the first 1, 3 and 5."""
    return "/".join(
        str(sum(answer in order[:most] for order, answer in zip(orders, answers, strict=True)))
        for most in (1, 3, 5)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, help="a lake that holds the recordings already")
    given = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: the recordings are not at {DATA}")
        return
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(given.lake) if given.lake else filled(Lake(Path(folder) / "lake"))
        run(lake.create())


def run(lake: Lake) -> None:
    incidents = json.loads((DATA / "incidents.json").read_text())
    orders, kinds, took, metrics = [], 0, [], []
    for one in incidents:
        at = datetime.fromisoformat(one["injected_at"]) + timedelta(minutes=2)
        start, end = (datetime.fromisoformat(text) for text in NORMAL[one["injected_at"][:10]])
        found = diagnose(lake, Question(at, baselines=((start, end),)))
        order = [suspect["service"] for suspect in found["suspects"]]
        first = found["suspects"][0] if found["suspects"] else {"fault": None}
        right = bool(order) and order[0] == one["service"]
        kinds += right and first["fault"] == FAULTS[one["fault"]]
        orders.append(order)
        took.append(found["duration_ms"])
        metrics.append(shifted(lake, at))
        place = order.index(one["service"]) + 1 if one["service"] in order else "-"
        print(
            f"{one['incident']}  {one['service']:<30} {one['fault']:<15} {place}  {found['verdict']}"
        )
    answers = [one["service"] for one in incidents]
    names = sorted({name for order in metrics for name in order})
    constant = [name for name, _ in Counter(answers).most_common(5)]
    dice = random.Random(7)
    print(f"\nof {len(incidents)}, within the first 1/3/5:")
    print(f"  rootlake            {hits(orders, answers)}   service and fault kind {kinds}")
    print(f"  metrics alone       {hits(metrics, answers)}")
    print(f"  constant            {hits([constant] * len(answers), answers)}   (knows the answers)")
    print(f"  random              {hits([dice.sample(names, 5) for _ in answers], answers)}")
    print(f"  median time         {statistics.median(took):.0f} ms a diagnosis")


if __name__ == "__main__":
    sys.exit(main())
