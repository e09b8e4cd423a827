"""A row without a trace id gets the one of its parent's or children's rows, when those agree."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules import fragments

NAME = "id_missing"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Trace ids filled where exactly one trace claims the row."""
    return fragments.settled(spans, _once)


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    if spans["trace_id"].null_count():
        pairs = fragments.links(spans).filter(pl.col("fragment").str.starts_with("row "))
        homes = pairs.select("fragment", home="other")
        spans = fragments.adopt(spans, homes, NAME)
    return spans


def mark(spans: pl.DataFrame) -> pl.DataFrame:
    """`faults` names the rows that still lack an id of their own."""
    gap = pl.col("trace_id").is_null() | pl.col("span_id").is_null()
    return spans.with_columns(marks.fault(NAME, gap))
