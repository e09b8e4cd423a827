"""One file per kind of telemetry: what speaks against each service.

Each gives a frame (service, modality, fault, score, pod, subject, before, after): `score` grows
without bound with how much the window differs from healthy time, `before` and `after` are what
changed, in the unit the claim names.
"""

from __future__ import annotations

import polars as pl

SCHEMA = pl.Schema(
    {
        "service": pl.String,
        "modality": pl.String,
        "fault": pl.String,
        "score": pl.Float64,
        "pod": pl.String,
        "subject": pl.String,
        "before": pl.Float64,
        "after": pl.Float64,
    }
)


def frame(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the form every modality gives; what is missing is null."""
    missing = [
        pl.lit(None, kind).alias(name) for name, kind in SCHEMA.items() if name not in rows.columns
    ]
    rows = rows.with_columns(missing).select(
        pl.col(name).cast(kind) for name, kind in SCHEMA.items()
    )
    return rows.filter(
        pl.col("score") > 0, pl.col("score").is_finite(), pl.col("service").is_not_null()
    )
