"""An event that came more than once becomes one row: the one that was delivered first."""

from __future__ import annotations

import polars as pl

NAME = "error_duplicate"


def apply(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per project and event id; events without an id are all kept."""
    named = pl.col("event_id").is_not_null()
    first = pl.struct("ingested_at", "row_key").rank("ordinal").over("project", "event_id") == 1
    kept: pl.DataFrame = rows.filter(~named | first)
    return kept
