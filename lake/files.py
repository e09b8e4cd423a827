"""The data files a table is made of: which they are, their rows, and their exchange for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import RemoveAction

from lake import frames
from lake.schemas import TABLES
from lake.stage import Staged
from lake.store import Lake
from lake.tables import where_in


@dataclass(frozen=True)
class Placed:
    """A data file that is part of a table: its path below the table, bytes, rows, partition."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str | None]


def placed(opened: DeltaTable) -> list[Placed]:
    """The data files of a table at the version it was opened at."""
    actions = pa.table(opened.get_add_actions(flatten=True))
    keys = [name for name in actions.column_names if name.startswith("partition.")]
    return [
        Placed(
            row["path"],
            row["size_bytes"],
            row["num_records"] or 0,
            {
                key.removeprefix("partition."): None if row[key] is None else str(row[key])
                for key in keys
            },
        )
        for row in actions.select(["path", "size_bytes", "num_records", *keys]).to_pylist()
    ]


def values(one: Placed) -> dict[str, str | date | None]:
    """What the columns hold that a file is partitioned by."""
    return {
        key: date.fromisoformat(text) if key == "date" and text else text
        for key, text in one.partition.items()
    }


def read(lake: Lake, name: str, files: Sequence[Placed]) -> pl.DataFrame:
    """The rows of some data files of one partition, in the table's columns and order."""
    table = TABLES[name]
    wanted = frames.polars_schema(table)
    parts = [
        pl.read_parquet(f"{lake.uri(name)}/{one.path}", hive_partitioning=False) for one in files
    ]
    rows = pl.concat(parts, how="diagonal").with_columns(
        pl.lit(value, wanted[key]).alias(key) for key, value in values(files[0]).items()
    )
    missing = [pl.lit(None, wanted[key]).alias(key) for key in wanted if key not in rows.columns]
    return frames.fit(table, rows.with_columns(missing).select(table.schema.names))


def exchange(
    lake: Lake,
    name: str,
    old: Sequence[Placed],
    new: Sequence[Staged],
    counts: Mapping[str, int] | None = None,
    *,
    changes: bool = True,
) -> bool:
    """Put new files in the place of old ones, in one commit, whatever others add beside.

    False, and no commit, when one of the old is no longer part of the table. `counts` raise app
    transactions by a number. `changes` says whether the rows differ, for those who follow the
    table.
    """
    now = int(time.time() * 1000)
    gone = [RemoveAction(one.path, changes, now, one.size, dict(one.partition)) for one in old]
    paths = {one.path for one in old}

    def commit(opened: DeltaTable) -> bool:
        if not paths <= {one.path for one in placed(opened)}:
            return False
        marks = [
            Transaction(app, (opened.transaction_version(app) or 0) + count)
            for app, count in (counts or {}).items()
        ]
        opened.create_write_transaction(
            [*gone, *(one.action(changes=changes) for one in new)],
            mode="append",
            schema=opened.schema(),
            partition_by=list(TABLES[name].partition_by),
            commit_properties=CommitProperties(
                max_commit_retries=0, app_transactions=marks or None
            ),
        )
        return True

    return lake.retry(name, commit)


def rewrite(
    lake: Lake,
    name: str,
    partition: Mapping[str, str | date],
    change: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    force: bool = False,
) -> bool:
    """Rewrite one partition (none: the table) by a pure function of its rows, in one commit.

    False, and no commit, when it changes nothing, unless by `force`. Run again when another writer
    came in between.
    """
    table, where = TABLES[name], where_in(partition) or None
    inside = pl.all_horizontal(
        pl.lit(value=True), *(pl.col(key) == value for key, value in partition.items())
    )

    def commit(opened: DeltaTable) -> bool:
        rows = pl.scan_delta(opened).select(table.schema.names).filter(inside).collect()
        before = frames.fit(table, rows)
        after = frames.fit(table, change(before))
        if after.equals(before) and not force:
            return False
        lake.write(name, opened, after, None, 0, mode="overwrite", predicate=where)
        return True

    return lake.retry(name, commit)


def discard(folder: Path, staged: Sequence[Staged]) -> None:
    """Remove files that were written for a commit that will not be."""
    for one in staged:
        (folder / one.path).unlink(missing_ok=True)
