"""A subtree under another trace id, though its parent link points into a trace, joins it."""

from __future__ import annotations

import polars as pl

from quality.rules import fragments
from quality.rules.id_corrupt import DIGITS

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
    up = up.select("fragment", "other").unique()
    if not up.height:
        return spans
    up = up.filter(~_alike())
    up = up.join(fragments.rooted(spans, up["fragment"]), on="fragment", how="anti")
    up = up.join(up, left_on=["fragment", "other"], right_on=["other", "fragment"], how="anti")
    clear = up.filter(pl.col("other").n_unique().over("fragment") == 1)
    moves = clear.join(up.select(other="fragment").unique(), on="other", how="anti")
    return fragments.adopt(spans, moves.select("fragment", home="other"), NAME)


def _alike() -> pl.Expr:
    """Whether one id is the other damaged or cut, of which it is not known which is right."""
    return (fragments.distance("fragment", "other") <= DIGITS) | (
        fragments.distance("fragment", "other", 32, 16) <= DIGITS
    )
