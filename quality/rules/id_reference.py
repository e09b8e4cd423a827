"""A log line's or an error's trace id that no span has becomes the id of the one span that its
span id, its time and its service name.

What refers to spans has no links of its own to be judged by. So the span id must be of one trace
alone among all spans looked at, the service the same, and the time within the span; and while the
row's own trace was running then, a span of it may simply not have arrived: such a row is left.
Only spans that began within a day of the row are looked at, so that a row is judged alike whichever
days are made together.
"""

from __future__ import annotations

import polars as pl

from quality import marks

NAME = "id_reference"
NEAR = 1_000_000_000  # ns a row may lie outside of its span: an error is told when it is over
COMPANY = 23 * 3_600_000_000_000  # ns: of a row's day or its neighbours, clocks' errors too
SPANS = pl.Schema(
    {
        "trace_id": pl.String,
        "span_id": pl.String,
        "service": pl.String,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    }
)


def apply(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The rows (row, ts, service, trace_id, span_id, …) with their trace ids mended by `spans`
    (columns of SPANS): those that share a trace id or a span id with one of the rows."""
    lost = rows.filter(pl.col("span_id").is_not_null(), pl.col("service").is_not_null()).join(
        spans, on=["trace_id", "span_id"], how="anti"
    )
    if not lost.height or not spans.height:
        return rows
    asked = lost.select("row", "span_id", "service", own="trace_id", at=_nanos())
    homes = spans.filter(pl.col("span_id").is_not_null(), pl.col("trace_id").is_not_null())
    found = asked.join(homes.rename({"service": "of"}), on="span_id")
    found = found.filter((pl.col("start_ns") - pl.col("at")).abs() < COMPANY)
    found = found.filter(pl.col("trace_id").n_unique().over("row") == 1)
    found = found.filter(pl.col("service") == pl.col("of"), _within())
    found = found.join(_running(asked, spans), on="row", how="anti")
    home = found.select("row", "trace_id").unique().rename({"trace_id": "home"})
    if not home.height:
        return rows
    joined = rows.join(home, on="row", how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce("home", "trace_id").alias("trace_id"),
        marks.repaired(NAME, pl.col("home").is_not_null()),
    ).drop("home")


def _running(asked: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Rows whose own trace was running at their time."""
    reach = spans.group_by(own="trace_id").agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    return asked.join(reach, on="own").filter(_within()).select("row")


def _within() -> pl.Expr:
    return pl.col("at").is_between(pl.col("start_ns") - NEAR, pl.col("end_ns") + NEAR)


def _nanos() -> pl.Expr:
    return pl.col("ts").dt.timestamp("us") * 1_000
