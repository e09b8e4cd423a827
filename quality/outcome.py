"""What a stage makes of raw rows, and the checks counted from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from lake import TABLES, empty, fit
from lake.stage import Staged
from quality.clock import skew
from quality.rules.time_unit import plausible

REFUSED = pl.Schema({"date": pl.Date, "reason": pl.String, "raw_row": pl.String})


TALLY = pl.Schema(
    {
        "date": pl.Date,
        "service": pl.String,
        "check_name": pl.String,
        "rows": pl.Int64,
        "faults": pl.Int64,
        "repaired": pl.Int64,
    }
)


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
    staged       instead of rows of the clean table, by day: files of it, written already
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
    staged: Mapping[date, Sequence[Staged]] | None = None
    refused: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REFUSED))

    def count(self, table: str, day: date) -> int:
        """How many rows of the clean table there are of a day."""
        if self.staged is not None and table not in self.tables:
            return sum(one.rows for one in self.staged.get(day, ()))
        return self.tables[table].filter(pl.col("date") == day).height


def loaded(found: Outcome, table: str, folder: Path) -> Outcome:
    """The outcome with the rows of its staged files in memory, and the files gone."""
    parts = [empty(TABLES[table])]
    for day, files in (found.staged or {}).items():
        for one in files:
            file = folder / one.path
            rows = pl.read_parquet(file, hive_partitioning=False)
            rows = rows.with_columns(pl.lit(day).alias("date"))
            parts.append(fit(TABLES[table], rows.select(parts[0].columns), ordered=True))
            file.unlink()
    tables = {table: pl.concat(parts), **found.tables}
    return dataclasses.replace(found, tables=tables, staged=None)


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
    return counted([tally(rows)])


def tally(rows: pl.DataFrame) -> pl.DataFrame:
    """What rows add to the checks: date, service, check_name (null: the rows themselves), rows,
    faults, repaired."""
    keys = ["date", "service"]
    total = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"))
    marks = [_marks(rows, keys, name) for name in ("faults", "repaired")]
    return pl.concat([pl.DataFrame(schema=TALLY), total, *marks], how="diagonal")


def counted(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The checks, from what parts of the rows add to them."""
    on = ["date", "service", "check_name"]
    whole = pl.concat(parts).group_by(on).agg(pl.col("rows", "faults", "repaired").sum())
    marks = whole.filter(pl.col("check_name").is_not_null()).drop("rows")
    total = whole.filter(pl.col("check_name").is_null()).select(*on[:2], "rows")
    joined = marks.join(total, on=on[:2], how="left", nulls_equal=True)
    left, mended = pl.col("faults"), pl.col("repaired")
    return joined.select(*on, "rows", faulty=left + mended, repaired=mended)


def _marks(rows: pl.DataFrame, keys: list[str], column: str) -> pl.DataFrame:
    """How often each name stands in a column of marks."""
    if column not in rows.columns:
        rows = rows.clear().with_columns(pl.lit([], pl.List(pl.String)).alias(column))
    some = rows.filter(pl.col(column).list.len() > 0)
    named = some.select(*keys, check_name=column).explode("check_name", empty_as_null=True)
    counted = named.drop_nulls("check_name").group_by(*keys, "check_name").len()
    return counted.select(*keys, "check_name", pl.col("len").cast(pl.Int64).alias(column))
