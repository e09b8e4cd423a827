"""Values that must not be written: fields named in the configuration, in log lines, attributes
and tags."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from ingest.batch import Batch

MASK = "***"
_TEXTS = {
    "raw_logs": ("body",),
    "raw_spans": ("attributes", "resource", "events"),
    "raw_errors": ("message",),
    "changes": ("diff", "before", "after"),
}
_JSON = {"raw_spans": ("attributes", "resource", "events")}
_MAPS = {"raw_logs": "attributes", "raw_errors": "tags"}


def mask(table: str, batch: Batch, fields: Sequence[str]) -> Batch:
    """The batch with the values of some fields hidden; names are matched in any case."""
    if not fields or table not in _TEXTS:
        return batch
    rows = batch.rows.with_columns(
        _json(batch.rows[name], fields) for name in _JSON.get(table, ()) if name in batch.rows
    )
    rows = rows.with_columns(
        text(pl.col(name), fields).alias(name)
        for name in _TEXTS[table]
        if name in batch.rows.columns
    )
    pairs = _MAPS.get(table)
    if pairs and pairs in rows.columns:
        rows = rows.with_columns(_map(pl.col(pairs), fields, rows.schema[pairs]))
    refused = batch.rejected.with_columns(text(pl.col("raw_row"), fields))
    return dataclasses.replace(batch, rows=rows, rejected=refused)


def text(column: pl.Expr, fields: Sequence[str]) -> pl.Expr:
    """Text in which the fields' values are hidden: `name=value`, `name: value`, `"name": value`,
    and Jaeger's and OTLP's `{"key": "name", …, "value": value}`."""
    names = "|".join(re.escape(field) for field in fields)
    quoted = r"""\\?"(?:[^"\\]|\\[^"]|\\")*?\\?"|'[^']*'"""
    value = rf'(?:{quoted}|(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s,;&}}\]"]+)'
    plain = rf'(?i)(\b(?:{names})(?:\\?")?\s*[=:]\s*){value}'
    keyed = rf'(?i)("key"\s*:\s*"(?:{names})"[^{{}}]*?"value"\s*:\s*(?:\{{\s*"\w+"\s*:\s*)?){value}'
    return column.str.replace_all(keyed, f'${{1}}"{MASK}"').str.replace_all(plain, f"${{1}}{MASK}")


def _json(column: pl.Series, fields: Sequence[str]) -> pl.Series:
    """JSON text of tags with the values of some keys hidden, whatever form and order they have."""
    wanted = {field.lower() for field in fields}
    names = column.unique().drop_nulls()
    names = names.filter(names.str.to_lowercase().str.contains_any(sorted(wanted)))
    swap: dict[str, str] = {}
    for name in names.to_list():
        try:
            swap[name] = msgspec.json.encode(_hidden(msgspec.json.decode(name), wanted)).decode()
        except (ValueError, RecursionError):
            continue  # no JSON: its text is looked at as any
    return column.replace(swap) if swap else column


def _hidden(value: Any, wanted: set[str]) -> Any:
    if isinstance(value, list):
        return [_hidden(one, wanted) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("key", "")).lower() in wanted:
        kind = {"stringValue": MASK} if isinstance(value.get("value"), dict) else MASK
        return {**value, "value": kind}
    return {
        key: MASK if key.lower() in wanted else _hidden(one, wanted) for key, one in value.items()
    }


def _map(column: pl.Expr, fields: Sequence[str], kind: pl.DataType) -> pl.Expr:
    wanted = [field.lower() for field in fields]
    one = pl.element()
    hidden = pl.when(one.struct.field("key").str.to_lowercase().is_in(wanted)).then(pl.lit(MASK))
    pair = pl.struct(key=one.struct.field("key"), value=hidden.otherwise(one.struct.field("value")))
    pairs = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    return column.cast(pairs).list.eval(pair).cast(kind)
