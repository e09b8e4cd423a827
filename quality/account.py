"""Every record accounted for, from the source to the clean table."""

from __future__ import annotations

import polars as pl

from lake import Lake
from lake.maintain import expired
from lake.purge import erased
from quality.stages import STAGES

COLUMNS = (
    "table",
    "delivered",
    "refused",
    "expired",
    "erased",
    "raw",
    "clean",
    "merged",
    "joined",
    "quarantined",
    "balanced",
)


def account(lake: Lake) -> pl.DataFrame:
    """One row per clean table.

    delivered = refused at ingest + expired + erased + raw, and raw = clean + merged + joined +
    quarantined (rows that have expired counted on both sides), or `balanced` is false (as it is
    between an ingest and the next repair).
    """
    score = _counting(lake.read("scorecard")).group_by("table_name", "check_name")
    counted = {
        (table, check): rows for table, check, rows in score.agg(pl.col("rows").sum()).rows()
    }
    held = lake.scan("quarantine").select("table_name", "run_id", "recorded_at").collect()
    quarantine = dict(_counting(held).group_by("table_name").len().rows())
    rows = []
    for stage in STAGES:
        line = {
            "table": stage.clean,
            "delivered": counted.get((stage.raw, "received"), 0),
            "refused": quarantine.get(stage.raw, 0),
            "expired": expired(lake, stage.raw),
            "erased": erased(lake, stage.raw),
            "raw": _count(lake, stage.raw),
            "clean": _count(lake, stage.clean),
            "merged": counted.get((stage.clean, "duplicates_merged"), 0),
            "joined": counted.get((stage.clean, "partials_joined"), 0),
            "quarantined": quarantine.get(stage.clean, 0),
        }
        parts = line["clean"] + line["merged"] + line["joined"] + line["quarantined"]
        gone = line["expired"] + line["erased"]
        whole = line["delivered"] == line["refused"] + gone + line["raw"]
        made = line["raw"] + line["expired"] == parts + expired(lake, stage.clean)
        rows.append({**line, "balanced": whole and made})
    return pl.DataFrame(rows, schema_overrides={"table": pl.String}).select(COLUMNS)


def _counting(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without those of attempts that landed nothing: of a live source's attempts to go on
    from one cursor (`…@CURSOR`), the last counts."""
    last = pl.col("recorded_at") == pl.col("recorded_at").max().over("table_name", "run_id")
    return rows.filter(last | ~pl.col("run_id").str.contains("@", literal=True))


def _count(lake: Lake, name: str) -> int:
    return int(lake.scan(name).select(pl.len()).collect().item())
