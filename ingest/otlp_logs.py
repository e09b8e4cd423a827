"""OTLP JSON into `raw_logs`: log records as the collector's file exporter writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import polars as pl

from ingest.batch import Batch, Place
from ingest.log_lines import read_body, severity
from ingest.spans import Origin, origin_of
from lake import UserError

T = TypeVar("T")
_POD = ("k8s.pod.name", "pod")
_NODE = ("k8s.node.name", "host.name", "host.id")
_NAMES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_TEXTS = ("service", "pod", "node", "severity", "body", "trace_id", "span_id")
_PLACE = ("cluster", "namespace", "environment")
_PAIRS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
_ROWS: dict[str, Any] = {
    "ts": pl.Int64,
    **dict.fromkeys((*_TEXTS, *_PLACE), pl.String),
    "attributes": _PAIRS,
}
_LATEST = (datetime(9999, 12, 31, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
    microseconds=1
)


class Attribute(msgspec.Struct):
    key: str = ""
    value: dict[str, Any] | None = None


class Record(msgspec.Struct, rename="camel"):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    severity_number: int | str = 0
    severity_text: str = ""
    body: dict[str, Any] | None = None
    attributes: list[Attribute] = []
    trace_id: str = ""
    span_id: str = ""


class Scope(msgspec.Struct, rename="camel"):
    log_records: list[Record] = []


class Resource(msgspec.Struct, frozen=True):
    attributes: tuple[Attribute, ...] = ()


class ResourceLogs(msgspec.Struct, rename="camel"):
    resource: Resource = Resource()
    scope_logs: list[Scope] = []


class Export(msgspec.Struct, rename="camel"):
    resource_logs: list[ResourceLogs] = []


class _RawExport(msgspec.Struct, rename="camel"):
    resource_logs: list[msgspec.Raw] = []


class _RawScope(msgspec.Struct, rename="camel"):
    log_records: list[msgspec.Raw] = []


class _RawGroup(msgspec.Struct, rename="camel"):
    resource: Resource = Resource()
    scope_logs: list[_RawScope] = []


def decode(content: bytes, place: Place, origin: str) -> Batch:
    """The log records of one export, or one per line. A record without a time is refused.

    Raises UserError for what is not OTLP JSON, or is cut.
    """
    rows: list[dict[str, Any]] = []
    refused: list[tuple[str, str]] = []
    try:
        groups = [group for one in exports(content, Export) for group in one.resource_logs]
    except (msgspec.ValidationError, UnicodeDecodeError):
        groups = _one_by_one(content, origin, refused)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not OTLP JSON: {error}.") from error
    for group in groups:
        tags = {pair.key: _text(pair.value) for pair in group.resource.attributes}
        owner = origin_of(tags.get("service.name"), tags, None, place)
        for record in (record for scope in group.scope_logs for record in scope.log_records):
            row = _row(record, owner, tags)
            if row is None:
                refused.append(("a log record without a time", _whole(record)))
            else:
                rows.append(row)
    return _batch(rows, refused)


def exports(content: bytes, kind: type[T]) -> list[T]:
    """An export's objects: one, or one per line."""
    decoder = msgspec.json.Decoder(kind)
    try:
        return [decoder.decode(content)]
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decoder.decode_lines(content)


def _one_by_one(content: bytes, origin: str, refused: list[tuple[str, str]]) -> list[ResourceLogs]:
    """The slow way, for an export in which something has a field of the wrong type: the sound
    records; the others are added to `refused`."""
    try:
        raw = [group for one in exports(content, _RawExport) for group in one.resource_logs]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not OTLP JSON: {error}.") from error
    groups = []
    for group in raw:
        try:
            about = msgspec.json.decode(bytes(group).decode(), type=_RawGroup)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            told = bytes(group).decode(errors="backslashreplace")
            refused.append((f"no resource's logs: {error}", told))
            continue
        records = list[Record]()
        for one in (one for scope in about.scope_logs for one in scope.log_records):
            try:
                records.append(msgspec.json.decode(one, type=Record))
            except msgspec.DecodeError as error:
                refused.append((str(error), bytes(one).decode(errors="backslashreplace")))
        groups.append(ResourceLogs(about.resource, [Scope(records)]))
    return groups


def _batch(rows: list[dict[str, Any]], refused: list[tuple[str, str]]) -> Batch:
    told = {one.meta.output_name(): one for one in read_body()}
    frame = pl.DataFrame(rows, schema=_ROWS).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")),
        pl.coalesce(severity(pl.col("severity")), told["severity"]).alias("severity"),
        pl.coalesce("trace_id", told["trace_id"]).alias("trace_id"),
        pl.coalesce("span_id", told["span_id"]).alias("span_id"),
        pl.col("attributes").cast(pl.Map(pl.String, pl.String)),
        pl.lit(value=False).alias("partial"),
    )
    rejected = pl.DataFrame(
        refused, schema={"reason": pl.String, "raw_row": pl.String}, orient="row"
    )
    return Batch(frame, len(rows) + len(refused), rejected)


def _row(record: Record, owner: Origin, tags: dict[str, str | None]) -> dict[str, Any] | None:
    """One record's columns; None where it says no time."""
    at = _micros(record.time_unix_nano) or _micros(record.observed_time_unix_nano)
    if at is None:
        return None
    seen: dict[str, int] = {}
    pairs = []
    for one in record.attributes:
        seen[one.key] = seen.get(one.key, 0) + 1
        name = one.key if seen[one.key] == 1 else f"{one.key}#{seen[one.key]}"
        pairs.append({"key": name, "value": _text(one.value)})
    return {
        "ts": at,
        "service": owner.service,
        "pod": _first(tags, _POD),
        "node": _first(tags, _NODE),
        "severity": record.severity_text or _named(record.severity_number),
        "body": _text(record.body),
        "trace_id": record.trace_id or None,
        "span_id": record.span_id or None,
        **{name: getattr(owner, name) for name in _PLACE},
        "attributes": pairs,
    }


def _first(tags: dict[str, str | None], keys: tuple[str, ...]) -> str | None:
    return next((tags[key] for key in keys if tags.get(key)), None)


def _micros(nanos: int | str) -> int | None:
    """Microseconds since 1970; None for no time, or one no calendar holds."""
    try:
        found = int(nanos) // 1000
    except ValueError:
        return None
    return found if 0 < found < _LATEST else None


def _named(number: int | str) -> str | None:
    """OpenTelemetry's severity numbers: four to a name."""
    if isinstance(number, str):
        return number.removeprefix("SEVERITY_NUMBER_").rstrip("0123456789") or None
    return _NAMES[(number - 1) // 4] if 1 <= number <= 24 else None


def _text(value: dict[str, Any] | None) -> str | None:
    """An AnyValue as text: strings as they are, what is nested as JSON."""
    if not value:
        return None
    _, found = next(iter(value.items()))
    if found is None or isinstance(found, str):
        return found
    return msgspec.json.encode(found).decode()


def _whole(record: Record) -> str:
    return msgspec.json.encode(record).decode()
