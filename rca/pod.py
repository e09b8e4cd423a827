"""Which pod of a suspect it is, where it is one and not all of them."""

from __future__ import annotations

import polars as pl

from rca import fuse
from rca.facts import Facts
from rca.suspects import latency

SURE = 0.2  # how loud what speaks of a pod must be
MOST = 0.8  # of the bad spans that must lie in the pod
HALF = 0.5  # of a pod's rise: another that rises so much is hit as well


def pod(seen: Facts, found: pl.DataFrame, service: str) -> str | None:
    """The pod that what speaks against the service points at, by the loudest that names one; None
    where others of its pods are hit as well. A service's only pod is always it."""
    mine = fuse.loudness(found.filter(pl.col("service") == service))
    mine = mine.filter(pl.col("part") >= SURE, pl.col("pod").is_not_null())
    for row in mine.sort("part", "modality", descending=[True, False]).iter_rows(named=True):
        alone = _rises_alone if row["modality"].startswith("metrics/") else _struck_alone
        if alone(seen, row):
            return str(row["pod"])
    return None


def _rises_alone(seen: Facts, row: dict[str, object]) -> bool:
    """Whether the metric rises at no other pod of the service half as much."""
    mine = seen.samples.filter(
        pl.col("service") == row["service"], pl.col("metric") == row["subject"]
    )
    value = pl.col("value")
    each = mine.group_by("pod").agg(
        rise=value.filter("bad").mean() - value.filter(~pl.col("bad")).median()
    )
    rises = dict(each.rows())
    own = rises.get(row["pod"])
    return own is not None and not any(
        rise is not None and rise > HALF * own for pod, rise in rises.items() if pod != row["pod"]
    )


def _struck_alone(seen: Facts, row: dict[str, object]) -> bool:
    """Whether nearly all bad spans of the service lie in the pod, and far from all others."""
    mine = latency.slow(seen.spans.filter(pl.col("service") == row["service"])).filter("bad")
    here = pl.col("pod") == pl.lit(row["pod"])
    if mine["pod"].drop_nulls().n_unique() < 2:
        return True
    bad = mine.filter(pl.col("slow") | pl.col("error"))
    share, usual = bad.select(here.mean()).item() or 0.0, mine.select(here.mean()).item() or 0.0
    return share >= MOST and usual <= MOST / 1.6
