"""The repair of errors: one row per event, ids canonical, the SDK's clock corrected."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from quality import marks
from quality.rules import id_format
from quality.spans import changed_values

VERSIONS = {"error_clock": 1, "id_format": 1, "error_duplicate": 1}
LEAST = 5_000_000  # µs: sending takes a moment; less than this is no clock's fault


class Repaired(NamedTuple):
    """errors: clean rows; merged: rows left out as doubles."""

    errors: pl.DataFrame
    merged: pl.DataFrame
    audit: pl.DataFrame


def repair(raw: pl.DataFrame) -> Repaired:
    """Clean rows of `errors`. An event's time moves by received_at − sent_at, when the two tell
    that the sender's clock was off."""
    rows = raw.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
    )
    order = rows.sort("ingested_at", "batch", "arrival")
    kept = order.unique(["project", "event_id"], keep="first", maintain_order=True).sort("row")
    merged = rows.join(kept.select("row"), on="row", how="anti")
    named = id_format.apply(kept)
    moved = error_clock(named)
    return Repaired(moved, merged, _audit(kept, moved))


def error_clock(rows: pl.DataFrame) -> pl.DataFrame:
    """`ts` by the server's clock, where sent_at and received_at lie over five seconds apart."""
    off = (pl.col("received_at") - pl.col("sent_at")).dt.total_microseconds()
    wrong = (off.abs() > LEAST) & ~pl.col("repaired").list.contains("error_clock")
    by = pl.when(wrong.fill_null(value=False)).then(off).otherwise(0)
    return rows.with_columns(
        (pl.col("ts") + pl.duration(microseconds=by)).alias("ts"),
        marks.repaired("error_clock", wrong),
    )


def _audit(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    ids = changed_values("id_format", before, after, ("trace_id", "span_id"))
    return pl.concat([ids, changed_values("error_clock", before, after, ("ts",))])
