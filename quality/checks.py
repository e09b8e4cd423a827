"""The checks of a day: built-in ones and the user's, counted in SQL per service into `scorecard`.

A check is counted once per day and table, under `expect NAME`; a day that is repaired again loses
its counts and is counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from lake import TABLES, UNPLACED, Lake, UserError, empty, sql
from quality.expectations import CLEAN, Expectation

PREFIX = "expect "
_HOUR = 3_600_000_000  # µs
_IDS = "('id_format', 'id_truncated', 'id_missing', 'id_corrupt', 'trace_split', 'trace_merged')"
_RECEIVED = "case when start_unit = 'ns' then start // 1000 else start end"


@dataclass(frozen=True)
class Check:
    """`predicate` holds for a good row of `table`; `tolerate`: the share of rows for which it may
    not (1: only a rise above the last weeks counts). `own`: the user's, judged by `tolerate` alone.
    """

    name: str
    table: str
    predicate: str
    tolerate: float
    about: str
    own: bool = False
    action: str = "warn"


BUILT_IN = (
    Check(
        "ids_valid",
        "spans",
        "length(trace_id) = 32 and length(span_id) = 16 and trace_id is not null"
        " and span_id is not null",
        0.001,
        "trace and span ids are 32 and 16 hex digits",
    ),
    Check(
        "ids_as_received",
        "spans",
        f"not list_has_any(repaired, [{_IDS[1:-1]}])",
        0.05,
        "ids arrived right, without a repair",
    ),
    Check(
        "parents_present",
        "spans",
        "not list_contains(faults, 'parent_missing')",
        0.05,
        "every parent that is named arrived",
    ),
    Check(
        "clocks_known",
        "spans",
        "coalesce(clock_error_ns, 0) <= 5000000",
        0.01,
        "times are known within 5 ms",
    ),
    Check(
        "clocks_right",
        "spans",
        "abs(coalesce(clock_offset_ns, 0)) <= 1000000000",
        0.05,
        "hosts' clocks were within a second of each other",
    ),
    Check("has_service", "spans", "service is not null", 0.01, "the service is named"),
    Check("has_operation", "spans", "operation is not null", 0.01, "the operation is named"),
    Check("has_host", "spans", "host is not null", 1.0, "the host is named"),
    Check(
        "on_time",
        "raw_spans",
        f"{_RECEIVED} >= epoch_us(ingested_at) - {_HOUR}",
        1.0,
        "rows arrive within an hour",
    ),
    Check("nothing_marked", "errors", "len(faults) = 0", 0.05, "no fault is left in the row"),
    Check("has_service", "errors", "service is not null", 0.01, "the service is named"),
    Check("has_release", "errors", "release is not null", 1.0, "the release is named"),
    Check(
        "on_time",
        "raw_errors",
        f"ts >= ingested_at - to_microseconds({_HOUR})",
        1.0,
        "rows arrive within an hour",
    ),
    Check("nothing_marked", "logs", "len(faults) = 0", 0.05, "no fault is left in the line"),
    Check("has_service", "logs", "service is not null", 0.05, "the service is named"),
    Check(
        "no_gaps",
        "samples",
        "not list_contains(faults, 'stale_gap')",
        0.05,
        "series are not silent for five minutes",
    ),
    Check(
        "one_value",
        "samples",
        "not list_contains(faults, 'sample_duplicate')",
        0.01,
        "no two values of one instant",
    ),
)


def of(expectations: Sequence[Expectation]) -> list[Check]:
    """The user's expectations as checks."""
    return [
        Check(e.name, e.table, e.predicate, e.tolerate, e.predicate, own=True, action=e.action)
        for e in expectations
    ]


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
    """Per check and service: check_name, service, rows, faulty, quarantined. Raises UserError that
    names the check whose predicate cannot be."""
    columns = TABLES[table].schema.names
    service = next((name for name in ("service", "caller", "metric") if name in columns), "NULL")
    if table.endswith("samples"):
        service = "NULL"  # a row for each metric would say little
    where = f"WHERE date = DATE '{day}'" if "date" in columns else ""
    parts = [pl.DataFrame(schema=_COUNTED)]
    for one in checks:
        bad = f"count(*) FILTER (WHERE NOT coalesce((\n{one.predicate}\n)::BOOLEAN, true))"
        query = (
            f"SELECT {service} AS service, count(*) AS rows, {bad} AS faulty"
            f" FROM {table} {where} GROUP BY 1"
        )
        try:
            found = pl.DataFrame(pl.from_arrow(sql(lake, query)))
        except UserError as error:
            raise UserError(f"check {one.name!r} ({one.predicate}): {error}") from error
        counted = found.with_columns(
            pl.lit(one.name).alias("check_name"),
            pl.lit(0, pl.Int64).alias("quarantined"),
            pl.col("service").cast(pl.String),
        )
        if one.action == "quarantine":
            counted = pl.concat([counted, _quarantined(lake, one, day)], how="diagonal_relaxed")
        parts.append(counted.select(_COUNTED.names()).cast(_COUNTED))
    return pl.concat(parts).group_by("check_name", "service").sum().sort("check_name", "service")


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
    """Counts into the scorecard, in the place of older ones of the same checks."""
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
        rest = held.filter(~pl.col("check_name").is_in(names))
        return pl.concat([rest, fresh.select(score.schema.names)])

    if fresh.height:
        lake.rewrite("scorecard", {"date": day, "table_name": table}, put)


def window(lake: Lake, day: date | None, weeks: int) -> list[date]:
    """A day (none: the newest that a clean table holds) and the weeks before it, as far as there
    are rows; the day itself last. Raises UserError where there is nothing."""
    held = sorted({one for table in CLEAN for one in lake.days(table)} - {UNPLACED})
    if not held:
        raise UserError("no day is repaired yet; `rootlake repair` makes the clean tables.")
    last = day or held[-1]
    if last not in held:
        raise UserError(f"nothing is repaired of {last}; the days are {held[0]} … {held[-1]}.")
    return [one for one in held if last - timedelta(weeks=weeks) <= one <= last]
