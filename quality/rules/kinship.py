"""Which operations call which, as the rows themselves tell: what is never seen is no evidence of a
parent, and a link that no other span has is the odd one of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import polars as pl

from quality.rules.time_unit import resolution

EDGE = ["service", "operation", "service_above", "operation_above"]


class Kin(NamedTuple):
    """edges   which operations call which (EDGE), and how often (`times`)
    grains  how finely a service tells its times: service, grain (ns)
    """

    edges: pl.DataFrame
    grains: pl.DataFrame


_KNOWN: ContextVar[Kin | None] = ContextVar("kinship", default=None)


@contextmanager
def known(kin: Kin) -> Iterator[None]:
    """While some rows of many are looked at: what all of them tell."""
    token = _KNOWN.set(kin)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def seen(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Of the asked edges' children (service, operation), every edge (EDGE) that rows have, and in
    how many (`times`)."""
    kids = asked.select("service", "operation").unique()
    if (kin := _KNOWN.get()) is not None:
        return kin.edges.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    below = spans.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    above = spans.select(
        "trace_id",
        parent_span_id="span_id",
        service_above="service",
        operation_above="operation",
    )
    below = below.select("trace_id", "parent_span_id", "service", "operation")
    return below.join(above, on=["trace_id", "parent_span_id"]).group_by(EDGE).agg(times=pl.len())


def grains(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """How finely the asked rows' services tell their times: service, grain; some times are whole
    milliseconds by chance."""
    if (kin := _KNOWN.get()) is not None:
        return kin.grains
    rows = spans.join(asked, on="service", how="semi", nulls_equal=True).group_by("service")
    return rows.agg(grain=resolution(pl.col("start_ns")).median())
