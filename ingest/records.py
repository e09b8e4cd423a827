"""Records that already have a table's columns, as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from ingest.batch import Batch, Place
from lake import TABLES, UserError

_OWN = {"date", "source", "batch", "arrival", "ingested_at"}


def decode(table: str, text: str, required: Sequence[str], place: Place, origin: str) -> Batch:
    """Rows of `table`; a line that is none is refused with its reason.

    Raises UserError for a column the table does not have, naming the line.
    """
    schema = {f.name: f.type for f in TABLES[table].schema if f.name not in _OWN}
    rows: list[dict[str, Any]] = []
    refused: list[tuple[str, str]] = []
    for number, line, record in _records(text, origin):
        if record is None:
            refused.append(("not a JSON object, or more cells than the header has", line))
            continue
        unknown = [name for name in record if name not in schema and name != "date"]
        if unknown:
            raise UserError(
                f"{origin}, line {number}: {table} has no column {unknown[0]!r};"
                f" it has {', '.join(schema)}."
            )
        try:
            rows.append(_row(record, schema, required, place))
        except (ValueError, TypeError, OverflowError) as error:
            refused.append((str(error), line))
    fitted = pl.DataFrame(
        pl.from_arrow(pa.Table.from_pylist(rows, pa.schema(list(schema.items()))))
    )
    rejected = pl.DataFrame(refused, schema=["reason", "raw_row"], orient="row").cast(pl.String)
    return Batch(fitted, len(rows) + len(refused), rejected)


def _records(text: str, origin: str) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and not lines[0].lstrip().startswith("{"):
        if "," not in lines[0]:
            raise UserError(f"{origin} is neither JSON lines nor CSV with a header.")
        yield from _cells(text, origin)
        return
    for number, line in enumerate(lines, 1):
        try:
            found = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            found = None
        yield number, line, found if isinstance(found, dict) else None


def _cells(text: str, origin: str) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """A CSV file's records; None for a line with more cells than the header."""
    read = csv.DictReader(io.StringIO(text.replace("\r\n", "\n"), newline=""), strict=True)
    try:
        for record in read:
            given = {key: one for key, one in record.items() if key and one not in ("", None)}
            yield read.line_num, str(record), None if None in record else given
    except csv.Error as error:
        raise UserError(f"{origin}, line {read.line_num}: not CSV: {error}.") from error


def _row(
    record: dict[str, Any], schema: dict[str, pa.DataType], required: Sequence[str], place: Place
) -> dict[str, Any]:
    row = {name: _value(name, record.get(name), kind) for name, kind in schema.items()}
    for name in required:
        if row[name] is None:
            raise ValueError(f"no {name}")
    for name in ("cluster", "namespace", "environment"):
        row[name] = row.get(name) or getattr(place, name)
    return row


def _value(name: str, value: Any, kind: pa.DataType) -> Any:
    """A field in the column's type. Raises ValueError naming the column."""
    if value is None:
        return None
    try:
        if pa.types.is_timestamp(kind):
            return _moment(value)
        if pa.types.is_floating(kind):
            return float(value)
        if pa.types.is_integer(kind):
            return pa.scalar(int(value), kind).as_py()
        if pa.types.is_list(kind):
            return [str(one) for one in (value if isinstance(value, list) else [value])]
    except (ValueError, TypeError, OverflowError, OSError, pa.ArrowException):
        raise ValueError(f"{name} = {value!r} is not of the column's type {kind}") from None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _moment(value: Any) -> datetime:
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    read = datetime.fromisoformat(value)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
