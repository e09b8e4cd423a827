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
    """The uppermost first: a piece moves to one that has a root and more than that one row. Where
    of two like ids it is not known which is damaged, nothing moves to either."""
    up = fragments.links(spans).filter(
        pl.col("up"),
        ~pl.col("fragment").str.starts_with("row "),
        ~pl.col("other").str.starts_with("row "),
    )
    if not up.height:
        return spans
    alike = up.filter(_alike())
    unsure = pl.concat([alike["fragment"], alike["other"]]).unique()
    rooted = fragments.rooted(spans, pl.concat([up["fragment"], up["other"]]))
    up = _downward(up.filter(~_alike()).join(rooted, on="fragment", how="anti"))
    moves = _homes(up, rooted)
    borne = fragments.sizes(spans, moves["other"]).filter(pl.col("count") >= 2)
    moves = moves.join(borne, left_on="other", right_on="fragment", how="semi").filter(
        ~pl.col("other").is_in(unsure.implode())
    )
    return fragments.adopt(spans, moves.select("fragment", home="other"), NAME)


def _homes(up: pl.DataFrame, rooted: pl.DataFrame) -> pl.DataFrame:
    """(fragment, other) of each piece the one with a root that its links lead to, if what others
    lead to is under that id damaged or cut."""
    homes = up.join(rooted, left_on="other", right_on="fragment", how="semi")
    homes = homes.select("fragment", home="other").unique()
    homes = homes.filter(pl.len().over("fragment") == 1)
    both = up.join(homes, on="fragment")
    strange = both.filter((pl.col("other") != pl.col("home")) & ~_alike("home"))
    clear = homes.join(strange, on="fragment", how="anti")
    return clear.rename({"home": "other"})


def _downward(up: pl.DataFrame) -> pl.DataFrame:
    """Of two pieces that point at each other the links of the one that hangs on the other's
    uppermost row: that holds all below it, so it is earlier and lasts longer."""
    back = up.select(fragment="other", other="fragment", back_start="start", back_length="length")
    both = up.join(back, on=["fragment", "other"], how="left")
    alone = pl.col("back_start").is_null() & pl.col("back_length").is_null()
    upper = (pl.col("start") < pl.col("back_start")) & (pl.col("length") > pl.col("back_length"))
    return both.filter(alone | upper).drop("back_start", "back_length")


def _alike(one: str = "fragment") -> pl.Expr:
    """Whether one id is the other damaged or cut, of which it is not known which is right."""
    return (fragments.distance(one, "other") <= DIGITS) | (
        fragments.distance(one, "other", 32, 16) <= DIGITS
    )
