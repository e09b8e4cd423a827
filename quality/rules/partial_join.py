"""The pieces a container runtime cut a long log line into become one line again, where the
continuation is evident; a piece without it is marked."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from quality import marks

NAME = "partial_join"
FAULT = "partial"
STREAM = ["batch", "pod", "container", "stream"]


class Joined(NamedTuple):
    """lines: whole lines; parts: `row` of every line that was joined, and the `row` it went
    `into`."""

    lines: pl.DataFrame
    parts: pl.DataFrame


def apply(lines: pl.DataFrame) -> Joined:
    """Adjacent pieces of one line made one.

    A piece is continued by the line that follows it in its stream, only if that does not begin
    as the stream's whole lines do.
    """
    nothing = pl.DataFrame(schema={"row": pl.Int64, "into": pl.Int64})
    if not lines["partial"].any():
        return Joined(lines, nothing)
    keyed = _grouped(lines)
    first = keyed.filter(~pl.col("continues"))
    whole = keyed.group_by("group").agg(
        pl.col("body").sort_by("arrival").str.join("").alias("whole"),
        pl.col("partial").sort_by("arrival").last().alias("cut"),
        pl.col("row").sort_by("arrival").first().alias("into"),
    )
    merged = first.join(whole, on="group", how="left", maintain_order="left").with_columns(
        pl.col("whole").alias("body"),
        pl.col("cut").alias("partial"),
        marks.fault(FAULT, pl.col("cut")),
    )
    parts = keyed.filter("continues").join(whole, on="group").select("row", "into")
    return Joined(merged.sort("row").select(lines.columns), parts)


def _grouped(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines by stream and arrival: `continues` the one before, and the `group` it is of."""
    tags = (pl.col("attributes").map.get(name).alias(name) for name in ("container", "stream"))
    keyed = lines.with_columns(*tags).sort(*STREAM, "arrival", nulls_last=True)
    after = pl.col("partial").shift(1).over(STREAM).fill_null(value=False)
    begins = (_shape() == _usual_shape(after)).fill_null(value=False)
    near = pl.col("arrival") - pl.col("arrival").shift(1).over(STREAM) == 1
    keyed = keyed.with_columns((after & near & ~begins).fill_null(value=False).alias("continues"))
    return keyed.with_columns((~pl.col("continues")).cum_sum().alias("group"))


def _shape() -> pl.Expr:
    """How a line begins: its first eight characters, digits and letters each as one sign."""
    head = pl.col("body").str.slice(0, 8)
    return head.str.replace_all("[0-9]", "0").str.replace_all("[A-Za-z]", "a")


def _usual_shape(after: pl.Expr) -> pl.Expr:
    """The most frequent beginning of the lines that follow a whole line, per stream."""
    return pl.when(~after).then(_shape()).drop_nulls().mode().sort().first().over(STREAM)
