"""The repair of logs: cut lines joined, ids canonical, clocks of their hosts corrected, every
line assigned to its template."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from quality import marks, templates
from quality.clock import skew
from quality.rules import id_format
from quality.spans import changed_values

VERSIONS = {"partial_join": 1, "id_format": 1}
STREAM = ["batch", "pod", "container", "stream"]
MICROS = 1_000


class Repaired(NamedTuple):
    """logs: clean rows; joined: how many physical lines became part of another."""

    logs: pl.DataFrame
    joined: int
    audit: pl.DataFrame


def repair(raw: pl.DataFrame, clocks: list[skew.Line], nodes: pl.DataFrame) -> Repaired:
    """Clean rows of `logs` from physical lines. `nodes` maps pod to host."""
    lines = raw.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
    )
    whole = join_partials(lines)
    named = id_format.apply(whole)
    placed = _placed(named, nodes)
    shifted = _shifted(placed, clocks)
    return Repaired(templates.assign(shifted), lines.height - whole.height, _audit(whole, named))


def join_partials(lines: pl.DataFrame) -> pl.DataFrame:
    """Adjacent pieces of one line made one.

    A piece is continued by the next line of its stream only if that does not begin as the
    stream's whole lines do; a piece without its continuation is marked.
    """
    if not lines["partial"].any():
        return lines
    keyed = lines.with_columns(
        container=pl.col("attributes").map.get("container"),
        stream=pl.col("attributes").map.get("stream"),
    ).sort([*STREAM, "arrival"], maintain_order=True, nulls_last=True)
    after = pl.col("partial").shift(1).over(STREAM).fill_null(value=False)
    begins = _shape() == _usual_shape(after)
    near = pl.col("arrival") - pl.col("arrival").shift(1).over(STREAM) == 1
    continues = after & near & ~begins.fill_null(value=False)
    group = (~continues).cum_sum().alias("group")
    keyed = keyed.with_columns(continues.alias("continues")).with_columns(group)
    last = pl.col("partial").last()
    merged = keyed.group_by("group", maintain_order=True).agg(
        pl.col("body").str.join("").alias("whole"), last.alias("cut")
    )
    first = keyed.filter(~pl.col("continues")).join(
        merged, on="group", how="left", maintain_order="left"
    )
    joined = first.with_columns(
        pl.col("whole").alias("body"), marks.fault("partial", pl.col("cut"))
    )
    return joined.sort("row").select(lines.columns)


def _shape() -> pl.Expr:
    """How a line begins: its first eight characters, digits and letters each as one sign."""
    head = pl.col("body").str.slice(0, 8)
    return head.str.replace_all("[0-9]", "0").str.replace_all("[A-Za-z]", "a")


def _usual_shape(after: pl.Expr) -> pl.Expr:
    """The most frequent beginning of the lines that follow a whole line, per stream."""
    return pl.when(~after).then(_shape()).drop_nulls().mode().first().over(STREAM)


def _placed(lines: pl.DataFrame, nodes: pl.DataFrame) -> pl.DataFrame:
    """The node a pod ran on, where spans told of it."""
    joined = lines.join(nodes, on="pod", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("node", "host").alias("node")).drop("host")


def _shifted(lines: pl.DataFrame, clocks: list[skew.Line]) -> pl.DataFrame:
    """The time by the host's corrected clock."""
    asked = lines.select("row", host="node", at=pl.col("ts").dt.timestamp("us") * MICROS)
    moves = skew.corrections(clocks, asked.drop_nulls())
    if not moves.height:
        return lines
    by = pl.duration(microseconds=pl.col("by").fill_null(0) // MICROS)
    return (
        lines.join(moves, on="row", how="left", maintain_order="left")
        .with_columns((pl.col("ts") - by).alias("ts"))
        .drop("by", "doubt")
    )


def _audit(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    return changed_values("id_format", before, after, ("trace_id", "span_id"))
