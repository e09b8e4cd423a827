"""A trace before and after its repair, with what the audit says of every change.

The clean rows are found by their trace id, or by an id the audit says they had before; each raw
row is followed through the audit to the clean row it became.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lake import UNPLACED, Lake, UserError, sql
from quality import frame
from quality.clock import skew
from quality.rules import id_format

Row = dict[str, Any]
IDS = ("trace_id", "span_id", "parent_span_id")
VALUES = (*IDS, "start_ns", "duration_ns")
_SHOWN = ("service", "operation", "kind", "host", "status")
_KEY = ("trace_id", "span_id", "service", "operation")


def explain(lake: Lake, asked: str) -> Row:
    """One trace: `trace_id`, and lists `spans` (clean rows in order of time), `merged` (copies
    that became part of one) and `quarantined`.

    Each has `before` and `after` with ids, start_ns and duration_ns (one of them null where there
    is no such row), service, operation, kind, host, status, faults, repaired, row_key, and
    `reasons`: rule, version, column, before, after, confidence, run. Raises UserError for an id
    that no row has or had.
    """
    trace, clean = _clean(lake, asked)
    days = sorted(set(clean["date"]))
    audit = _audit(lake, [trace, asked], days)
    raw = _raw(lake, _former([trace, asked], audit), audit, days)
    if not clean.height and not raw:
        raise UserError(
            f"no row has or had the trace id {asked!r}; give 32 hex digits, as in"
            ' `rootlake sql "select trace_id from repairs limit 5"`.'
        )
    changes = _by_row(audit)
    clocks = _clocks(lake, days) if clean.filter(pl.col("clock_offset_ns") != 0).height else []
    return {"trace_id": trace, "asked": asked, **_matched(clean, raw, changes, clocks)}


def _clean(lake: Lake, asked: str) -> tuple[str, pl.DataFrame]:
    """The id by which the trace goes now, and its clean rows."""
    text = asked.strip()
    for name in dict.fromkeys((text, id_format.canonical(text, 32) or text)):
        rows = _spans_of(lake, name)
        if rows.height:
            return name, rows
    wanted = {text, text.zfill(32), id_format.canonical(text, 32)} - {None}
    now = (
        lake.scan("repairs")
        .filter(pl.col("column_name") == "trace_id", pl.col("before").is_in(list(wanted)))
        .group_by(pl.coalesce("trace_id", "after").alias("now"))
        .agg(pl.len().alias("rows"))
        .sort("rows", "now", descending=[True, False])
        .collect()
    )
    for name in now["now"].drop_nulls():
        rows = _spans_of(lake, name)
        if rows.height:
            return name, rows
    return id_format.canonical(text, 32) or text, _spans_of(lake, text)


def _spans_of(lake: Lake, trace: str) -> pl.DataFrame:
    columns = ("date", *_SHOWN, *VALUES, "faults", "repaired", "clock_offset_ns", "clock_error_ns")
    quoted = trace.replace("'", "''")
    found = sql(lake, f"select {', '.join(columns)} from spans where trace_id = '{quoted}'")
    rows = pl.DataFrame(pl.from_arrow(found))
    return rows.sort("start_ns", pl.col("duration_ns") * -1, "span_id")


def _around(days: Iterable[date]) -> list[date]:
    near = timedelta(days=1)
    return sorted({other for day in days for other in (day - near, day, day + near)})


def _audit(lake: Lake, traces: Sequence[str], days: Sequence[date]) -> pl.DataFrame:
    """Every change of a row that has or had one of the ids."""
    rows = lake.scan("repairs").filter(pl.col("table_name") == "spans")
    if days:
        rows = rows.filter(pl.col("date").is_in(_around(days)))
    of_it = pl.col("trace_id").is_in(traces) | (
        (pl.col("column_name") == "trace_id")
        & (pl.col("before").is_in(traces) | pl.col("after").is_in(traces))
    )
    keys = rows.filter(of_it).select("row_key").unique()
    return (
        rows.join(keys, on="row_key", how="semi").collect().sort("row_key", "rule", "column_name")
    )


def _former(traces: Sequence[str], audit: pl.DataFrame) -> list[str]:
    """The ids under which its rows may have been received."""
    renamed = audit.filter(pl.col("column_name") == "trace_id")
    names = {*traces, *renamed["before"].drop_nulls()}
    halves = {name[16:] for name in names if name.startswith("0" * 16)}
    return sorted(names | halves)


def _raw(lake: Lake, traces: Sequence[str], audit: pl.DataFrame, days: Sequence[date]) -> list[Row]:
    """The rows as they were received, in the frame the rules work on."""
    key = pl.format("{}:{}", "batch", "arrival")
    keys = audit["row_key"].unique().to_list()
    rows = lake.scan("raw_spans").filter(pl.col("trace_id").is_in(traces) | key.is_in(keys))
    if days:
        rows = rows.filter(pl.col("date").is_in([*_around(days), UNPLACED]))
    found = frame.narrow(rows.collect())
    return found.select("row_key", *_SHOWN, *VALUES).sort("start_ns", "row_key").to_dicts()


def _by_row(audit: pl.DataFrame) -> dict[str, list[Row]]:
    changes: dict[str, list[Row]] = {}
    for row in audit.to_dicts():
        changes.setdefault(row["row_key"], []).append(row)
    return changes


def follow(value: str | None, changes: Sequence[Row]) -> tuple[str | None, list[Row]]:
    """A value led through the changes of its row and column: what it became, and the changes in
    the order they were made."""
    left, done = list(changes), list[Row]()
    while step := next((one for one in left if one["before"] == value), None):
        left.remove(step)
        done.append(step)
        value = step["after"]
    return value, done + left


def _matched(
    clean: pl.DataFrame, raw: list[Row], changes: Mapping[str, list[Row]], clocks: list[Row]
) -> Row:
    """Raw and clean rows side by side."""
    waiting: dict[tuple[Any, ...], list[Row]] = {}
    for row in clean.to_dicts():
        waiting.setdefault(tuple(row[key] for key in _KEY), []).append(row)
    spans, merged, lost = list[Row](), list[Row](), list[Row]()
    for row in raw:
        now, reasons = _traced(row, changes.get(row["row_key"], []))
        gone = any(one["column"] == "row" for one in reasons)
        found = waiting.get(tuple(now.get(key, row[key]) for key in _KEY), [])
        if gone:
            merged.append(_entry(row, None, reasons))
        elif found:
            after = found.pop(0)
            spans.append(_entry(row, after, [*reasons, *_moved(after, clocks)]))
        elif now["trace_id"] == (clean["trace_id"][0] if clean.height else row["trace_id"]):
            lost.append(_entry(row, None, reasons))
    left = [_entry(None, one, _moved(one, clocks)) for some in waiting.values() for one in some]
    spans = sorted(
        [*spans, *left], key=lambda one: (one["after"]["start_ns"], one["row_key"] or "")
    )
    return {"spans": spans, "merged": merged, "quarantined": lost}


def _traced(row: Row, changes: Sequence[Row]) -> tuple[Row, list[Row]]:
    """The values a raw row has after its repair, and the reasons, by column."""
    now, reasons = Row(), list[Row]()
    for column in (*VALUES, "row", "date"):
        mine = [one for one in changes if one["column_name"] == column]
        value = row.get(column)
        now[column], steps = follow(None if value is None else str(value), mine)
        reasons += [_reason(one) for one in steps]
    return now, reasons


def _reason(one: Row) -> Row:
    return {
        "rule": one["rule"],
        "version": one["rule_version"],
        "column": one["column_name"],
        "before": one["before"],
        "after": one["after"],
        "confidence": one["confidence"],
        "run": one["run_id"],
    }


def _entry(raw: Row | None, clean: Row | None, reasons: list[Row]) -> Row:
    known = clean or raw or {}
    return {
        "row_key": None if raw is None else raw["row_key"],
        **{name: known[name] for name in _SHOWN},
        "faults": [] if clean is None else clean["faults"],
        "repaired": [] if clean is None else clean["repaired"],
        "before": None if raw is None else {name: raw[name] for name in VALUES},
        "after": None
        if clean is None
        else {name: clean[name] for name in (*VALUES, "clock_offset_ns", "clock_error_ns")},
        "reasons": reasons,
    }


def _clocks(lake: Lake, days: Sequence[date]) -> list[Row]:
    """The audit's lines of whole hosts."""
    rows = lake.scan("repairs").filter(
        pl.col("table_name") == "spans",
        pl.col("rule") == skew.NAME,
        pl.col("date").is_in(_around(days)),
    )
    return rows.collect().to_dicts()


def _moved(clean: Row, clocks: Sequence[Row]) -> list[Row]:
    """Why a row's clock was corrected: one line of its host holds for all its rows of a time."""
    if not clean["clock_offset_ns"]:
        return []
    shown = clean["start_ns"] + clean["clock_offset_ns"]
    host = clean["host"] or clean["service"]
    line = next((one for one in clocks if _holds(one["row_key"], host, shown)), None)
    known = line or {"rule_version": None, "confidence": None, "run_id": None}
    return [
        {
            "rule": skew.NAME,
            "version": known["rule_version"],
            "column": "start_ns",
            "before": str(shown),
            "after": str(clean["start_ns"]),
            "confidence": known["confidence"],
            "run": known["run_id"],
            "host": host,
            "offset_ns": clean["clock_offset_ns"],
            "error_ns": clean["clock_error_ns"],
        }
    ]


def _holds(key: str, host: str, at: int) -> bool:
    name, start, end = key.rsplit("/", 2)
    return name == host and int(start) <= at < int(end)


def moment(nanos: int) -> datetime:
    """A time in ns as a datetime."""
    return datetime.fromtimestamp(nanos / 1e9, UTC)
