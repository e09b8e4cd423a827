"""Attributes: what sets bad requests apart is found among hundreds of values; chance is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lake import TABLES, Lake, empty
from rca import facts
from rca.suspects import attributes

START = datetime(2026, 3, 4, 14, 0, tzinfo=UTC)
WINDOW = (START, START + timedelta(minutes=2))
COUNT = 900


def spans(seed: int) -> pl.DataFrame:
    """Spans of one service with a tenant of 300, a model of three and a region of two."""
    dice = np.random.default_rng(seed)
    columns = {
        "tenant": [f"t{n}" for n in dice.integers(0, 300, COUNT)],
        "model": [f"m{n}" for n in dice.integers(0, 3, COUNT)],
        "region": [("eu", "us")[n] for n in dice.integers(0, 2, COUNT)],
        "request": [f"r{n}" for n in range(COUNT)],
    }
    tags = [pl.struct(pl.lit(name).alias("key"), pl.col(name).alias("value")) for name in columns]
    frame = pl.DataFrame({**columns, "number": range(COUNT)})
    return frame.with_columns(
        date=pl.lit(START.date()),
        start=pl.lit(START) + pl.duration(milliseconds=pl.col("number") * 100),
        trace_id=pl.col("number").map_elements(lambda n: f"{n:032x}", pl.String),
        span_id=pl.col("number").map_elements(lambda n: f"{n:016x}", pl.String),
        service=pl.lit("chat"),
        operation=pl.lit("answer"),
        status=pl.lit("ok"),
        start_ns=pl.lit(0, pl.Int64),
        duration_ns=pl.lit(10**6, pl.Int64),
        attributes=pl.concat_list(tags).cast(pl.Map(pl.String, pl.String)),
    )


def found(folder: Path, frame: pl.DataFrame, bad: pl.Series) -> list[attributes.Trait]:
    lake = Lake(folder).create()
    kept = [name for name in TABLES["spans"].schema.names if name in frame.columns]
    lake.append("spans", pl.concat([empty(TABLES["spans"]), frame.select(kept)], how="diagonal"))
    seen = facts.load(lake, WINDOW, ())
    return attributes.traits(lake, seen, "chat", frame.filter(bad).select("span_id"))


def test_a_pair_of_values_is_found_among_hundreds(tmp_path: Path) -> None:
    frame = spans(1)
    bad = (frame["model"] == "m2") & (frame["region"] == "us")
    first = found(tmp_path, frame, bad)[0]
    assert dict(zip(first.names, first.values, strict=True)) == {"model": "m2", "region": "us"}
    assert (first.bad, first.good) == (1.0, 0.0)


def test_one_tenant_of_hundreds_is_found(tmp_path: Path) -> None:
    frame = spans(2).with_columns(
        tenant=pl.when(pl.col("number") % 40 == 0).then(pl.lit("t7")).otherwise("tenant")
    )
    tags = [
        pl.struct(pl.lit(name).alias("key"), pl.col(name).alias("value"))
        for name in ("tenant", "model", "region", "request")
    ]
    frame = frame.with_columns(attributes=pl.concat_list(tags).cast(pl.Map(pl.String, pl.String)))
    first = found(tmp_path, frame, frame["tenant"] == "t7")[0]
    assert (first.names, first.values) == (("tenant",), ("t7",))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_where_chance_chose_the_bad_ones_nothing_is_named(tmp_path: Path, seed: int) -> None:
    frame = spans(seed)
    bad = pl.Series(np.random.default_rng(seed).random(COUNT) < 0.2)
    assert found(tmp_path, frame, bad) == []


def test_the_bound_rises_with_the_number_of_values() -> None:
    bounds: list[Any] = [attributes.beyond_chance(values) for values in (1, 10, 1000)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(3.317, abs=0.01)
