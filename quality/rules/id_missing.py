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
    """A trace that is taken has more than one row and a root, for a lone row or piece may itself
    be damaged; the row may be the root, if no other piece lays claim to it."""
    if not spans["trace_id"].null_count():
        return spans
    pairs = fragments.links(spans)
    alone, named = (
        pl.col("fragment").str.starts_with("row "),
        ~pl.col("other").str.starts_with("row "),
    )
    homes = pairs.filter(alone, named).select("fragment", home="other")
    agreed = pl.col("home").n_unique().over("fragment") == 1
    borne = fragments.sizes(spans, homes["home"]).filter(pl.col("count") >= 2)
    homes = homes.filter(agreed).join(borne, left_on="home", right_on="fragment", how="semi")
    roots = fragments.rooted(spans, pl.concat([homes["home"], homes["fragment"]]))["fragment"]
    rooted, root = (pl.col(side).is_in(roots.implode()) for side in ("home", "fragment"))
    contested = pairs.filter(~alone, named)["fragment"].unique().implode()
    sure = rooted | (root & ~pl.col("home").is_in(contested))
    return fragments.adopt(spans, homes.filter(sure), NAME)


def mark(spans: pl.DataFrame) -> pl.DataFrame:
    """`faults` names the rows that still lack an id of their own."""
    gap = pl.col("trace_id").is_null() | pl.col("span_id").is_null()
    return spans.with_columns(marks.fault(NAME, gap))
