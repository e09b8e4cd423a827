"""A subtree under another trace id, though its parent link points into a trace, joins it."""

from __future__ import annotations

import polars as pl

from quality.rules import fragments

NAME = "trace_split"


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Subtrees joined to their parent's trace; one with a root of its own stays."""
    return fragments.settled(spans, _once)


def _once(spans: pl.DataFrame) -> pl.DataFrame:
    """The uppermost first: a piece moves to one that stays. Pieces that point at each other in a
    ring never move."""
    up = fragments.links(spans).filter(
        pl.col("up"),
        ~pl.col("fragment").str.starts_with("row "),
        ~pl.col("other").str.starts_with("row "),
    )
    if not up.height:
        return spans
    rooted = fragments.rooted(spans, up["fragment"])
    up = up.join(rooted, on="fragment", how="anti")
    stays = up.join(up.select(other="fragment").unique(), on="other", how="anti")
    clear = pl.col("other").n_unique().over("fragment") == 1
    moves = up.filter(clear).join(stays.select("fragment", "other"), on=["fragment", "other"], how="semi")
    return fragments.adopt(spans, moves.select("fragment", home="other"), NAME)
