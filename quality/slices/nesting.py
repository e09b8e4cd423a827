"""Between the clocks and the rules that compare times: how often a call lies inside its caller, by
right clocks, counted by day over the rows of all slices (`rules.kinship.nested`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from lake import UNPLACED
from quality.clock import skew
from quality.rules import kinship
from quality.slices import decode, finish, judge
from quality.suppressions import Suppressed


def of_slice(
    number: int, folder: Path, lines: Sequence[skew.Line], fixed: Collection[date]
) -> pl.DataFrame:
    """Of the healthy rows of a slice, whose parents are healthy too."""
    rows = decode.load(str(folder / f"rows-{number}"))
    healthy = finish.healthy_of(rows, folder, number)
    times, _ = finish.timed(rows, healthy, lines, fixed)
    parent = finish.parents(rows, healthy)
    child = np.flatnonzero(parent >= 0)
    above = parent[child]
    start = times["start_ns"]
    end = start + times["duration_ns"]
    told = start + times["clock_offset_ns"]
    each = times["clock_error_ns"] + np.where(told % 1_000_000 == 0, 1_000_000, 1_000)
    doubt = each[child] + each[above]
    late = end[child] > end[above] + 2 * doubt
    consumer, producer = (judge.kind_is(rows, kind)[healthy] for kind in ("consumer", "producer"))
    late &= ~consumer[child] & ~producer[above]
    out = late | (start[child] < start[above] - doubt)
    return judge.edges(rows, healthy[child], healthy[above], out)


def of_batch(number: int, folder: Path, lines: list[skew.Line], off: Suppressed) -> pl.DataFrame:
    """Of the rows of a batch, after the rules before clocks."""
    rows, about = (pl.read_ipc(folder / f"{name}-{number}") for name in ("linked", "about"))
    exempt = off.exempt(about["day"], about["row"])
    timed = exempt.apply(skew.NAME, partial(skew.shift, found=lines), rows)
    days = _alone(timed, about).partition_by("day", as_dict=True, include_key=False)
    counted = [
        kinship.nested(some, some.select("service", "operation").unique()).select(
            pl.lit(day).alias("day"), pl.all()
        )
        for (day,), some in sorted(days.items())
    ]
    return pl.concat(counted or [pl.DataFrame(schema=judge.COUNTED)])


def _alone(rows: pl.DataFrame, about: pl.DataFrame) -> pl.DataFrame:
    """The rows of traces that have a root, and rows of one `day` alone, as `judge` tells them."""
    placed = pl.when(pl.col("day") != UNPLACED).then("day")
    joined = rows.join(about.select("row", placed.alias("day")), on="row", maintain_order="left")
    low, high = (getattr(pl.col("day"), name)().over("trace_id") for name in ("min", "max"))
    rooted = pl.col("parent_span_id").is_null().any().over("trace_id")
    return joined.filter(low == high, rooted, pl.col("trace_id").is_not_null()).drop_nulls("day")
