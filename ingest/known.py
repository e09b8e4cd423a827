"""What a live source delivered before: left out when it is delivered again.

Windows overlap, traces are seen through several services, and a backfill may cover what a cron
job pulled. Rows are compared with those the same stream brought, as often as they stand there:
a row that the source itself holds twice stays twice, and is quality's to merge.
"""

from __future__ import annotations

import dataclasses
import re

import polars as pl

from ingest.batch import Batch, Piece
from lake import TABLES, Lake

_KEYS = {
    "raw_samples": ("series", "ts"),
    "raw_histograms": ("series", "ts"),
    "raw_errors": ("project", "event_id"),
}
_BESIDE = {  # an exemplar's ids are not asked: repair may have mended them
    "exemplars": ("ts", "series", "value"),
    "raw_histograms": ("ts", "series"),
}
_TIME = {"raw_spans": "start"}
_OWN = ("date", "source", "batch", "arrival", "ingested_at")


def fresh(lake: Lake, piece: Piece, batch: Batch) -> Batch:
    """The batch without what the piece's stream has delivered before."""
    if not lake.exists():
        return batch
    rejected = _unknown_refusals(lake, piece, batch.rejected)
    rows = _unknown_rows(lake, piece, batch.rows)
    gone = batch.rows.height - rows.height + batch.rejected.height - rejected.height
    return dataclasses.replace(
        batch, rows=rows, rejected=rejected, records=max(batch.records - gone, 0)
    )


def _unknown_rows(lake: Lake, piece: Piece, rows: pl.DataFrame) -> pl.DataFrame:
    if not rows.height:
        return rows
    if piece.table == "changes":
        return unknown(lake, piece.table, rows)
    time = _TIME.get(piece.table, "ts")
    low, high = rows[time].min(), rows[time].max()
    columns = [name for name in TABLES[piece.table].schema.names if name not in _OWN]
    held = (
        lake.scan(piece.table)
        .filter(
            pl.col("source") == piece.source,
            pl.col("batch").str.contains(rf"^{re.escape(piece.stream or '')}(/|\.\d+$)"),
            (pl.col(time) >= low) & (pl.col(time) <= high) | pl.col(time).is_null(),
        )
        .select(columns)
    )
    if piece.table == "raw_spans":
        held = held.filter(pl.col("trace_id").is_in(rows["trace_id"].unique().implode()))
    before = held.collect()
    if not before.height:
        return rows
    missing = [pl.lit(None).alias(name) for name in columns if name not in rows.columns]
    mine = _numbered(rows.with_columns(missing).select(columns), piece.table)
    theirs = _numbered(before, piece.table)
    new = mine.with_row_index("place").join(
        theirs, on=theirs.columns, how="anti", nulls_equal=True, maintain_order="left"
    )
    if new.height == rows.height:
        return rows
    if "arrival" not in rows.columns:
        rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("arrival"))
    found: pl.DataFrame = rows[new["place"]]
    return found


def _numbered(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """What a row is told by, and how many equal ones stood before it."""
    keys = _KEYS.get(table)
    if keys:
        told = rows.select(keys)
    else:
        told = rows.select(pl.struct(pl.all()).hash(seed=7).alias("told"))
    return told.with_columns(pl.int_range(pl.len()).over(told.columns).alias("equals"))


def _change() -> list[pl.Expr]:
    """What a change is told by: a commit by its id, which other clones and later tags leave alone;
    anything else by all it says. (Kubernetes' times have whole seconds.)"""
    others = ("service", "message", "after", "cluster", "namespace", "environment")
    free = pl.col("kind") != "commit"
    return [pl.col("ts", "kind", "ref"), *(pl.when(free).then(pl.col(one)) for one in others)]


def unknown(lake: Lake, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not in the table yet, of tables that are written beside another, or whose
    sources are read whole again and again."""
    if not rows.height or (table != "changes" and table not in _BESIDE):
        return rows
    told = _change() if table == "changes" else [pl.col(_BESIDE[table])]
    mine = rows.select(told).with_row_index("place")
    mine = mine.unique(mine.columns[1:], keep="first", maintain_order=True)
    held = lake.scan(table).filter(pl.col("ts").is_between(rows["ts"].min(), rows["ts"].max()))
    new = mine.join(
        held.select(told).collect(),
        on=mine.columns[1:],
        how="anti",
        nulls_equal=True,
        maintain_order="left",
    )
    found: pl.DataFrame = rows[new["place"]]
    return found


def _unknown_refusals(lake: Lake, piece: Piece, rejected: pl.DataFrame) -> pl.DataFrame:
    if not rejected.height:
        return rejected
    held = (
        lake.scan("quarantine")
        .filter(
            pl.col("table_name") == piece.table,
            pl.col("source") == piece.source,
            pl.col("run_id") != piece.attempt,
        )
        .select("raw_row")
        .collect()
    )
    return rejected.join(held, on="raw_row", how="anti", maintain_order="left")
