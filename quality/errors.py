"""The repair of errors: one row per event, ids canonical, clocks corrected."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from quality import audit, moves
from quality.clock import skew
from quality.rules import error_clock, error_duplicate, id_format
from quality.rules.time_unit import plausible
from quality.suppressions import NOTHING, Exempt

Rule = Callable[[pl.DataFrame], pl.DataFrame]

RULES: tuple[tuple[str, Rule], ...] = (
    ("error_clock", error_clock.apply),  # before the day is judged
    ("error_duplicate", error_duplicate.apply),
    ("id_format", id_format.apply),
    ("id_format", id_format.drop),
)
VERSIONS = dict.fromkeys((*(name for name, _ in RULES), moves.NAME), 2)
WATCHED = ("trace_id", "span_id", "ts")


class Repaired(NamedTuple):
    """errors: clean rows; merged: rows left out as doubles; quarantined: rows without a time."""

    errors: pl.DataFrame
    merged: pl.DataFrame
    quarantined: pl.DataFrame
    audit: pl.DataFrame


def repair(raw: pl.DataFrame, exempt: Exempt = NOTHING) -> Repaired:
    """Clean rows of `errors`, with `row` (position in `raw`), `row_key` and `repaired` beside;
    `exempt` rows are left alone by the rules that are undone for them."""
    rows = raw.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.format("{}:{}", "batch", "arrival").alias("row_key"),
        pl.lit([], pl.List(pl.String)).alias("faults"),
        pl.lit([], pl.List(pl.String)).alias("repaired"),
        pl.lit(None, pl.String).alias("parent_span_id"),
    )
    audits, merged = list[pl.DataFrame](), [rows.clear()]
    lost = rows.clear()
    for name, rule in RULES:
        after = exempt.apply(name, rule, rows)
        gone = rows.join(after.select("row"), on="row", how="anti")
        rows = rows.filter(pl.col("row").is_in(after["row"].implode()))
        merged.append(gone)
        audits += [audit.merged(name, gone), audit.values(name, rows, after, WATCHED)]
        rows = after
        if name == error_clock.NAME:
            fine = plausible(skew.nanos(pl.col("ts"))).fill_null(value=False)
            lost, rows = rows.filter(~fine), rows.filter(fine)
    return Repaired(rows, pl.concat(merged), lost, pl.concat(audits))
