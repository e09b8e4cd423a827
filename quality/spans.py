"""The repair of spans: the rules in their order, and the audit of what they changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from quality.clock import skew
from quality.clock.bounds import owner
from quality.rules import (
    duration_negative,
    id_corrupt,
    id_format,
    id_missing,
    id_truncated,
    parent_cycle,
    parent_missing,
    span_duplicate,
    span_id_missing,
    span_shared,
    time_implausible,
    time_unit,
    trace_split,
)

Rule = Callable[[pl.DataFrame], pl.DataFrame]

BEFORE_CLOCKS: tuple[tuple[str, Rule], ...] = (
    ("id_format", id_format.apply),  # all others compare ids
    ("time_unit", time_unit.apply),  # links are believed only between rows close in time
    ("id_truncated", id_truncated.apply),
    ("id_corrupt", id_corrupt.apply),
    ("id_missing", id_missing.apply),  # its neighbours' ids must agree, so they are mended first
    ("trace_split", trace_split.apply),  # what is left: whole ids, but not the parent's
    ("id_missing", span_id_missing.apply),  # needs whole traces
    ("span_duplicate", span_duplicate.apply),  # copies are alike once their ids are mended
    ("id_corrupt", id_corrupt.links),  # counts witnesses, so copies go first
    ("span_shared", span_shared.apply),
    ("id_missing", id_missing.mark),
    ("parent_cycle", parent_cycle.apply),
    ("parent_missing", parent_missing.apply),
    ("duration_negative", duration_negative.apply),
    ("time_implausible", time_implausible.apply),
)
WATCHED = ("trace_id", "span_id", "parent_span_id", "start_ns", "duration_ns")
VERSIONS = dict.fromkeys((*(name for name, _ in BEFORE_CLOCKS), skew.NAME), 1)
CONFIDENCE = {"id_corrupt": 0.9999, "trace_split": 0.999, "duration_negative": 0.999}


class Repaired(NamedTuple):
    """spans        the rows that are placed, in the working frame
    quarantined  rows whose time cannot be placed
    audit        one row per changed value: row_key, trace_id, span_id, rule, column_name, before,
                 after, row_count, confidence
    clocks       the lines by which whole hosts were moved
    merged       rows that became part of another
    """

    spans: pl.DataFrame
    quarantined: pl.DataFrame
    audit: pl.DataFrame
    clocks: list[skew.Line]
    merged: pl.DataFrame


def repair(spans: pl.DataFrame) -> Repaired:
    """All rules over one frame of spans."""
    audits = []
    gone = [spans.clear()]
    for name, rule in BEFORE_CLOCKS:
        after = rule(spans)
        audits.append(changes(name, spans, after))
        gone.append(spans.join(after.select("row"), on="row", how="anti"))
        spans = after
    lost = pl.col("faults").list.contains(time_implausible.NAME)
    quarantined, spans = spans.filter(lost), spans.filter(~lost)
    clocks = skew.lines(spans)
    spans = skew.shift(spans, clocks)
    audits.append(_clock_audit(spans, clocks))
    return Repaired(spans, quarantined, pl.concat(audits), clocks, pl.concat(gone))


def changes(rule: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The values a rule changed, and the rows it left out, one audit row each."""
    gone = before.join(after.select("row"), on="row", how="anti")
    kept = before
    if gone.height:
        kept = before.join(after.select("row"), on="row", how="semi", maintain_order="left")
    return pl.concat([left_out(rule, gone), changed_values(rule, kept, after, WATCHED)])


def changed_values(
    rule: str, before: pl.DataFrame, after: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    """One audit row for every value that differs between two frames of the same rows."""
    parts = [_audit(rule, after.clear(), columns[0], before[columns[0]].clear().cast(pl.String))]
    for column in columns:
        differs = before[column].ne_missing(after[column])
        if differs.any():
            was = before.filter(differs)[column].cast(pl.String)
            parts.append(_audit(rule, after.filter(differs), column, was))
    return pl.concat(parts)


def _audit(rule: str, rows: pl.DataFrame, column: str, was: pl.Series) -> pl.DataFrame:
    return rows.select(
        "row",
        "row_key",
        "trace_id",
        "span_id",
        pl.lit(rule).alias("rule"),
        pl.lit(column).alias("column_name"),
        was.alias("before"),
        pl.col(column).cast(pl.String).alias("after"),
        pl.lit(1, pl.Int64).alias("row_count"),
        pl.lit(CONFIDENCE.get(rule, 1.0)).alias("confidence"),
    )


def left_out(rule: str, gone: pl.DataFrame) -> pl.DataFrame:
    """Rows merged into another: `before` is the row itself, `after` is nothing."""
    rows = _audit(rule, gone, "row_key", gone["row_key"])
    return rows.with_columns(pl.lit(None, pl.String).alias("after"), column_name=pl.lit("row"))


def _clock_audit(spans: pl.DataFrame, found: list[skew.Line]) -> pl.DataFrame:
    """One row per host and window, with the number of rows it moved."""
    empty = changes(skew.NAME, spans.clear(), spans.clear())
    rows = []
    for line in found:
        at = pl.col("start_ns") + pl.col("clock_offset_ns")
        here = (owner() == line.host) & (at >= line.start) & (at < line.end)
        count = spans.select((here & (pl.col("clock_offset_ns") != 0)).sum()).item()
        rows.append(
            {
                "row": -1,
                "row_key": f"{line.host}/{line.start}/{line.end}",
                "rule": skew.NAME,
                "column_name": "start_ns",
                "before": "0",
                "after": msgspec.json.encode(line._asdict()).decode(),
                "row_count": count,
                "confidence": 1.0 if line.error < 5_000_000 else 0.9,
                "trace_id": None,
                "span_id": None,
            }
        )
    return pl.concat([empty, pl.DataFrame(rows, schema=empty.schema)]) if rows else empty
