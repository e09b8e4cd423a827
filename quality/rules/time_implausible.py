"""A time that cannot be: cut to 32 bits, epoch 0, far future.

What is left of a time cut to 32 bits tells it exactly, where the bounds of parent and children
hold one time that would be cut to it. Else the span is placed inside its parent when those bounds
leave less than a millisecond of doubt, or left out, for quarantine.
"""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules.around import neighbours
from quality.rules.time_unit import plausible

NAME = "time_implausible"
DOUBT = 1_000_000  # ns
WRAP = 1 << 32
ROOM = 20  # the bounds must be this much narrower than a turn of the 32 bits


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """Rows with a time that can be; of those placed, `clock_error_ns` says how well."""
    wrong = ~plausible(pl.col("start_ns")).fill_null(value=False)
    if not spans.select(wrong.any()).item():
        return spans
    places = _places(spans, wrong)
    return (
        spans.join(places, on="row", how="left", maintain_order="left")
        .with_columns(wrong.alias("wrong"))
        .filter(~pl.col("wrong") | pl.col("place").is_not_null())
        .with_columns(
            pl.when("wrong").then("place").otherwise("start_ns").alias("start_ns"),
            pl.when("wrong").then("offset").otherwise("clock_offset_ns").alias("clock_offset_ns"),
            pl.when("wrong").then("doubt").otherwise("clock_error_ns").alias("clock_error_ns"),
            marks.repaired(NAME, pl.col("wrong")),
        )
        .drop("place", "doubt", "offset", "wrong")
    )


def _places(spans: pl.DataFrame, wrong: pl.Expr) -> pl.DataFrame:
    """(row, place, doubt, offset): where bounds allow, the time and its half-width in ns, and by
    how much the host's own clock showed more."""
    around = neighbours(spans, spans.filter(wrong))
    asked = (
        spans.filter(wrong)
        .join(around, on="row", how="left")
        .join(_clocks(spans, wrong), on="row", how="left")
    )
    length = pl.col("duration_ns")
    asked = asked.filter(pl.col("low").is_not_null() & (length >= 0)).with_columns(
        low=pl.max_horizontal("low", pl.col("last") - length),
        high=pl.min_horizontal(pl.col("high") - length, "first"),
    )
    unit = pl.when(pl.col("start_unit") == "ns").then(1).otherwise(1000)
    turn = unit * WRAP
    shown = pl.col("low") + pl.col("offset") - pl.col("off")
    told = shown + (pl.col("start") * unit - shown) % turn  # the first such time from `low` on
    exact = told - pl.col("offset")
    width = pl.col("high") - pl.col("low") + 2 * pl.col("off")
    is_cut = pl.col("start").is_between(-WRAP, WRAP) & (pl.col("start") != 0)
    inside = is_cut & (exact <= pl.col("high") + pl.col("off")) & (width * ROOM < turn)
    width = pl.col("high") - pl.col("low")
    tight = ~is_cut & width.is_between(0, DOUBT)  # a cut time that fits nowhere tells of a fault
    return asked.select(
        "row",
        place=pl.when(inside).then(exact).when(tight).then((pl.col("low") + pl.col("high")) // 2),
        doubt=pl.when(inside).then("off").when(tight).then((width + 1) // 2 + pl.col("shared")),
        offset=pl.when(inside).then("offset").otherwise(0),
    ).filter(pl.col("place").is_not_null())


def _clocks(spans: pl.DataFrame, wrong: pl.Expr) -> pl.DataFrame:
    """(row, offset, off): how the clock of each asked row's host was corrected in its trace."""
    owner = pl.coalesce("host", "service").alias("owner")
    asked = spans.filter(wrong).select("row", "trace_id", owner)
    moved = spans.filter(pl.col("clock_offset_ns") != 0)
    near = (
        moved.select("trace_id", owner, "clock_offset_ns", "clock_error_ns")
        .join(asked.select("trace_id"), on="trace_id", how="semi")
        .group_by("trace_id", "owner")
        .agg(
            offset=pl.col("clock_offset_ns").median().cast(pl.Int64),
            off=pl.col("clock_error_ns").max(),
        )
    )
    unsure = moved.select(owner).unique().with_columns(somewhere=pl.lit(value=True))
    joined = asked.join(near, on=["trace_id", "owner"], how="left").join(
        unsure, on="owner", how="left"
    )
    still = pl.when(pl.col("somewhere").is_null()).then(0)
    return joined.select("row", offset=pl.coalesce("offset", still), off=pl.coalesce("off", still))
