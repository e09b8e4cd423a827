"""Which operations call which, as the rows themselves tell: what is never seen is no evidence of a
parent, and a link that no other span has is the odd one of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import polars as pl

from quality.rules import time_unit
from quality.rules.time_unit import plausible, resolution, told

RARELY = 10_000  # an edge that breaks its order less often than once in so many keeps it
EDGE = ["service", "operation", "service_above", "operation_above"]


class Kin(NamedTuple):
    """What the rows of a day tell.

    edges   which operations call which (EDGE), and how often (`times`)
    grains  how finely operations tell their times: service, operation, rows, grain (ns)
    loose   edges (EDGE) whose children do not always lie inside their parents, by right clocks;
            None before those are known
    """

    edges: pl.DataFrame
    grains: pl.DataFrame
    loose: pl.DataFrame | None = None


_KNOWN: ContextVar[Kin | None] = ContextVar("kinship", default=None)


@contextmanager
def known(kin: Kin) -> Iterator[None]:
    """While some rows of a day are looked at: what all of them tell."""
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
    """How finely the asked rows' operations tell times: service, operation, rows, grain (ns)."""
    kin = _KNOWN.get()
    return time_unit.grains(spans, asked) if kin is None else kin.grains


def loose(spans: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Of the edges of asked children (service, operation) those (EDGE) in which the child does not
    always lie inside its parent, as far as clocks and resolution tell: they bound no time."""
    kids = asked.select("service", "operation").unique()
    if (kin := _KNOWN.get()) is not None and kin.loose is not None:
        return kin.loose.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    return rarely_nested(nested(spans, kids))


def rarely_nested(counted: pl.DataFrame) -> pl.DataFrame:
    """The loose ones (EDGE) of counted edges (`nested`, of parts that may name an edge each)."""
    whole = counted.group_by(EDGE).agg(pl.col("out", "times").sum())
    return whole.filter(pl.col("out") * RARELY > pl.col("times")).select(EDGE).sort(EDGE)


def nested(spans: pl.DataFrame, kids: pl.DataFrame) -> pl.DataFrame:
    """Of some children (service, operation) every edge (EDGE), in how many rows it is seen
    (`times`), and in how many of those the child is not inside its parent (`out`)."""
    doubt = pl.col("clock_error_ns") + resolution(told())
    fine = plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)
    rows = spans.filter(fine).with_columns(
        end_ns=pl.col("start_ns") + pl.col("duration_ns"), doubt=doubt
    )
    times = ("service", "operation", "kind", "start_ns", "end_ns", "doubt")
    below = rows.join(kids, on=["service", "operation"], how="semi", nulls_equal=True)
    above = rows.select(
        "trace_id",
        *(pl.col(name).alias(f"{name}_above") for name in times),
        parent_span_id="span_id",
    )
    pairs = below.select("trace_id", "parent_span_id", *times).join(
        above, on=["trace_id", "parent_span_id"]
    )
    doubt = pl.col("doubt") + pl.col("doubt_above")
    queued = (pl.col("kind") == "consumer") | (pl.col("kind_above") == "producer")
    early = pl.col("start_ns") < pl.col("start_ns_above") - doubt
    late = pl.col("end_ns") > pl.col("end_ns_above") + 2 * doubt
    out = early | (late & ~queued.fill_null(value=False))
    return pairs.group_by(EDGE).agg(
        out.fill_null(value=False).sum().cast(pl.Int64).alias("out"),
        pl.len().cast(pl.Int64).alias("times"),
    )
