"""What `rootlake status` tells: tables, freshness, the account of rows, the scorecard, what is
undone, and which rules made which days."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from lake import TABLES, Lake
from quality import versions
from quality.account import account
from quality.measure import PREFIX

_TIMES = ("ts", "start", "minute", "recorded_at", "opened_at", "created_at", "last_seen", "since")


def status(lake: Lake, now: datetime | None = None) -> dict[str, Any]:
    """The lake in numbers, ready for JSON."""
    moment = now or datetime.now(UTC)
    return {
        "lake": lake.root,
        "tables": [_table(lake, name, moment) for name in TABLES],
        "account": account(lake).to_dicts(),
        "scorecard": _scorecard(lake),
        "suppressed": lake.read("suppressions").to_dicts(),
        "rules": versions.history(lake),
    }


def _table(lake: Lake, name: str, now: datetime) -> dict[str, Any]:
    """Rows, bytes and newest event of a table, from its log alone."""
    opened = lake.open(name)
    actions = pa.table(opened.get_add_actions(flatten=True))
    files = pl.DataFrame(pl.from_arrow(actions))
    newest = _newest(name, files)
    days = files["partition.date"].n_unique() if "partition.date" in files.columns else None
    return {
        "table": name,
        "rows": int(files["num_records"].sum() or 0) if files.height else 0,
        "files": files.height,
        "bytes": int(files["size_bytes"].sum() or 0) if files.height else 0,
        "days": days if files.height else 0,
        "version": int(opened.version()),
        "newest": newest,
        "age_seconds": None if newest is None else int((now - newest).total_seconds()),
    }


def _newest(name: str, files: pl.DataFrame) -> datetime | None:
    """The latest time in the files' statistics, of the table's own time column."""
    for column in _TIMES:
        key = f"max.{column}"
        if column in TABLES[name].schema.names and files.schema.get(key, pl.Null).is_temporal():
            found = files[key].cast(pl.Datetime("us", "UTC"), strict=False).max()
            return found if isinstance(found, datetime) else None
    return None


def _scorecard(lake: Lake) -> list[dict[str, Any]]:
    """Faults per table and check over all days, the most frequent first."""
    found = (
        lake.scan("scorecard")
        .filter(
            pl.col("check_name") != "received",
            ~pl.col("check_name").str.starts_with(PREFIX),
            pl.col("faulty") > 0,
        )
        .group_by("table_name", "check_name")
        .agg(pl.col("rows", "faulty", "repaired", "quarantined").sum())
        .sort("faulty", "check_name", descending=[True, False])
        .collect()
    )
    return found.to_dicts()
