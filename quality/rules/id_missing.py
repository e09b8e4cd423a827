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
    """A trace that is taken has a root (the row itself may be it) and more than one row: a lone
    row or piece may be damaged itself."""
    if not spans["trace_id"].null_count():
        return spans
    pairs = fragments.links(spans).filter(pl.col("fragment").str.starts_with("row "))
    homes = pairs.select("fragment", home="other").filter(~pl.col("home").str.starts_with("row "))
    agreed = pl.col("home").n_unique().over("fragment") == 1
    borne = fragments.sizes(spans, homes["home"]).filter(pl.col("count") >= 2)
    homes = homes.filter(agreed).join(borne, left_on="home", right_on="fragment", how="semi")
    roots = fragments.rooted(spans, pl.concat([homes["home"], homes["fragment"]]))["fragment"]
    rooted = pl.any_horizontal(pl.col("home", "fragment").is_in(roots.implode()))
    return fragments.adopt(spans, homes.filter(rooted), NAME)


def mark(spans: pl.DataFrame) -> pl.DataFrame:
    """`faults` names the rows that still lack an id of their own."""
    gap = pl.col("trace_id").is_null() | pl.col("span_id").is_null()
    return spans.with_columns(marks.fault(NAME, gap))
