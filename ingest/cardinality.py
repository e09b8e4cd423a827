"""Which metrics and labels cost most: series and samples per metric, values per label."""

from __future__ import annotations

import polars as pl

from lake import Lake

DAYS = 7  # of samples that are counted


def metrics(lake: Lake) -> pl.DataFrame:
    """One row per metric, the dearest first: metric, type, series, samples (of the last seven days
    there are), share (of all these samples), left_out (samples a cap kept out), label and values
    (the label with the most values, and how many)."""
    described = lake.read("series").select("metric", "series", "labels", "type")
    labels = (
        described.select("metric", pair=pl.col("labels").map.entries())
        .explode("pair", empty_as_null=True)
        .drop_nulls("pair")
        .unnest("pair")
        .group_by("metric", label="key")
        .agg(values=pl.col("value").n_unique())
        .sort("values", "label", descending=[True, False])
        .unique("metric", keep="first", maintain_order=True)
    )
    days = lake.days("raw_samples")[-DAYS:]
    samples = (
        lake.scan("raw_samples")
        .filter(pl.col("date").is_in(days))
        .group_by("metric")
        .agg(samples=pl.len())
        .collect()
    )
    left = (
        lake.scan("scorecard")
        .filter(pl.col("check_name") == "left_out", pl.col("table_name") == "raw_samples")
        .group_by(metric="service")
        .agg(left_out=pl.col("faulty").sum())
        .collect()
    )
    every = described.group_by("metric").agg(pl.col("type").first(), series=pl.len())
    for more in (samples, left, labels):
        every = every.join(more, on="metric", how="left")
    counted = every.with_columns(pl.col("samples", "left_out").fill_null(0))
    share = (pl.col("samples") / pl.col("samples").sum()).fill_nan(0.0)
    return (
        counted.with_columns(share=share)
        .select("metric", "type", "series", "samples", "share", "left_out", "label", "values")
        .sort("samples", "series", "metric", descending=[True, True, False])
    )
