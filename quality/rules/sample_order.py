"""Samples in order of series and time, whatever order they arrived in."""

from __future__ import annotations

import polars as pl

NAME = "sample_order"
DELIVERY = ("ingested_at", "batch", "arrival")


def apply(samples: pl.DataFrame) -> pl.DataFrame:
    """The rows sorted; of one instant the one delivered last stands last."""
    return samples.sort("series", "ts", *DELIVERY, maintain_order=True)


def late(samples: pl.DataFrame) -> pl.DataFrame:
    """Rows that arrived after a later sample of their series."""
    order = samples.sort(*DELIVERY, maintain_order=True)
    newest = pl.col("ts").cum_max().over("series")
    found: pl.DataFrame = order.filter(pl.col("ts") < newest)
    return found
