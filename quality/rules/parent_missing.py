"""A parent that never arrived: the row is marked, the link stays."""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "parent_missing"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """`faults` names the rows whose parent is not in their trace."""
    known = spans.select("trace_id", parent_span_id="span_id").drop_nulls().unique()
    known = known.with_columns(there=pl.lit(value=True))
    joined = spans.join(known, on=["trace_id", "parent_span_id"], how="left", maintain_order="left")
    absent = pl.col("parent_span_id").is_not_null() & pl.col("there").is_null()
    return joined.with_columns(marks.fault(NAME, absent)).drop("there")
