"""Which operations call which, as the rows themselves tell: what is never seen is no evidence of a
parent, and a link that no other span has is the odd one of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import polars as pl

EDGE = ["service", "operation", "service_above", "operation_above"]
_KNOWN: ContextVar[pl.DataFrame | None] = ContextVar("kinship", default=None)


@contextmanager
def known(edges: pl.DataFrame) -> Iterator[None]:
    """While some rows of many are looked at: the edges (EDGE, times) of all of them."""
    token = _KNOWN.set(edges)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def seen(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Of the asked edges' children (service, operation), every edge (EDGE) that rows have, and in
    how many (`times`)."""
    kids = asked.select("service", "operation").unique()
    if (edges := _KNOWN.get()) is not None:
        return edges.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    below = spans.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    above = spans.select(
        "trace_id",
        parent_span_id="span_id",
        service_above="service",
        operation_above="operation",
    )
    below = below.select("trace_id", "parent_span_id", "service", "operation")
    return below.join(above, on=["trace_id", "parent_span_id"]).group_by(EDGE).agg(times=pl.len())
