"""What was there to judge by, and what was not."""

from __future__ import annotations

import polars as pl

from lake import Lake
from rca import read
from rca.evidence import stamp
from rca.facts import Facts


def comparable(seen: Facts) -> bool:
    """Whether any kind of telemetry is there both of the incident's window and of healthy time."""
    kinds = (seen.spans, seen.logs, seen.samples, seen.errors)
    return any(set(rows["bad"].drop_nulls().unique()) == {True, False} for rows in kinds)


def missing(seen: Facts, service: str | None = None) -> list[str]:
    """Which telemetry was not there to be judged by; `service`: what was asked for."""
    out = []
    for name, rows in (("traces", seen.spans), ("logs", seen.logs), ("metrics", seen.samples)):
        if not rows.filter("bad").height:
            out.append(f"no {name} in the incident's window")
        elif not rows.filter(~pl.col("bad")).height:
            out.append(f"no {name} of healthy time to compare with")
    if not seen.errors.height:
        out.append("no errors from an error tracker")
    usual = seen.spans.filter(~pl.col("bad"))["error"].mean()
    if isinstance(usual, float) and usual > 0.5:
        out.append(f"no time in which requests succeed: {usual:.0%} of healthy time's spans fail")
    nameless = seen.spans.filter("bad")["service"].null_count()
    if nameless:
        out.append(f"no service of {nameless:,} spans in the incident's window")
    kinds = (seen.spans, seen.logs, seen.samples, seen.errors)
    if service is not None and not any((rows["service"] == service).any() for rows in kinds):
        out.append(f"no telemetry of {service!r}, the service asked for")
    return out


def watermarks(lake: Lake) -> dict[str, str | None]:
    """How fresh each kind of telemetry is: its newest event."""
    out: dict[str, str | None] = {}
    for table, column in (("spans", "start"), ("samples", "ts"), ("logs", "ts"), ("errors", "ts")):
        last = read.newest(lake, table, column)
        out[table] = stamp(last) if last else None
    return out
