"""What a stage makes of raw rows, and the checks counted from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from quality.clock import skew
from quality.rules.time_unit import plausible

REFUSED = pl.Schema({"date": pl.Date, "reason": pl.String, "raw_row": pl.String})


def _no_days() -> pl.Series:
    return pl.Series("date", [], pl.Date)


@dataclass(frozen=True)
class Outcome:
    """What a stage made of raw rows.

    tables       table name → rows with their `date`; the clean table first, derived ones after
    audit        the changes (columns of `quality.audit`) with the `date` they belong to
    checks       scorecard rows: date, service, check_name, rows, faulty, repaired
    moves        rows that belong to another day than their raw partition (`quality.moves`)
    quarantined  raw rows that cannot be placed, whole, with `row_key` and `reason`
    merged       `date` of every row merged into another
    joined       `date` of every line joined to another
    texts        log templates: template_id, template
    refused      clean rows that an expectation keeps out: date, reason, raw_row
    """

    tables: Mapping[str, pl.DataFrame]
    audit: pl.DataFrame
    checks: pl.DataFrame
    moves: pl.DataFrame
    quarantined: pl.DataFrame
    merged: pl.Series = field(default_factory=_no_days)
    joined: pl.Series = field(default_factory=_no_days)
    texts: pl.DataFrame | None = None
    refused: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REFUSED))


def usable(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows whose `ts` can be, and the others whole, for quarantine."""
    fine = raw.select(plausible(skew.nanos(pl.col("ts"))).fill_null(value=False)).to_series()
    return raw.filter(fine), whole(raw, pl.Series(np.flatnonzero(~fine.to_numpy())))


def whole(raw: pl.DataFrame, rows: pl.Series, reason: str = "no usable time") -> pl.DataFrame:
    """Rows of the raw frame by their position, with `row_key` and `reason`."""
    return raw[rows].with_columns(
        pl.format("{}:{}", "batch", "arrival").alias("row_key"), pl.lit(reason).alias("reason")
    )


def dated(rows: pl.DataFrame) -> pl.DataFrame:
    """`date` of the row's own time; the day of its raw partition as `before`."""
    return rows.rename({"date": "before"}).with_columns(pl.col("ts").dt.date().alias("date"))


def checks(rows: pl.DataFrame) -> pl.DataFrame:
    """Per day, service and rule: rows, how many are faulty still, how many were repaired."""
    keys = ["date", "service"]
    total = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"))
    marks = [_marks(rows, keys, name) for name in ("faults", "repaired")]
    on = [*keys, "check_name"]
    both = marks[0].join(marks[1], on=on, how="full", coalesce=True, nulls_equal=True)
    left, mended = pl.col("faults").fill_null(0), pl.col("repaired").fill_null(0)
    return both.join(total, on=keys, how="left", nulls_equal=True).select(
        *on, "rows", faulty=left + mended, repaired=mended
    )


def _marks(rows: pl.DataFrame, keys: list[str], column: str) -> pl.DataFrame:
    """How often each name stands in a column of marks."""
    if column not in rows.columns:
        rows = rows.clear().with_columns(pl.lit([], pl.List(pl.String)).alias(column))
    some = rows.filter(pl.col(column).list.len() > 0)
    named = some.select(*keys, check_name=column).explode("check_name", empty_as_null=True)
    counted = named.drop_nulls("check_name").group_by(*keys, "check_name").len()
    return counted.select(*keys, "check_name", pl.col("len").cast(pl.Int64).alias(column))
