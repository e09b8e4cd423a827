"""What calls say of clocks: with θ = clock(callee) − clock(caller),
callee.end − caller.end ≤ θ ≤ callee.start − caller.start; asynchronous calls give the upper bound.
"""

from __future__ import annotations

import polars as pl

from quality.rules import kinship, parent_cycle
from quality.rules.time_unit import plausible, resolution

SLOT = 10_000_000_000  # ns: bounds are gathered per pair of hosts in slots of this length
TOLERANCE = 20_000  # ns beyond a bound that still count as the clock being right
TRIM = 0.002  # the share of a slot's calls whose bounds may be wrong (mislabelled, damaged)
OF = ["service", "operation"]
KEYS = ["caller", "callee", "slot"]


def owner() -> pl.Expr:
    """Whose clock a row's times are of: the host, else the service."""
    return pl.coalesce("host", "service")


def calls(spans: pl.DataFrame) -> pl.DataFrame:
    """Calls between hosts: caller, callee, at (ns), low (null when asynchronous), high (ns).

    A time given in whole milliseconds may lie anywhere in its millisecond, one that was told in
    another unit as far off as its row says, its length too, and the bounds are widened by that
    much. Links on a loop and links that hardly any other row of the operation has are no calls.
    """
    looping = parent_cycle.looping(parent_cycle.parents(spans))
    sound = (
        ~pl.int_range(pl.len()).is_in(pl.Series(looping, dtype=pl.Int64).implode())
        & pl.col("trace_id").is_not_null()
        & (pl.col("duration_ns") >= 0)
        & (pl.col("faults").list.len() == 0)
        & plausible(pl.col("start_ns"))
    )
    grain = pl.max_horizontal(resolution(pl.col("start_ns")), "clock_error_ns")
    side = spans.filter(sound).select(
        "trace_id",
        "span_id",
        "parent_span_id",
        "kind",
        owner().alias("owner"),
        "start_ns",
        pl.col("duration_ns").alias("length"),
        grain.alias("grain"),
        *OF,
        error="clock_error_ns",
    )
    caller = side.select(
        "trace_id",
        "kind",
        "owner",
        "start_ns",
        "length",
        "grain",
        "error",
        parent_span_id="span_id",
        service_above="service",
        operation_above="operation",
    )
    both = side.filter(pl.col("parent_span_id").is_not_null()).join(
        caller, on=["trace_id", "parent_span_id"], suffix="_of_caller"
    )
    both = _usual(spans, both.filter(pl.col("owner") != pl.col("owner_of_caller")))
    doubt = pl.col("grain") + pl.col("grain_of_caller")
    early = pl.col("start_ns") - pl.col("start_ns_of_caller")
    late = early + pl.col("length") - pl.col("length_of_caller")
    waits = (
        (pl.col("kind").fill_null("") != "consumer")
        & (pl.col("kind_of_caller").fill_null("") != "producer")
        & (pl.col("length") <= pl.col("length_of_caller"))
    )
    return both.select(
        caller="owner_of_caller",
        callee="owner",
        at="start_ns_of_caller",
        low=pl.when(waits).then(late - doubt - pl.col("error") - pl.col("error_of_caller")),
        high=early + doubt,
    )


def _usual(spans: pl.DataFrame, both: pl.DataFrame) -> pl.DataFrame:
    """Without the links of which the child's operation has more than RARE rows each."""
    edges = kinship.seen(spans, both)
    rows = kinship.grains(spans, both).select(*OF, "rows")
    odd = edges.join(rows, on=OF, nulls_equal=True).filter(
        pl.col("times") * parent_cycle.RARE < pl.col("rows")
    )
    return both.join(odd, on=kinship.EDGE, how="anti", nulls_equal=True)


def gather(found: pl.DataFrame) -> pl.DataFrame:
    """The tightest bounds of each pair and slot: caller, callee, at, low (of a call `at_low`), high
    (`at_high`), calls, and how many calls are `against` the two clocks being equal.

    A pair's calls in the other direction are turned around, so that each pair stands once.
    """
    turn = pl.col("caller") > pl.col("callee")
    one_way = found.select(
        pl.when(turn).then("callee").otherwise("caller").alias("caller"),
        pl.when(turn).then("caller").otherwise("callee").alias("callee"),
        "at",
        pl.when(turn).then(-pl.col("high")).otherwise("low").alias("low"),
        pl.when(turn).then(-pl.col("low")).otherwise("high").alias("high"),
    )
    against = (pl.col("low") > TOLERANCE) | (pl.col("high") < -TOLERANCE)
    keyed = one_way.with_columns(slot=pl.col("at") // SLOT)
    sizes = keyed.group_by(KEYS).len("calls")["calls"]
    tightest = _tightest if (sizes * TRIM >= 1).any() else _extreme
    return (
        keyed.group_by(KEYS)
        .agg(
            pl.col("at").median().cast(pl.Int64),
            *tightest("low", descending=True),
            *tightest("high", descending=False),
            pl.len().alias("calls"),
            against.fill_null(value=False).sum().alias("against"),
        )
        .sort(KEYS)
    )


def _tightest(side: str, *, descending: bool) -> list[pl.Expr]:
    """A side's tightest bound and the time of its call, without the share that may be wrong."""
    known = pl.col(side).is_not_null()
    values, times = pl.col(side).filter(known), pl.col("at").filter(known)
    skip = (pl.len() * TRIM).floor().cast(pl.Int64)
    return [
        values.sort(descending=descending).get(skip, null_on_oob=True).alias(side),
        times.sort_by([values, times], descending=[descending, False])
        .get(skip, null_on_oob=True)
        .alias(f"at_{side}"),
    ]


def _extreme(side: str, *, descending: bool) -> list[pl.Expr]:
    """The same where no group is so large that any may be wrong: in half the time."""
    values = pl.col(side)
    value, place = (
        (values.max(), values.arg_max()) if descending else (values.min(), values.arg_min())
    )
    return [value.alias(side), pl.col("at").get(place, null_on_oob=True).alias(f"at_{side}")]
