"""A span that is its own ancestor: the link is cut at the loop's earliest span, which is marked.

Clocks differ from host to host, so before they are right the earliest is told by other evidence:
the one link of the loop that no other span has (or that no call makes: a server's span under its
own service's, a client's under another's), and the one span that lasts longest and waits for all
others. Where these say nothing, or contradict each other or the time, the loop is marked and left
alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from quality import marks
from quality.rules import kinship
from quality.rules.time_unit import plausible

NAME = "parent_cycle"
RARE = 100  # a link seen this much less often than the loop's others is the odd one
Index = npt.NDArray[np.int64]


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """The frame without the loops that can be cut whatever the clocks say; cut rows carry the
    rule's name in `repaired`."""
    return _without(spans, by_time=False)


def finish(spans: pl.DataFrame) -> pl.DataFrame:
    """No link closes a loop, or every row of the loop has the rule's name in `faults`."""
    return _without(spans, by_time=True)


def _without(spans: pl.DataFrame, *, by_time: bool) -> pl.DataFrame:
    parent = parents(spans)
    on_loop = looping(parent)
    if not len(on_loop):
        return spans
    cut, unsure = _cuts(_loops(spans, parent, on_loop), by_time=by_time)
    here = pl.int_range(pl.len()).is_in(cut.implode())
    spans = spans.with_columns(
        pl.when(here).then(None).otherwise("parent_span_id").alias("parent_span_id"),
        marks.repaired(NAME, here),
    )
    left = pl.int_range(pl.len()).is_in(unsure.implode())
    return spans.with_columns(marks.fault(NAME, left)) if by_time and len(unsure) else spans


def parents(spans: pl.DataFrame) -> Index:
    """The position of each row's parent in the frame, -1 where there is none."""
    places = spans.select(
        "trace_id", parent_span_id="span_id", place=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    places = places.unique(["trace_id", "parent_span_id"], keep="first", maintain_order=True)
    joined = spans.select("trace_id", "parent_span_id").join(
        places, on=["trace_id", "parent_span_id"], how="left", maintain_order="left"
    )
    return joined["place"].fill_null(-1).to_numpy()


def looping(parent: Index) -> Index:
    """The positions that lie on a loop. Following links 2^k steps at once, a round in which no
    row more comes to an end leaves only those that never do."""
    size = len(parent)
    far = np.append(np.where(parent < 0, size, parent), size)
    left = np.flatnonzero(far[:size] < size)
    while True:
        far[left] = far[far[left]]
        after = left[far[left] < size]
        if len(after) == len(left):
            return np.unique(_around(far, left)) if len(left) else left
        left = after


def _around(far: Index, left: Index) -> Index:
    """Where rows that never come to an end are after as many steps as there are rows."""
    for _ in range(max(len(left).bit_length(), 1)):
        far[left] = far[far[left]]
    return far[left]


def _loops(spans: pl.DataFrame, parent: Index, on_loop: Index) -> pl.DataFrame:
    """The rows on loops with the `loop` they are of: the least position on it."""
    label = np.arange(len(parent))
    for _ in range(len(on_loop)):
        least = np.minimum(label[on_loop], label[parent[on_loop]])
        if (least == label[on_loop]).all():
            break
        label[on_loop] = least
    columns = ("kind", "service", "operation", "start_ns", "duration_ns", "clock_error_ns")
    above = spans.select("service", "operation")[parent[on_loop]]
    rows = spans.select(*columns, "ingested_at")[on_loop].with_columns(
        place=pl.Series(on_loop),
        loop=pl.Series(label[on_loop]),
        service_above=above["service"],
        operation_above=above["operation"],
    )
    others = spans.filter(~pl.int_range(pl.len()).is_in(pl.Series(on_loop).implode()))
    edges = kinship.seen(others, rows)
    grains = kinship.grains(spans, rows)
    rows = rows.join(edges, on=kinship.EDGE, how="left", nulls_equal=True, maintain_order="left")
    mine = ["service", "operation"]
    return rows.join(grains, on=mine, how="left", nulls_equal=True, maintain_order="left")


def _cuts(rows: pl.DataFrame, *, by_time: bool) -> tuple[pl.Series, pl.Series]:
    """(positions to cut at, positions on loops that stay)."""
    inside = pl.col("kind").is_in(["client", "producer", "internal"])
    entry = pl.col("kind").is_in(["server", "consumer"])
    same = pl.col("service") == pl.col("service_above")
    waits = ~pl.col("kind").is_in(["producer", "consumer"])
    sound = (plausible(pl.col("start_ns")) & (pl.col("duration_ns") >= 0)).all()
    doubt = pl.col("clock_error_ns") + 2 * pl.col("grain").fill_null(1_000)
    evidence = [
        (pl.col("times").fill_null(0) * RARE < pl.col("times").max(), pl.lit(value=True)),
        ((inside & ~same) | (entry & same), pl.lit(value=True)),
        (_alone("duration_ns", doubt, largest=True), waits.all() & sound),
        (_alone("start_ns", doubt, largest=False), sound & by_time),
    ]
    rows = rows.with_columns(
        (here.fill_null(value=False) & when.fill_null(value=False))
        .over("loop")
        .alias(f"told_{place}")
        for place, (here, when) in enumerate(evidence)
    )
    told = [pl.col(f"told_{place}") for place in range(len(evidence))]
    clear = [one & (one.sum().over("loop") == 1) for one in told]
    rows = rows.with_columns(
        pl.any_horizontal(clear).alias("named"), pl.len().over("loop").alias("rows")
    )
    agreed = pl.col("named") & (pl.col("named").sum().over("loop") == 1)
    cut = rows.filter(agreed | (pl.col("rows") == 1))
    stays = rows.join(cut.select("loop"), on="loop", how="anti")
    return cut["place"], stays["place"]


def _alone(column: str, doubt: pl.Expr, *, largest: bool) -> pl.Expr:
    """Which row of a loop has the largest (or least) value by more than the doubt."""
    value = pl.col(column) if largest else -pl.col(column)
    others = pl.col(column).sort(descending=largest).get(1, null_on_oob=True)
    best = value == value.max()
    return best & ((value - (others if largest else -others)) > doubt.max())
