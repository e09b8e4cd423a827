"""Frames made to fit a table: strict types, declared order. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TypeAlias

import polars as pl
import pyarrow as pa
from polars._typing import PolarsDataType

from lake.errors import SchemaError, UserError
from lake.schemas import Table

Rows: TypeAlias = pl.DataFrame | pa.Table


def polars_schema(table: Table) -> pl.Schema:
    """The table's columns as polars types."""
    empty = pl.from_arrow(table.schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty.schema


def empty(table: Table) -> pl.DataFrame:
    """A frame of the table's columns without rows."""
    return pl.DataFrame(schema=polars_schema(table))


def fit(table: Table, rows: Rows, *, ordered: bool = False) -> pl.DataFrame:
    """`rows` with exactly the table's columns, in its order and sorted as it declares (`ordered`:
    they are already).

    Only lossless changes of form happen: an all-null column takes its type, a list of
    (key, value) becomes a map. Categories may stand for text. Raises SchemaError for anything
    else, because Delta would store 1.5 in a long column as 1 without a word.
    """
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(pl.from_arrow(rows))
    wanted = polars_schema(table)
    _check_names(table, frame.columns)
    casts = [_cast(table.name, name, frame.schema[name], kind) for name, kind in wanted.items()]
    frame = frame.select(casts)
    return frame if ordered else sort(table, frame)


def check_inside(name: str, partition: Mapping[str, str | date], frame: pl.DataFrame) -> None:
    """UserError when rows lie outside a partition."""
    inside = pl.all_horizontal(pl.col(key) == value for key, value in partition.items())
    strays = frame.filter(~inside.fill_null(value=False)).height
    if strays:
        where = ", ".join(f"{key}={value}" for key, value in partition.items())
        raise UserError(f"{strays} rows lie outside the partition {where} of {name}; not written.")


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with text in the place of categories."""
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def sort(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the table's declared order; equal keys keep the order they came in."""
    keys = [_sort_key(text) for text in table.sort_by]
    return frame.sort(keys, maintain_order=True, nulls_last=True)


def _sort_key(text: str) -> pl.Expr:
    if text.startswith("minute("):
        return pl.col(text[len("minute(") : -1]).dt.truncate("1m")
    return pl.col(text)


def _check_names(table: Table, columns: list[str]) -> None:
    wanted = table.schema.names
    missing = [name for name in wanted if name not in columns]
    extra = [name for name in columns if name not in wanted]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown {', '.join(extra)}"] if extra else []
        raise SchemaError(
            f"rows for {table.name} {' and '.join(parts)}; its columns are {', '.join(wanted)}."
        )


def _cast(table: str, name: str, have: pl.DataType, want: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if have == want or (have == pl.Categorical and want == pl.String):
        return column
    if _lossless(have, want):
        return column.cast(want)
    raise SchemaError(f"{table}.{name} holds {want}, the rows bring {have}; nothing was written.")


def _lossless(have: pl.DataType, want: pl.DataType) -> bool:
    """Whether a cast keeps every value: nulls take any type, pairs make a map."""
    if have == want or have == pl.Null:
        return True
    if isinstance(want, pl.Map):
        return _is_pairs(have)
    if isinstance(want, pl.List) and isinstance(have, pl.List):
        return _lossless(_inner(have), _inner(want))
    if isinstance(want, pl.Struct) and isinstance(have, pl.Struct):
        mine, theirs = have.to_schema(), want.to_schema()
        return list(mine) == list(theirs) and all(
            _lossless(_whole(mine[key]), _whole(theirs[key])) for key in theirs
        )
    return False


def _inner(kind: pl.List) -> pl.DataType:
    return _whole(kind.inner)


def _whole(kind: PolarsDataType) -> pl.DataType:
    return kind if isinstance(kind, pl.DataType) else kind()


def _is_pairs(kind: pl.DataType) -> bool:
    if not isinstance(kind, pl.List):
        return False
    inner = _inner(kind)
    if inner == pl.Null:
        return True
    return isinstance(inner, pl.Struct) and list(inner.to_schema()) == ["key", "value"]
