"""A subtree under another trace id, though its parent link points into a trace, joins it."""

from __future__ import annotations

import polars as pl

from quality.rules import fragments

NAME = "trace_split"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Subtrees joined to their parent's trace; one with a root of its own stays."""
    count = fragments.sizes(spans)
    homes = (
        fragments.links(spans)
        .filter(pl.col("up"), ~pl.col("fragment").str.starts_with("row "))
        .join(count.filter(~pl.col("rooted")), on="fragment")
        .join(count.filter(pl.col("rooted")).select(other="fragment"), on="other", how="semi")
        .select("fragment", home="other")
    )
    return fragments.adopt(spans, homes, NAME)
