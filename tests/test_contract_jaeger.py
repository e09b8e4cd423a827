"""Jaeger's own pairs of payloads, OTLP and its JSON of the same traces: equal after repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest.run import ingest
from lake import Lake
from quality.run import repair

from .conftest import SHARED

PAIRS = [
    ("otlp2jaeger-in.json", "otlp2jaeger-out.json"),
    ("otlp2jaeger-multi-in-combined.json", "oltp2jaeger-multi-out.json"),
]
# What Jaeger's form tells by tags of its own making, and OTLP by fields: not looked at here.
TOLD_OTHERWISE = {"span.kind", "otel.library.name", "otel.library.version", "w3c.tracestate"}


@pytest.fixture(scope="module")
def payloads() -> Path:
    """Jaeger's payloads, or a skip."""
    folder = SHARED / "fixtures" / "jaeger"
    if not folder.is_dir():
        pytest.skip("../shared/fixtures is not here: vendors' payloads are not in the project")
    return folder


def spans(file: Path, folder: Path) -> list[dict[str, Any]]:
    """The clean spans of a file, in order, without what the two forms tell otherwise."""
    lake = Lake(folder / file.stem)
    ingest(lake, "jaeger", file)
    repair(lake)
    assert not lake.read("quarantine").height
    rows = lake.read("spans").sort("trace_id", "start_ns", "span_id")
    return [_bare(row) for row in rows.to_dicts()]


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    names = ("trace_id", "span_id", "parent_span_id", "service", "operation", "kind", "links")
    tags = {key: one for key, one in _pairs(row["attributes"]) if key not in TOLD_OTHERWISE}
    resource = {key: one for key, one in _pairs(row["resource"]) if key != "service.name"}
    return {
        **{name: row[name] or None for name in names},
        # Jaeger's form has microseconds
        "start_us": row["start_ns"] // 1000,
        "duration_us": row["duration_ns"] // 1000,
        "tags": tags,
        "resource": resource,
        "events": len(row["events"] or []),
    }


def _pairs(found: Any) -> list[tuple[str, str]]:
    return list(dict(found or {}).items())


@pytest.mark.parametrize(("otlp", "jaeger"), PAIRS)
def test_the_same_traces_in_both_forms_are_the_same_spans(
    otlp: str, jaeger: str, payloads: Path, tmp_path: Path
) -> None:
    one, other = spans(payloads / otlp, tmp_path), spans(payloads / jaeger, tmp_path)
    assert len(one) == len(other) > 0
    for mine, theirs in zip(one, other, strict=True):
        assert mine == theirs


@pytest.mark.parametrize(
    "name", ["spanLongerAsParent.json", "traceWithOverlappingChildrenLongerThanParent.json"]
)
def test_odd_traces_lose_no_span(name: str, payloads: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    landed = ingest(lake, "jaeger", payloads / name)
    repair(lake)
    raw = lake.read("raw_spans")
    assert raw.height == landed.rows == (payloads / name).read_text().count('"operationName"')
    clean = lake.read("spans")["span_id"].n_unique()
    apart = lake.read("quarantine").filter(pl.col("table_name") == "spans").height
    assert clean + apart == raw["span_id"].n_unique()
