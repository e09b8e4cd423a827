"""Rows written ahead of their commit: Parquet files in a local lake that no reader sees yet.

Workers stage, one process commits; a run that dies leaves files that belong to no version, which
`vacuum` removes. Statistics come from the Parquet footers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import BloomFilterProperties, ColumnProperties, WriterProperties
from deltalake.transaction import AddAction

from lake.schemas import Table

_INDEXED = 32  # leaf columns that carry statistics, as Delta's default
_WIDE = frozenset(
    ("attributes", "resource", "events", "links", "body", "diff", "before", "after", "message")
)  # texts nobody looks up by their bounds
_REPEATED = frozenset(
    (
        *("service", "operation", "kind", "status", "start_unit", "severity", "metric", "weight"),
        *("faults.list.element", "repaired.list.element", "clock_offset_ns", "clock_error_ns"),
        *(
            "series",
            "ingested_at",
            "host",
            "pod",
            "node",
            "cluster",
            "namespace",
            "environment",
            "resource",
        ),
        *("source", "batch"),
    )
)  # columns of few distinct values
_CODES = {  # of samples, which lie in time order: half the bytes in less time
    "ts": "DELTA_BINARY_PACKED",
    "arrival": "DELTA_BINARY_PACKED",
    "value": "BYTE_STREAM_SPLIT",
}
_ROWS = 1_000_000  # of one file, at most; files are written side by side
_SUM = "sum-"  # how the name of a file begins that was made of others
_GROUPS = {
    "raw_spans": 16 * 1024,  # repair reads a file by ranges of traces
    "spans": 128 * 1024,  # questions are about some minutes
}  # rows of a row group
_SPANS = 8  # of a trace in a row group, about: for the size of a bloom filter
_GROUP = 512 * 1024
_LONG = 256  # characters: longer texts get no statistics


@dataclass(frozen=True)
class Staged:
    """A data file that waits for its commit."""

    path: str
    size: int
    partition: Mapping[str, str | None]
    stats: str
    rows: int

    def action(self, *, changes: bool = True) -> AddAction:
        """As Delta's log wants it; without `changes` its rows were in the table before."""
        return AddAction(
            path=self.path,
            size=self.size,
            partition_values=dict(self.partition),
            modification_time=int(time.time() * 1000),
            data_change=changes,
            stats=self.stats,
        )


def identity(files: Iterable[str]) -> int:
    """What rows some data files hold, as a number that compaction does not change: the sum of one
    number per file, which a file made of others carries in its name."""
    return sum(_number(file.rsplit("/", 1)[-1]) for file in files) % (1 << 64)


def _number(name: str) -> int:
    if name.startswith(_SUM):
        return int(name[len(_SUM) : len(_SUM) + 16], 16)
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def stage(folder: Path, table: Table, rows: pl.DataFrame) -> list[Staged]:
    """Write fitted, sorted rows of a table below its folder, one file per partition."""
    parts = [(values, some) for values, part in _partitions(table, rows) for some in _files(part)]
    if len(parts) < 2:
        return [_written(folder, table, *one) for one in parts]
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda one: _written(folder, table, *one), parts))


def _files(part: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of a partition by file, in files of one size that keep all cores busy."""
    if part.height <= _ROWS:
        return [part]
    cores = os.cpu_count() or 1
    rounds = -(-part.height // (_ROWS * cores))
    size = -(-part.height // (rounds * cores))
    return [part[low : low + size] for low in range(0, part.height, size)]


def merged(folder: Path, staged: Sequence[Staged], of: int) -> list[Staged]:
    """Staged files under names that say they hold the rows of files with that `identity`."""
    named = []
    for place, one in enumerate(staged):
        where, _, name = one.path.rpartition("/")
        carried = of if place == 0 else 0
        path = f"{where}/{_SUM}{carried:016x}-{name}".lstrip("/")
        (folder / one.path).rename(folder / path)
        named.append(dataclasses.replace(one, path=path))
    return named


def writer(table: Table) -> WriterProperties:
    """How Delta's own writer writes the table's files."""
    bloom = ColumnProperties(
        bloom_filter_properties=BloomFilterProperties(set_bloom_filter_enabled=True, fpp=0.01)
    )
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        column_properties=dict.fromkeys(table.bloom, bloom),
    )


def _partitions(
    table: Table, rows: pl.DataFrame
) -> Iterator[tuple[dict[str, str | None], pl.DataFrame]]:
    if not table.partition_by:
        yield {}, rows
        return
    keys = list(table.partition_by)
    if all(rows[key].n_unique() == 1 for key in keys):
        texts = {key: None if rows[key][0] is None else str(rows[key][0]) for key in keys}
        yield texts, rows.drop(keys)
        return
    for values, part in rows.partition_by(keys, as_dict=True, maintain_order=True).items():
        named = dict(zip(keys, values, strict=True))
        yield (
            {key: None if one is None else str(one) for key, one in named.items()},
            part.drop(keys),
        )


def _written(
    folder: Path, table: Table, values: Mapping[str, str | None], rows: pl.DataFrame
) -> Staged:
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    if any(pa.types.is_nested(one.type) for one in arrow.schema):
        arrow = arrow.cast(pa.schema([one for one in table.schema if one.name not in values]))
    return place(folder, table, values, arrow)


def place(folder: Path, table: Table, values: Mapping[str, str | None], rows: pa.Table) -> Staged:
    """Write one data file of a partition: its columns without those of `values`, in the table's
    order; dictionaries may stand for text."""
    part = "/".join(
        f"{key}={'__HIVE_DEFAULT_PARTITION__' if one is None else one}"
        for key, one in values.items()
    )
    path = f"{part}/part-{uuid.uuid4()}.zstd.parquet".lstrip("/")
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = _without_codes_of_nothing(rows)
    names = rows.schema.names
    codes = _CODES if table.name.endswith("samples") else {}
    few = {"ndv": max(rows.num_rows // _SPANS, 64), "fpp": 0.01}
    pq.write_table(
        rows,
        file,
        compression="zstd",
        compression_level=1,
        use_dictionary=_dictionaries(table, rows),
        dictionary_pagesize_limit=8 << 20,
        column_encoding={name: how for name, how in codes.items() if name in names},
        write_statistics=[name for name in names if name not in _WIDE],
        row_group_size=_GROUPS.get(table.name, _GROUP),
        store_schema=False,
        bloom_filter_options=dict.fromkeys(table.bloom, few) or None,
    )
    stats = msgspec.json.encode(_stats(pq.read_metadata(file))).decode()
    return Staged(path, file.stat().st_size, values, stats, rows.num_rows)


def _without_codes_of_nothing(rows: pa.Table) -> pa.Table:
    """Columns of codes that are all null, as plain nulls: these are written in a third of the
    time."""
    for place, one in enumerate(rows.schema):
        empty = rows.column(place).null_count == rows.num_rows
        if empty and pa.types.is_dictionary(one.type):
            rows = rows.set_column(place, one.name, pa.nulls(rows.num_rows, pa.string()))
    return rows


def _dictionaries(table: Table, rows: pa.Table) -> list[str]:
    """The columns that are written as codes: of few distinct values, or coded already."""
    found = [name for name in rows.schema.names if name in _REPEATED or name in table.bloom]
    maps = [one.name for one in rows.schema if pa.types.is_map(one.type)]
    return [*found, *(f"{name}.key_value.{part}" for name in maps for part in ("key", "value"))]


def _stats(found: pq.FileMetaData) -> dict[str, Any]:
    """Delta's statistics of a file, of its first plain columns."""
    low, high, nulls = dict[str, Any](), dict[str, Any](), dict[str, int]()
    for column in range(min(found.num_columns, _INDEXED)):
        chunks = [found.row_group(group).column(column) for group in range(found.num_row_groups)]
        name = chunks[0].path_in_schema if chunks else ""
        known = [chunk.statistics for chunk in chunks]
        if "." in name or name in _WIDE or not all(known):
            continue
        nulls[name] = sum(one.null_count for one in known)
        bounded = [one for one in known if one.has_min_max]
        if len(bounded) == len(known):
            low[name] = _plain(min(one.min for one in bounded))
            high[name] = _plain(max(one.max for one in bounded))
    for bounds in (low, high):
        for name in [name for name, value in bounds.items() if _useless(value)]:
            low.pop(name, None)
            high.pop(name, None)
    return {"numRecords": found.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}


def _useless(value: Any) -> bool:
    return isinstance(value, (bool, bytes)) or (isinstance(value, str) and len(value) > _LONG)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    return str(value) if isinstance(value, date) else value
