"""Which operations call which, as the rows themselves tell: what is never seen is no evidence of a
parent, and a link that no other span has is the odd one of a loop."""

from __future__ import annotations

import polars as pl

EDGE = ["service", "operation", "service_above", "operation_above"]


def seen(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Of the asked edges' children (service, operation), every edge (EDGE) that rows have, and in
    how many (`times`)."""
    kids = asked.select("service", "operation").unique()
    below = spans.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    above = spans.select(
        "trace_id",
        parent_span_id="span_id",
        service_above="service",
        operation_above="operation",
    )
    below = below.select("trace_id", "parent_span_id", "service", "operation")
    return below.join(above, on=["trace_id", "parent_span_id"]).group_by(EDGE).agg(times=pl.len())
