"""The repair of metric samples: one per series and instant; resets and gaps marked."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from quality import marks

VERSIONS = dict.fromkeys(("sample_duplicate", "counter_reset", "stale_gap"), 1)
STALE = 0x7FF0000000000002  # the bits of Prometheus' stale marker


class Repaired(NamedTuple):
    """samples: clean rows; merged: rows left out, with the row kept in their place."""

    samples: pl.DataFrame
    merged: pl.DataFrame


def repair(raw: pl.DataFrame, series: pl.DataFrame) -> Repaired:
    """Samples in order, each instant once. Of two values for one instant the one that came last
    stays, and the row says so unless both are equal."""
    key = ["series", "ts"]
    ordered = raw.sort([*key, "ingested_at", "batch", "arrival"], maintain_order=True)
    last = ordered.select(pl.struct(key).ne_missing(pl.struct(key).shift(-1))).to_series()
    kept, lost = ordered.filter(last), ordered.filter(~last)
    clashes = _clashes(kept, lost)
    clean = kept.with_columns(pl.lit([], pl.List(pl.String)).alias("faults"))
    clean = clean.join(clashes, on=key, how="left", maintain_order="left")
    clean = clean.with_columns(marks.fault("sample_duplicate", pl.col("clash"))).drop("clash")
    return Repaired(_marked(clean, series), lost)


def _clashes(kept: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    """Instants that came with different values: (series, ts, clash)."""
    pairs = lost.select("series", "ts", other="value").join(
        kept.select("series", "ts", "value"), on=["series", "ts"]
    )
    differ = pl.col("value").ne_missing(pl.col("other"))
    return pairs.filter(differ).select("series", "ts", clash=pl.lit(value=True)).unique()


def _marked(clean: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Counters that fell, and stale markers."""
    kinds = series.select("series", "type").unique("series", keep="any")
    clean = clean.join(kinds, on="series", how="left", maintain_order="left")
    counter = pl.col("type").is_in(["counter", "histogram", "summary"]) | pl.col(
        "metric"
    ).str.ends_with("_total")
    fell = pl.col("value") < pl.col("value").shift(1).over("series")
    bits = clean["value"].to_numpy().view("int64")
    stale = pl.Series("stale", bits == STALE)
    return (
        clean.with_columns(stale)
        .with_columns(marks.fault("counter_reset", counter & fell))
        .with_columns(marks.fault("stale_gap", pl.col("stale")))
        .drop("type", "stale")
    )
