"""What speaks against each service, made one score: the loudest modality counts, by x / (x + c).

Averages and rank fusion drown the one modality that is loud (measured: see FUSION in the docs).
"""

from __future__ import annotations

import polars as pl

LOUD = {  # the score at which a modality is half convinced
    "network": 30.0,
    "logs": 4.0,
    "errors": 4.0,
    "latency": 4.0,
    "loss": 4.0,
    "metrics/cpu": 25.0,
    "metrics/memory": 8.0,
    "metrics/disk": 10.0,
    "metrics/restarts": 4.0,
    "metrics/network_loss": 15.0,
    "metrics/capacity": 15.0,
    "attributes": 4.0,
}


def loudness(found: pl.DataFrame) -> pl.DataFrame:
    """The findings with `part`, between 0 and 1: how convinced each modality is."""
    weight = pl.col("modality").replace_strict(LOUD, default=4.0, return_dtype=pl.Float64)
    return found.with_columns(part=pl.col("score") / (pl.col("score") + weight))


def fuse(found: pl.DataFrame) -> pl.DataFrame:
    """Services in the order of their blame: (service, total, fault, modality, pod), one row each.

    `total` is the loudest modality's x / (x + c) plus a tenth of what the others leave open, so
    that equals are told apart by how many agree; scores fall strictly.
    """
    ordered = loudness(found).sort("part", "modality", descending=[True, False])
    rest = (pl.col("part").sum() - pl.col("part").max()) / (1 + pl.len())
    total = pl.col("part").max() + 0.1 * rest * (1 - pl.col("part").max())
    each = ordered.group_by("service", maintain_order=True).agg(
        total.alias("total"),
        pl.col("fault").first(),
        pl.col("modality").first(),
        pl.col("pod").drop_nulls().first(),
    )
    ranked = each.sort("total", "service", descending=[True, False])
    return ranked.with_columns(pl.col("total") - pl.int_range(pl.len()) * 1e-9)
