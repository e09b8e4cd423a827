"""Changes before the onset, ranked by whether they can explain what fails, and how.

`ANALYSERS` lists what a diff can do. The nearest deploy is no evidence by itself: without a
reason in what it does a change stays below `EXPLAINS`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake import Lake
from rca.changes import records
from rca.changes.analysers import ANALYSERS, readily
from rca.changes.rank import ASKED, EXPLAINS, UNEXPLAINED, Suspect, rank

__all__ = [
    "ANALYSERS",
    "ASKED",
    "EXPLAINS",
    "UNEXPLAINED",
    "Suspect",
    "candidates",
    "does",
    "rank",
    "short",
]

REACH = timedelta(days=10)
AFTER = timedelta(days=1)  # rollouts after the onset say that a commit was not out yet
Row = dict[str, Any]


def short(ref: Any) -> str:
    """A reference as a person reads it: a sha cut, anything else whole."""
    text = str(ref)
    return text[:12] if re.fullmatch("[0-9a-f]{40}", text) else text[:60]


def candidates(lake: Lake, onset: datetime) -> list[Row]:
    """Changes of the days around the onset; the newest first."""
    start, end = onset - REACH, onset + AFTER
    rows = lake.scan("changes").filter(
        pl.col("date").is_between(start.date(), end.date()), pl.col("ts").is_between(start, end)
    )
    by = ("ts", "kind", "ref", "service", "cluster", "author", "message", "before", "after")
    return rows.sort(by, descending=True).collect().to_dicts()


def does(row: Row, fault: str) -> list[str]:
    """What a change does that can lead to a fault; with fault 'any', all that is recognised."""
    blank = dict.fromkeys(("before", "after", "message", "service", "ref", "diff"))
    return [str(act) for act in records.does({**blank, **row}) if readily(act, fault)]
