"""Between the clocks and the rules that compare times: how often a call lies inside its caller, by
right clocks, counted over the rows of all slices (`rules.kinship.nested`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

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
    return kinship.nested(timed, timed.select("service", "operation").unique())
