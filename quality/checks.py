"""The checks of a day: built-in ones and the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from lake import UNPLACED, Lake, UserError
from quality.expectations import CLEAN, Expectation

MERGED = "is no double"  # in the place of a predicate: counted by repair
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
    Check(
        "continues_trace",
        "spans",
        "coalesce(kind, '') not in ('server', 'consumer') or parent_span_id is not null",
        1.0,
        "what answers a call continues its caller's trace",
    ),
    Check("delivered_once", "spans", MERGED, 0.05, "rows are delivered once"),
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
    Check("delivered_once", "errors", MERGED, 0.05, "rows are delivered once"),
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
