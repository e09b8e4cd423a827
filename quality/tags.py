"""Attributes, events and links from the JSON text of `raw_spans` into columns.

Each distinct text is read once; texts of everyday spans repeat a lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

PAIRS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
TAGS = pl.Map(pl.String, pl.String)
EVENTS = pl.List(pl.Struct({"ts_ns": pl.Int64, "name": pl.String, "attributes": TAGS}))
LINKS = pl.List(pl.Struct({"trace_id": pl.String, "span_id": pl.String}))

Pair = dict[str, str | None]


def read(texts: Sequence[str], column: str) -> pl.Series:
    """Texts of `events` or `links` as what the clean table holds: lists of structs."""
    make = _events if column == "events" else _links
    kind = EVENTS if column == "events" else LINKS
    return pl.Series([make(text) for text in texts], dtype=_plain(column)).cast(kind)


def _plain(column: str) -> pl.DataType:
    if column == "links":
        return LINKS
    return pl.List(pl.Struct({"ts_ns": pl.Int64, "name": pl.String, "attributes": PAIRS}))


def pairs(text: str) -> list[Pair]:
    """Key and value of every tag, in order; keys made unique."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [{"key": "raw", "value": text}]
    return _pairs(found, text)


def _pairs(found: Any, text: str = "") -> list[Pair]:
    if isinstance(found, dict):
        found = [{"key": key, "value": value} for key, value in found.items()]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return [{"key": "raw", "value": text or _text(found)}]
    seen: dict[str, int] = {}
    out: list[Pair] = []
    for one in found:
        key = str(one.get("key", ""))
        seen[key] = seen.get(key, 0) + 1
        name = key if seen[key] == 1 else f"{key}#{seen[key]}"
        out.append({"key": name, "value": _value(one)})
    return out


def tag(found: Any) -> Pair:
    """Key and value of one tag; both null when it is none."""
    known = isinstance(found, dict)
    return (
        {"key": str(found["key"]), "value": _value(found)}
        if known
        else {"key": None, "value": None}
    )


def _value(tag: dict[str, Any]) -> str | None:
    """Jaeger's plain value, or the one member of OTLP's AnyValue."""
    value = tag.get("value")
    if isinstance(value, dict) and "type" not in tag and len(value) == 1:
        name, value = next(iter(value.items()))
        if name in {"arrayValue", "kvlistValue"}:
            value = value.get("values", []) if isinstance(value, dict) else value
    return _text(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _events(text: str) -> list[dict[str, Any]]:
    """Jaeger's logs (timestamp in µs, fields) or OTLP's events (timeUnixNano, attributes)."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, list):
        return [{"ts_ns": None, "name": "raw", "attributes": [{"key": "raw", "value": text}]}]
    return [_event(one) for one in found if isinstance(one, dict)]


def _event(one: dict[str, Any]) -> dict[str, Any]:
    if "fields" in one or "timestamp" in one:
        fields = _pairs(one.get("fields") or [])
        name = next((pair["value"] for pair in fields if pair["key"] in {"event", "message"}), None)
        return {"ts_ns": _int(one.get("timestamp"), 1000), "name": name, "attributes": fields}
    return {
        "ts_ns": _int(one.get("timeUnixNano"), 1),
        "name": one.get("name"),
        "attributes": _pairs(one.get("attributes") or []),
    }


def _int(value: Any, scale: int) -> int | None:
    try:
        number = int(value) * scale
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1 << 63 else None


def _links(text: str) -> list[dict[str, str | None]]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    names: Sequence[tuple[str, str]] = (
        ("traceID", "spanID"),
        ("traceId", "spanId"),
        ("trace", "span"),
    )
    rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [
        {"trace_id": one.get(trace), "span_id": one.get(span)}
        for one in rows
        for trace, span in names
        if trace in one or span in one
    ]
