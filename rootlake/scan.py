"""The tables of the Python API as polars LazyFrames.

polars decodes all columns of every row group that may hold a match; DuckDB asks the bloom filter
that `spans` has on trace_id. So where a query wants one trace, its rows come through DuckDB, and
all else is scanned by polars as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import polars as pl
from polars.io.plugins import register_io_source

from lake import TABLES
from lake import Lake as Tables
from lake import sql as query

Wanted = tuple[str, str]


def scanned(lake: Tables, name: str) -> pl.LazyFrame:
    """The newest version of a table."""
    if not TABLES[name].bloom or "://" in lake.root:
        return lake.scan(name)
    version = lake.version(name)
    whole = lake.scan(name, version)

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = None if predicate is None else equal(predicate, TABLES[name].bloom)
        found = whole
        if predicate is not None and wanted is not None:
            names = columns and list(dict.fromkeys([*columns, *predicate.meta.root_names()]))
            found = _found(lake, name, version, wanted, names).lazy()
        if predicate is not None:
            found = found.filter(predicate)
        if columns is not None:
            found = found.select(columns)
        if rows is not None:
            found = found.head(rows)
        yield from found.collect_batches(chunk_size=size)

    return register_io_source(read, schema=whole.collect_schema(), is_pure=True)


def _found(
    lake: Tables, name: str, version: int, wanted: Wanted, names: list[str] | None
) -> pl.DataFrame:
    """All rows of one value, of some columns or all."""
    column, value = wanted
    text = value.replace("'", "''")
    chosen = ", ".join(f'"{one}"' for one in names) if names else "*"
    rows = query(lake, f"SELECT {chosen} FROM {name} WHERE {column} = '{text}'", {name: version})
    return pl.DataFrame(pl.from_arrow(rows))


def equal(predicate: pl.Expr, columns: tuple[str, ...]) -> Wanted | None:
    """One of some columns and the text that a predicate wants it to be, in all rows; None where it
    may want others, or is of a form not known here."""
    try:
        return _equal(msgspec.json.decode(predicate.meta.serialize(format="json")), columns)
    except (msgspec.DecodeError, pl.exceptions.ComputeError):
        return None


def _equal(tree: Any, columns: tuple[str, ...]) -> Wanted | None:
    match tree:
        case {"BinaryExpr": {"op": "And", "left": left, "right": right}}:
            return _equal(left, columns) or _equal(right, columns)
        case {"BinaryExpr": {"op": "Eq", "left": {"Column": str(column)}, "right": other}} | {
            "BinaryExpr": {"op": "Eq", "right": {"Column": str(column)}, "left": other}
        } if column in columns:
            match other:
                case {"Literal": {"Scalar": {"String": str(value)}}}:
                    return column, value
    return None
