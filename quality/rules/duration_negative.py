"""An end before its start: the two are swapped when the span then lies in its parent and around
its children, and would not with its sign alone turned; else the row is marked."""

from __future__ import annotations

import polars as pl

from quality import marks
from quality.rules import kinship
from quality.rules.time_unit import plausible, resolution

NAME = "duration_negative"
LONGEST = 86_400_000_000_000  # ns: beyond a day the number itself is not believed
_OF = ["service", "operation"]
BOUNDS = ("low", "high", "first", "last")


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No negative duration without a mark."""
    negative = pl.col("duration_ns") < 0
    if not spans.select(negative.any()).item():
        return spans
    around = neighbours(spans, negative)
    start, length = pl.col("start_ns"), -pl.col("duration_ns")
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in BOUNDS)
    evident = known & _fits(start - length, start) & ~_fits(start, start + length)
    mend = negative & evident & (length <= LONGEST)
    return (
        spans.join(around, on="row", how="left", maintain_order="left")
        .with_columns(mend.fill_null(value=False).alias("mend"))
        .with_columns(
            pl.when("mend").then(start - length).otherwise("start_ns").alias("start_ns"),
            pl.when("mend").then(length).otherwise("duration_ns").alias("duration_ns"),
            marks.repaired(NAME, pl.col("mend")),
            marks.fault(NAME, negative & ~pl.col("mend")),
        )
        .drop("mend", *BOUNDS)
    )


def neighbours(spans: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
    """What bounds the rows asked for: the parent's interval (low, high), the children's (first,
    last), each widened by what is not known of the clocks and by the resolution of both times.

    A consumer may end after its parent, and a child that is one bounds no end; calls of a kind
    that does not always lie inside its parent bound nothing.
    """
    asked = spans.filter(which)
    ends = pl.col("start_ns") + pl.col("duration_ns")
    doubt = pl.col("clock_error_ns") + resolution(pl.col("start_ns"))
    late = 2 * doubt  # an end is a start and a duration, each told as coarsely
    can_be = plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)
    fine = spans.filter(~which & can_be, pl.col("trace_id").is_not_null())
    keys = ["trace_id", "parent_span_id"]
    above = (
        fine.join(
            asked.select("trace_id", span_id="parent_span_id"),
            on=["trace_id", "span_id"],
            how="semi",
        )
        .select(
            "trace_id",
            service_above="service",
            operation_above="operation",
            parent_span_id="span_id",
            low=pl.col("start_ns") - doubt,
            high=pl.when(pl.col("kind").fill_null("") != "producer").then(ends + late),
        )
        .sort(*keys, "low")
        .unique(keys, keep="first", maintain_order=True)
    )
    waited = pl.col("kind").fill_null("") != "consumer"
    parents = asked.select(
        "trace_id",
        parent_span_id="span_id",
        service_above="service",
        operation_above="operation",
    )
    kids = fine.join(parents.drop_nulls("parent_span_id"), on=keys)
    loose = kinship.loose(spans, pl.concat([asked.select(_OF), kids.select(_OF)]))
    below = (
        kids.join(loose, on=kinship.EDGE, how="anti", nulls_equal=True)
        .group_by("trace_id", span_id="parent_span_id")
        .agg(
            first=(pl.col("start_ns") + doubt).min(),
            last=(ends - late).filter(waited).max(),
        )
    )
    grain = pl.max_horizontal(resolution(pl.col("duration_ns")), pl.col("grain").fill_null(1_000))
    named = asked.join(kinship.grains(spans, asked), on="service", how="left", nulls_equal=True)
    own = pl.col("clock_error_ns") + grain
    bounded = (
        named.select("row", "trace_id", "span_id", "parent_span_id", "kind", *_OF, own=own)
        .join(above, on=keys, how="left")
        .join(below, on=["trace_id", "span_id"], how="left")
        .join(loose.with_columns(loose=True), on=kinship.EDGE, how="left", nulls_equal=True)
    )
    firm = pl.col("loose").is_null()
    high = pl.when(firm & (pl.col("kind").fill_null("") != "consumer")).then("high")
    return bounded.select(
        "row",
        low=pl.when(firm).then(pl.col("low") - pl.col("own")),
        high=high + 2 * pl.col("own"),
        first=pl.col("first") + pl.col("own"),
        last=pl.col("last") - 2 * pl.col("own"),
    )


def _fits(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Whether an interval lies in the parent's and around the children's, as far as known."""
    bounds = (
        start >= pl.col("low"),
        end <= pl.col("high"),
        start <= pl.col("first"),
        end >= pl.col("last"),
    )
    return pl.all_horizontal(bound.fill_null(value=True) for bound in bounds)
