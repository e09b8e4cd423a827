"""A subtree under another trace id, though its parent link points into a trace, joins it.

Which of the two ids is the trace's own, the links do not tell: the piece with fewer spans takes
the other's, so that one damaged root does not rename its whole trace.
"""

from __future__ import annotations

import polars as pl

from quality.rules import fragments

NAME = "trace_split"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Subtrees joined to their parent's trace; one with a root of its own stays."""
    return fragments.settled(spans, _once)


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    count = fragments.sizes(spans)
    joints = (
        fragments.links(spans)
        .filter(pl.col("up"), ~_unnamed("fragment"), ~_unnamed("other"))
        .join(count.filter(~pl.col("rooted")).select("fragment", "count"), on="fragment")
        .join(count.filter("rooted").select(other="fragment", whole="count"), on="other")
        .filter(pl.col("other").n_unique().over("fragment") == 1)
    )
    alone = pl.col("fragment").n_unique().over("other") == 1
    larger = alone & (pl.col("count") > pl.col("whole"))
    homes = joints.select(
        pl.when(larger).then("other").otherwise("fragment").alias("fragment"),
        pl.when(larger).then("fragment").otherwise("other").alias("home"),
    )
    return fragments.adopt(spans, homes, NAME)


def _unnamed(column: str) -> pl.Expr:
    return pl.col(column).str.starts_with("row ")
