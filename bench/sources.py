"""Recorded spans that are right, as rows of `raw_spans`: what is left of a source after repair.

The recordings have faults of their own; of what was repaired the traces without any that is left
are taken as the truth.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl

from ingest.run import ingest
from lake import Lake
from quality import frame, spans

ROOT = Path(__file__).resolve().parent.parent
RECORDED = {
    "sample": ROOT / "sample_data" / "jaeger",
    "train-ticket": ROOT.parent / "shared" / "data" / "train-ticket" / "jaeger",
    "hotel": ROOT.parent / "shared" / "data" / "hotel-reservation",
    "hotel-load50": ROOT.parent / "shared" / "data" / "hotel-reservation" / "load50.json.gz",
    "hotel-load150": ROOT.parent / "shared" / "data" / "hotel-reservation" / "load150.json.gz",
}
NAMES = tuple(RECORDED)
_IDS = ("trace_id", "span_id", "parent_span_id")


def raw(name: str) -> pl.DataFrame:
    """The rows of a recorded source as they were delivered."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        ingest(lake, "jaeger", RECORDED[name])
        return lake.read("raw_spans").sort("batch", "arrival")


def clean(name: str) -> pl.DataFrame:
    """Whole healthy traces of a recorded source."""
    rows = raw(name)
    found = spans.repair(frame.narrow(rows)).spans
    sick = found.filter((pl.col("faults").list.len() > 0) | pl.col("trace_id").is_null())
    sound = found.join(sick.select("trace_id"), on="trace_id", how="anti").sort("row")
    told = rows[sound["row"]]
    return told.with_columns(
        *(sound[column] for column in (*_IDS, "kind")),
        start=sound["start_ns"] // 1000,
        duration=sound["duration_ns"] // 1000,
        start_unit=pl.lit("us"),
        batch=pl.lit("b"),
        arrival=pl.int_range(pl.len(), dtype=pl.Int64),
    )
