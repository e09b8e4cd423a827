"""How often the diagnosis is right, on any labelled set, beside three baselines.

    python -m bench.rca train-ticket [--lake DIR] [--half] [--other-day] [--masked]
    python -m bench.rca generated --seeds 5000 5200 [--kind single|double|healthy] [--out FILE]
    python -m bench.rca report FILE …      figures of what `generated` wrote
    python -m bench.rca fit FILE …         the confidence, fitted on what `generated` wrote

Train Ticket is read from ../shared/data (only this file reads its answers): `at` is two minutes
after the injection, the baseline the day's normal minute. Generated incidents come from
bench/incidents; seeds below 5000 are for development, those from 5000 on are kept aside and only
run for figures. A tie counts against the method. The baselines are a random order, the order most
often right (constant), and a robust shift over all pod metrics alone (BARO's RobustScorer, with
the absolute value).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from bench import rca_figures
from bench.incidents.make import Incident, incident
from ingest.run import ingest
from lake import Lake, UserError
from quality.run import repair
from rca import facts, read
from rca.detect import detect
from rca.diagnose import diagnose
from rca.question import Question, Stretch

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
Row = dict[str, Any]


def filled(lake: Lake) -> Lake:
    """The lake with the recordings in it, repaired."""
    for source, place in (("jaeger", "jaeger"), ("logs", "pods"), ("prometheus", "prometheus")):
        ingest(lake, source, DATA / place)
    repair(lake)
    return lake


def shifted(lake: Lake, at: datetime) -> list[str]:
    """Services by the largest robust shift of any of their pods' metrics."""
    window = (at - timedelta(minutes=2), at + timedelta(seconds=30))
    samples, _ = read.samples_of(lake, window)
    bad = pl.col("ts").is_between(*window, closed="left")
    healthy = pl.col("value").filter(~bad)
    spread = healthy.quantile(0.75) - healthy.quantile(0.25)
    off = (pl.col("value").filter(bad) - healthy.median()).abs().max()
    scored = (
        samples.drop_nulls("service")
        .group_by("service", "series")
        .agg((off / pl.when(spread > 0).then(spread).otherwise(1.0)).alias("score"))
    )
    best = scored.group_by("service").agg(pl.col("score").max()).drop_nulls()
    return best.sort("score", descending=True)["service"].to_list()


def judged(lake: Lake, question: Question, told: Row) -> Row:
    """One diagnosis beside its right answer, as a row of figures."""
    opened = detect(lake)  # before a diagnosis adds the incident it was asked for
    began = time.perf_counter()
    try:
        found = diagnose(lake, question)
    except UserError as error:  # nothing recorded: an answer too, and a wrong one
        return {**told, "order": [], "kinds": [], "error": str(error)}
    seconds = time.perf_counter() - began
    metrics = shifted(lake, question.at)
    return {
        **told,
        "order": [one["service"] for one in found["suspects"]],
        "scores": [one["score"] for one in found["suspects"]],
        "kinds": [one["fault"] for one in found["suspects"]],
        "verdict": found["verdict"],
        "confidence": found["confidence"],
        "signals": found["signals"],
        "onset": found["onset"],
        "change": (found["root_cause_change"] or {}).get("ref"),
        "seconds": seconds,
        "took": found["duration_ms"],
        "metrics": metrics[:5],
        "opened": [str(moment) for moment in opened["onset"].to_list()],
    }


def train_ticket(
    lake: Lake, *, half: bool = False, other_day: bool = False, masked: bool = False
) -> Iterator[Row]:
    """Its 23 incidents; made harder by half the traces, the other day's healthy minute, or
    templates without their names."""
    for one in json.loads((DATA / "incidents.json").read_text()):
        day = one["injected_at"][:10]
        normal = next(key for key in NORMAL if (key == day) != other_day)
        baseline: Stretch = tuple(datetime.fromisoformat(text) for text in NORMAL[normal])  # type: ignore[assignment]
        at = datetime.fromisoformat(one["injected_at"]) + timedelta(minutes=2)
        told = {
            "name": one["incident"],
            "kind": "single",
            "answers": [[one["service"]]],
            "faults": [FAULTS[one["fault"]]],
            "began": None,
        }
        with _Harder(half=half, masked=masked):
            yield judged(lake, Question(at, baselines=(baseline,)), told)


class _Harder:
    """While it lasts, the diagnosis sees half the traces, or templates without their text."""

    def __init__(self, *, half: bool, masked: bool) -> None:
        self.half, self.masked, self.load = half, masked, facts.load

    def __enter__(self) -> None:
        def load(*given: Any, **more: Any) -> facts.Facts:
            seen = self.load(*given, **more)
            if self.half:
                kept = pl.col("trace_id").str.slice(-1).str.to_integer(base=16) % 2 == 0
                seen = replace(
                    seen,
                    spans=seen.spans.filter(kept),
                    logs=seen.logs.filter(kept | pl.col("trace_id").is_null()),
                )
            if self.masked:
                seen = replace(seen, logs=seen.logs.with_columns(template=pl.lit("")))
            return seen

        facts.load = load

    def __exit__(self, *_: object) -> None:
        facts.load = self.load


def generated(seeds: Sequence[int], kind: str) -> Iterator[Row]:
    """Incidents of made-up systems, each in a lake of its own."""
    for seed in seeds:
        made = incident(seed, healthy=kind == "healthy", double=kind == "double")
        with tempfile.TemporaryDirectory() as folder:
            lake = made.fill(Lake(Path(folder) / "lake").create())
            yield judged(lake, Question(made.at), told(made, kind))


def told(made: Incident, kind: str) -> Row:
    """The right answer of an incident."""
    return {
        "name": f"{kind}-{made.seed}",
        "kind": kind,
        "answers": [list(one) for one in made.answers],
        "faults": [one.kind for one in made.faults],
        "levels": [one.level for one in made.faults],
        "began": made.onset.isoformat(),
        "culprits": list(made.culprits),
        "decoys": list(made.decoys),
        "hidden": list(made.hidden),
        "services": sorted(made.system.services),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train-ticket", "generated", "report", "fit"])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--lake", type=Path, help="a lake that holds the recordings already")
    for name in ("half", "other-day", "masked"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--seeds", nargs=2, type=int, default=(5000, 5020), metavar="N")
    parser.add_argument("--kind", choices=["single", "double", "healthy"], default="single")
    parser.add_argument("--out", type=Path, help="where to add the rows, one JSON object a line")
    given = parser.parse_args()
    if given.what == "train-ticket" and not DATA.is_dir():
        print(f"skipped: the recordings are not at {DATA}")
        return
    if given.what in {"report", "fit"}:
        rows = [json.loads(line) for file in given.files for line in file.open(encoding="utf-8")]
        print(rca_figures.fitted(rows) if given.what == "fit" else rca_figures.report(rows))
        return
    rows = list(_kept(_rows(given), given.out))
    print(rca_figures.report(rows))


def _rows(given: argparse.Namespace) -> Iterator[Row]:
    if given.what == "generated":
        yield from generated(range(*given.seeds), given.kind)
        return
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(given.lake) if given.lake else filled(Lake(Path(folder) / "lake").create())
        yield from train_ticket(
            lake, half=given.half, other_day=given.other_day, masked=given.masked
        )


def _kept(rows: Iterator[Row], out: Path | None) -> Iterator[Row]:
    """The rows as they come, each shown in a line and added to a file."""
    for row in rows:
        first = row["order"][:1]
        print(
            f"{row['name']:<22} {row['faults']} {row['answers']} → {first} {row['kinds'][:1]} {row.get('verdict')}",
            file=sys.stderr,
        )
        if out:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        yield row


if __name__ == "__main__":
    sys.exit(main())
