"""What bounds a row's time: its parent's interval and its children's.

Times of one clock compare as they are told, however wrong that clock is; those of two only as
well as both are known.
"""

from __future__ import annotations

import polars as pl

from quality.rules import kinship, time_unit
from quality.rules.time_unit import plausible, resolution, told

BOUNDS = ("low", "high", "first", "last")
SCHEMA = ("row", *BOUNDS, "shared")
ALIKE = 50_000  # ns: offsets of one line differ by no more within a trace
_OF = ["service", "operation"]
_ABOVE = ["trace_id", "parent_span_id"]
_CLOCK = ("owner", "offset", "error", "scaled")


def neighbours(spans: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """What bounds some rows (columns SCHEMA): the parent's interval (low, high), the
    children's (first, last), ns, each widened by what is not known of the two clocks and by the
    resolution of both times; `shared`: how far the clock that row and bounds have in common may
    be off beside.

    A consumer may end after its parent, and a child that is one bounds no end; calls of a kind
    that does not always lie inside its parent bound nothing.
    """
    asked = _asked(spans, rows)
    fine = _sound(spans.join(rows.select("trace_id").unique(), on="trace_id", how="semi"))
    above, below = _above(asked, fine), _below(asked, fine)
    loose = kinship.loose(spans, pl.concat([asked.select(_OF), below.select(_OF)]))
    above, below = (
        pairs.join(loose, on=kinship.EDGE, how="anti", nulls_equal=True) for pairs in (above, below)
    )
    grain = pl.col("grain") + pl.col("own")
    doubt = pl.when("alike").then(0).otherwise("error") + grain
    late = pl.when("alike").then(0).otherwise("later") + 2 * grain
    ends = pl.col("start_ns") + pl.col("duration_ns")
    shared = pl.when("alike").then("error").max().alias("shared")
    waited, waits = (
        pl.col("kind").fill_null("") != "consumer",
        pl.col("kind_above").fill_null("") != "producer",
    )
    over = above.group_by("row").agg(
        low=(pl.col("start_ns") - doubt).max(),
        high=(ends + late).filter(waited & waits).min(),
        shared=shared,
    )
    under = below.group_by("row").agg(
        first=(pl.col("start_ns") + doubt).min(),
        last=(ends - late).filter(waited).max(),
        shared=shared,
    )
    both = asked.select("row").join(over, on="row", how="left").join(under, on="row", how="left")
    shared = pl.max_horizontal("shared", "shared_right").fill_null(0)
    return both.select("row", *BOUNDS, shared=shared)


def _sound(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose times can be, with their clocks and how finely they are told."""
    can_be = plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)
    return _clocked(rows.filter(can_be)).with_columns(grain=resolution(told()))


def _asked(spans: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows asked for, with their clocks and how finely they tell times (`own`)."""
    own = pl.max_horizontal(resolution(pl.col("duration_ns")), pl.col("grain").fill_null(1_000))
    grains = kinship.grains(spans, rows)
    named = rows.join(grains, on=_OF, how="left", nulls_equal=True)
    fixed = plausible(pl.col("start_ns")).fill_null(value=False)
    return _clocked(named).with_columns(own=own, timed=fixed)


def _clocked(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        owner=pl.coalesce("host", "service"),
        offset="clock_offset_ns",
        error="clock_error_ns",
        scaled=pl.col("repaired").list.contains(time_unit.NAME),
    )


def _above(asked: pl.DataFrame, fine: pl.DataFrame) -> pl.DataFrame:
    """The rows asked for beside their parents: the first of those that share a name."""
    mine = asked.select(
        "row", *_ABOVE, *_OF, "own", "timed", "kind",
        *(pl.col(name).alias(f"{name}_asked") for name in _CLOCK),
    )  # fmt: skip
    parents = fine.select(
        "trace_id", "start_ns", "duration_ns", "grain", *_CLOCK,
        parent_span_id="span_id", service_above="service", operation_above="operation",
        kind_above="kind",
    )  # fmt: skip
    pairs = mine.join(parents, on=_ABOVE)
    return _paired(pairs.sort("row", "start_ns").unique("row", keep="first", maintain_order=True))


def _below(asked: pl.DataFrame, fine: pl.DataFrame) -> pl.DataFrame:
    """The rows asked for beside each of their children."""
    mine = asked.select(
        "row", "trace_id", "own", "timed",
        *(pl.col(name).alias(f"{name}_asked") for name in _CLOCK),
        parent_span_id="span_id", service_above="service", operation_above="operation",
    )  # fmt: skip
    kids = fine.select(*_ABOVE, *_OF, "kind", "start_ns", "duration_ns", "grain", *_CLOCK)
    return _paired(mine.drop_nulls("parent_span_id").join(kids, on=_ABOVE))


def _paired(pairs: pl.DataFrame) -> pl.DataFrame:
    """With `alike`: both times are of one clock; else how far they may be off for being of two,
    starts (`error`) and ends (`later`: a length in another unit is as coarse as the start)."""
    one_line = ((pl.col("offset") - pl.col("offset_asked")).abs() <= ALIKE) & (
        pl.col("error") == pl.col("error_asked")
    )
    alike = (
        (pl.col("owner") == pl.col("owner_asked"))
        & ~pl.any_horizontal("scaled", "scaled_asked")
        & (~pl.col("timed") | one_line)
    ).fill_null(value=False)
    both = pl.when(alike).then("error").otherwise(pl.col("error") + pl.col("error_asked"))
    later = pl.col("error") * (1 + pl.col("scaled")) + pl.col("error_asked") * (
        1 + pl.col("scaled_asked")
    )
    return pairs.with_columns(alike=alike, error=both, later=later)
