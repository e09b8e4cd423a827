"""The lines of a stack trace become one event, where they evidently are one.

A runtime prints a trace line by line, and a container's log has a row for each. Read are the
traces of Java, Python, Go, Node, .NET and Ruby. A line is joined only to the one right before it
in its stream, and only where its form says that it goes on (`quality.stacks`).
"""

from __future__ import annotations

import polars as pl

from quality import stacks
from quality.rules.partial_join import STREAM, Joined

NAME = "stack_join"


def apply(lines: pl.DataFrame, pieces: pl.DataFrame) -> Joined:
    """`lines` with every trace as one row: its first line's, with the whole text as body.

    `pieces` are the parts that `partial_join` joined (row, into): a line takes as many places of
    its stream as it was made of.
    """
    nothing = pl.DataFrame(schema={"row": pl.Int64, "into": pl.Int64})
    some = lines.filter(pl.col("body").str.contains(stacks.MAY_GO_ON))
    if not some.height:
        return Joined(lines, nothing)
    keyed = _grouped(lines, pieces)
    gone = keyed.filter("goes_on")
    if not gone.height:
        return Joined(lines, nothing)
    whole = (
        keyed.filter(pl.len().over("group") > 1)
        .group_by("group")
        .agg(
            pl.col("body").sort_by("arrival").str.join("\n").alias("whole"),
            pl.col("row").sort_by("arrival").first().alias("into"),
        )
    )
    kept = lines.join(gone.select("row"), on="row", how="anti", maintain_order="left")
    kept = kept.join(whole, left_on="row", right_on="into", how="left", maintain_order="left")
    kept = kept.with_columns(body=pl.coalesce("whole", "body"))
    parts = gone.join(whole, on="group").select("row", "into")
    return Joined(kept.select(lines.columns), parts)


def _grouped(lines: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """The lines by stream and arrival: whether each `goes_on` from the one before, its `group`."""
    took = pieces.group_by(row="into").agg(pl.len().cast(pl.Int64).alias("took"))
    tags = (pl.col("attributes").map.get(name).alias(name) for name in ("container", "stream"))
    keyed = lines.join(took, on="row", how="left").with_columns(*tags)
    keyed = keyed.sort(*STREAM, "arrival", nulls_last=True)
    end = (pl.col("arrival") + pl.col("took").fill_null(0)).shift(1).over(STREAM)
    near = ((pl.col("arrival") - end) == 1).fill_null(value=False)
    return stacks.going_on(keyed.with_columns(near=near), STREAM).with_columns(
        group=(~pl.col("goes_on")).cum_sum()
    )
