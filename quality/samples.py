"""The repair of metric samples: in order, one per series and instant; resets and gaps marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from quality import audit, moves
from quality.rules import counter_reset, sample_duplicate, sample_order, stale_gap
from quality.suppressions import NOTHING, Exempt

Rule = Callable[[pl.DataFrame], pl.DataFrame]

RULES: tuple[tuple[str, Rule], ...] = (
    ("sample_order", sample_order.apply),  # the others compare neighbours in time
    ("sample_duplicate", sample_duplicate.apply),
    ("counter_reset", counter_reset.apply),
    ("stale_gap", stale_gap.apply),
)
VERSIONS = dict.fromkeys((*(name for name, _ in RULES), moves.NAME), 2)


class Repaired(NamedTuple):
    """samples: clean rows; merged: rows left out; late: `date` and `metric` of rows that arrived
    after a later sample of their series."""

    samples: pl.DataFrame
    merged: pl.DataFrame
    late: pl.DataFrame
    audit: pl.DataFrame


def repair(raw: pl.DataFrame, series: pl.DataFrame, exempt: Exempt = NOTHING) -> Repaired:
    """Clean rows of `samples`; `series` are rows of the table of that name. `exempt` rows are left
    alone by the rules that are undone for them."""
    kinds = series.select("series", "type").unique("series", keep="any")
    rows = (
        raw.with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64), pl.lit([], pl.List(pl.String)).alias("faults"))
        .join(kinds, on="series", how="left", maintain_order="left")
    )
    clean = rows
    for name, rule in RULES:
        clean = exempt.apply(name, rule, clean)
    merged = rows.clear()
    if clean.height < rows.height:
        merged = rows.join(clean.select("row"), on="row", how="anti")
    gone = merged.with_columns(pl.format("{}:{}", "batch", "arrival").alias("row_key"))
    late = sample_order.late(raw).select("date", "metric")
    return Repaired(clean, merged, late, audit.merged(sample_duplicate.NAME, gone))
