"""Checks counted in SQL, per day and service, into `scorecard`.

A check is counted once per day and table, under `expect NAME`; a day that is repaired again loses
its counts and is counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

import polars as pl

from lake import TABLES, UNPLACED, Lake, UserError, empty, sql
from lake.files import rewrite
from quality.checks import MERGED, Check
from quality.expectations import CLEAN

PREFIX = "expect "


def measure(
    lake: Lake,
    checks: Sequence[Check],
    days: Sequence[date],
    now: datetime | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Count what is not counted yet; the last of the `days` anew in tables that repair does not
    make, where rows may have come without a trace in the scorecard."""
    moment = now or datetime.now(UTC)
    known = _known(lake, days)
    for table in dict.fromkeys(one.table for one in checks):
        mine = [one for one in checks if one.table == table]
        for day in _days_of(lake, table, days, moment):
            anew = table not in CLEAN and day in {days[-1], moment.date()}
            todo = [one for one in mine if anew or (table, day, one.name) not in known]
            if todo:
                if progress:
                    progress(f"{table} {day}")
                _keep(lake, table, day, count(lake, table, day, todo), moment)


def _known(lake: Lake, days: Sequence[date]) -> set[tuple[str, date, str]]:
    rows = lake.scan("scorecard").filter(
        pl.col("date").is_in(days), pl.col("check_name").str.starts_with(PREFIX)
    )
    name = pl.col("check_name").str.strip_prefix(PREFIX)
    return set(rows.select("table_name", "date", name).unique().collect().rows())


def _days_of(lake: Lake, table: str, days: Iterable[date], now: datetime) -> list[date]:
    """Those of the days that the table holds; today for a table without days."""
    if "date" not in TABLES[table].schema.names:
        return [now.date()]
    if "date" not in TABLES[table].partition_by:
        return sorted(days)
    return sorted(set(days) & set(lake.days(table)) - {UNPLACED})


def count(lake: Lake, table: str, day: date, checks: Sequence[Check]) -> pl.DataFrame:
    """Per check and service: check_name, service, rows, faulty, quarantined; one look at the day.

    Raises UserError that names the check whose predicate cannot be.
    """
    parts = [_merged(lake, one, day) for one in checks if one.predicate == MERGED]
    asked = [one for one in checks if one.predicate != MERGED]
    try:
        parts += _asked(lake, table, day, asked) if asked else []
    except UserError:
        for one in asked:
            _blamed(lake, table, day, one)
        raise
    parts += [_quarantined(lake, one, day) for one in asked if one.action == "quarantine"]
    every = [part.select(_COUNTED.names()).cast(_COUNTED) for part in parts]
    counted = pl.concat([pl.DataFrame(schema=_COUNTED), *every])
    return counted.group_by("check_name", "service").sum().sort("check_name", "service")


def _asked(lake: Lake, table: str, day: date, checks: Sequence[Check]) -> list[pl.DataFrame]:
    columns = TABLES[table].schema.names
    service = next((name for name in ("service", "caller") if name in columns), "NULL")
    where = f"WHERE date = DATE '{day}'" if "date" in columns else ""
    bad = ", ".join(
        f"count(*) FILTER (WHERE NOT coalesce((\n{one.predicate}\n)::BOOLEAN, true)) AS c{place}"
        for place, one in enumerate(checks)
    )
    query = f"SELECT {service} AS service, count(*) AS rows, {bad} FROM {table} {where} GROUP BY 1"
    found = pl.DataFrame(pl.from_arrow(sql(lake, query)))
    return [
        found.select(
            pl.lit(one.name).alias("check_name"),
            pl.col("service").cast(pl.String),
            "rows",
            pl.col(f"c{place}").alias("faulty"),
            pl.lit(0, pl.Int64).alias("quarantined"),
        )
        for place, one in enumerate(checks)
    ]


def _blamed(lake: Lake, table: str, day: date, check: Check) -> None:
    try:
        _asked(lake, table, day, [check])
    except UserError as error:
        raise UserError(f"check {check.name!r} ({check.predicate}): {error}") from error


def _merged(lake: Lake, check: Check, day: date) -> pl.DataFrame:
    """Rows of a day that were delivered more than once, as repair counted them."""
    score = lake.scan("scorecard").filter(
        pl.col("date") == day,
        pl.col("table_name") == check.table,
        pl.col("check_name").is_in(["raw_rows", "duplicates_merged"]),
    )
    held = dict(score.group_by("check_name").agg(pl.col("rows").sum()).collect().rows())
    row = {"check_name": check.name, "service": None, "rows": held.get("raw_rows", 0)}
    merged = held.get("duplicates_merged", 0)
    return pl.DataFrame([{**row, "faulty": merged, "quarantined": 0}], schema=_COUNTED)


_COUNTED = pl.Schema(
    {
        "check_name": pl.String,
        "service": pl.String,
        **dict.fromkeys(("rows", "faulty", "quarantined"), pl.Int64),
    }
)


def _quarantined(lake: Lake, check: Check, day: date) -> pl.DataFrame:
    """Rows that the check keeps out of the table: they are rows of the day all the same."""
    text = pl.col("raw_row")
    held = lake.scan("quarantine").filter(
        pl.col("table_name") == check.table,
        pl.col("reason") == f"expectation {check.name}",
        text.str.json_path_match("$.date") == str(day),
    )
    service = text.str.json_path_match("$.service").alias("service")
    counted = held.group_by(service).agg(pl.len().cast(pl.Int64).alias("rows")).collect()
    both = (pl.col("rows").alias(name) for name in ("faulty", "quarantined"))
    return counted.with_columns(pl.lit(check.name).alias("check_name"), *both)


def _keep(lake: Lake, table: str, day: date, counted: pl.DataFrame, now: datetime) -> None:
    """Counts into the scorecard, in the place of older ones of the same checks; nothing is written
    where they are the same."""
    score = TABLES["scorecard"]
    fresh = pl.concat([empty(score), counted], how="diagonal").with_columns(
        pl.lit(f"quality-{now:%Y%m%dT%H%M%S.%f}").alias("run_id"),
        pl.lit(table).alias("table_name"),
        pl.lit(day).alias("date"),
        pl.format("{}{}", pl.lit(PREFIX), "check_name").alias("check_name"),
        pl.lit(0, pl.Int64).alias("repaired"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("recorded_at"),
        pl.when(pl.col("rows") > 0).then(pl.col("faulty") / pl.col("rows")).alias("share"),
    )
    names = fresh["check_name"].unique().to_list()

    def put(held: pl.DataFrame) -> pl.DataFrame:
        mine = pl.col("check_name").is_in(names)
        same = ["check_name", "service", "rows", "faulty", "quarantined"]
        old, new = (one.select(same).sort(same) for one in (held.filter(mine), fresh))
        if old.equals(new):
            return held
        return pl.concat([held.filter(~mine), fresh.select(score.schema.names)])

    if fresh.height:
        rewrite(lake, "scorecard", {"date": day, "table_name": table}, put)
