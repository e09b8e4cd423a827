"""OTLP JSON: the collector's file exporter (traces and logs), and Jaeger's API v3.

One object, or one object per line. Attributes stay the JSON text they came as.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import polars as pl

from ingest import chunks, files, otlp_logs
from ingest.batch import REJECTED, Batch, Piece, Place, content_id
from ingest.otlp_logs import exports
from ingest.source import Source
from ingest.spans import Origin, frame, origin_of, owned
from ingest.window import Window
from lake import UserError

Raw = msgspec.Raw
_EMPTY = Raw(b"")
_LINE = re.compile(rb'(?<=\n)\{\s*"resource(Spans|Logs)"')
_SIGNAL = re.compile(rb'"(resourceSpans|resourceLogs|resourceMetrics)"\s*:')
_TABLE = {"resourceSpans": "raw_spans", "resourceLogs": "raw_logs"}
_KINDS = (None, "internal", "server", "client", "producer", "consumer")
_CODES = ("unset", "ok", "error")


class Value(msgspec.Struct, rename="camel", frozen=True):
    string_value: Any = None
    int_value: Any = None
    bool_value: Any = None
    double_value: Any = None


class Attribute(msgspec.Struct):
    key: str = ""
    value: Value = Value()


class Status(msgspec.Struct, frozen=True):
    code: int | str = 0
    message: str = ""


class Span(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: Raw = _EMPTY
    events: Raw = _EMPTY
    links: Raw = _EMPTY
    status: Status = Status()


class Scope(msgspec.Struct):
    spans: list[Span] = []


class Resource(msgspec.Struct, frozen=True):
    attributes: Raw = _EMPTY


class ResourceSpans(msgspec.Struct, rename="camel"):
    resource: Resource = Resource()
    scope_spans: list[Scope] = []


class Export(msgspec.Struct, rename="camel"):
    resource_spans: list[ResourceSpans] = []
    result: _Result | None = None
    error: Any = None  # a stream of API v3 that broke off


class _Result(msgspec.Struct, rename="camel"):
    resource_spans: list[ResourceSpans] = []


class _RawExport(msgspec.Struct, rename="camel"):
    resource_spans: list[Raw] = []
    result: _RawResult | None = None


class _RawResult(msgspec.Struct, rename="camel"):
    resource_spans: list[Raw] = []


class _RawScope(msgspec.Struct):
    spans: list[Raw] = []


class _RawGroup(msgspec.Struct, rename="camel"):
    resource: Resource = Resource()
    scope_spans: list[_RawScope] = []


class Otlp(Source):
    """One piece per file and signal."""

    name = "otlp"
    about = "traces and logs: OTLP JSON of an OpenTelemetry collector's file exporter"

    def read(self, _window: Window) -> Iterator[Piece]:
        """Every file below the target."""
        found = files.files(self.given.target, ".json", ".jsonl")
        for path, share in files.shares(found):
            if chunks.is_big(path):
                with chunks.plain(path) as file:
                    for signal in signals(file.open("rb"), path):
                        yield from big(file, self.given.place, "otlp", str(path), signal)
                continue
            content = files.content(path)
            name = content_id(content)
            for signal in signals(io.BytesIO(content), path):
                work = partial(_DECODERS[signal], content, self.given.place, str(path))
                yield Piece(_TABLE[signal], "otlp", name, 1, work, str(path), share=share)


def signals(file: BinaryIO, path: Path) -> list[str]:
    """Which signals an export holds. UserError where it holds metrics, or none that is read."""
    seen = set[bytes]()
    with file:
        rest = b""
        while block := file.read(8 << 20):
            seen |= set(_SIGNAL.findall(rest + block))
            rest = block[-32:]
    if b"resourceMetrics" in seen:
        raise UserError(
            f"{path} holds OTLP metrics, which are not read from files: pull them from Prometheus,"
            " and give the collector an exporter for traces and logs alone."
        )
    found = [name for name in _TABLE if name.encode() in seen]
    if not found:
        raise UserError(f"{path} holds neither resourceSpans nor resourceLogs.")
    return found


def big(
    file: Path, place: Place, source: str, origin: str, signal: str = "resourceSpans"
) -> Iterator[Piece]:
    """A big file in parts, of whole lines."""
    parts = chunks.cut(file, _LINE)
    work = [partial(_decode_part, part, place, origin, signal) for part in parts]
    work[-1]()  # a cut file is found out before any of it is written
    name = chunks.file_id(file)
    yield Piece(_TABLE[signal], source, name, 1, work[0], origin, parts=work)


def _decode_part(part: chunks.Part, place: Place, origin: str, signal: str) -> Batch:
    return _DECODERS[signal](part.content(), place, origin)


def decode(content: bytes, place: Place, origin: str) -> Batch:
    """The spans of one export, or one per line. A span that is none is refused whole.

    Raises UserError for what is not OTLP JSON, or is cut.
    """
    refused: list[tuple[str, str]] = []
    try:
        groups = _groups(exports(content, Export))
        rows = _frame(groups, place)
    except (msgspec.ValidationError, UnicodeDecodeError):
        groups = _one_by_one(content, origin, refused)
        rows = _frame(groups, place)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not OTLP JSON: {error}.") from error
    if not groups and not refused:
        raise UserError(f"{origin} holds no resourceSpans; is it another signal's export?")
    rejected = pl.DataFrame(refused, schema=REJECTED, orient="row")
    return Batch(rows, rows.height + rejected.height, rejected)


def _groups(found: list[Export]) -> list[ResourceSpans]:
    broken = next((one.error for one in found if one.error), None)
    if broken:
        raise msgspec.DecodeError(f"it ends in an error: {broken}"[:200])
    return [
        group
        for one in found
        for group in (*one.resource_spans, *(one.result.resource_spans if one.result else ()))
    ]


def _one_by_one(content: bytes, origin: str, refused: list[tuple[str, str]]) -> list[ResourceSpans]:
    """The slow way, for an export in which something has a field of the wrong type: the sound
    spans; the others are added to `refused`."""
    try:
        found = exports(content, _RawExport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not OTLP JSON: {error}.") from error
    raw = [one for export in found for one in export.resource_spans]
    raw += [one for export in found if export.result for one in export.result.resource_spans]
    groups = []
    for group in raw:
        try:
            about = msgspec.json.decode(bytes(group).decode(), type=_RawGroup)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refused.append((f"no resource's spans: {error}", _shown(group)))
            continue
        spans = list[Span]()
        for one in (one for scope in about.scope_spans for one in scope.spans):
            try:
                spans.append(msgspec.json.decode(one, type=Span))
            except msgspec.DecodeError as error:
                refused.append((str(error), _shown(one)))
        groups.append(ResourceSpans(about.resource, [Scope(spans)]))
    return groups


def _shown(raw: Raw) -> str:
    return bytes(raw).decode(errors="backslashreplace")


def _frame(groups: list[ResourceSpans], place: Place) -> pl.DataFrame:
    spans = [span for group in groups for scope in group.scope_spans for span in scope.spans]
    owners: list[Origin] = []
    for group in groups:
        tags = _tags(group.resource.attributes)
        service = tags.get("service.name")
        origin = origin_of(service, tags, _text(group.resource.attributes), place)
        owners += [origin] * sum(len(scope.spans) for scope in group.scope_spans)
    starts = [_nanos(span.start_time_unix_nano) for span in spans]
    ends = [_nanos(span.end_time_unix_nano) for span in spans]
    return frame(
        owned(owners),
        {
            "trace_id": [_hex(span.trace_id, 16) for span in spans],
            "span_id": [_hex(span.span_id, 8) for span in spans],
            "parent_span_id": [_hex(span.parent_span_id, 8) or None for span in spans],
            "operation": [span.name for span in spans],
            "kind": [_kind(span.kind) for span in spans],
            "start": starts,
            "duration": [
                None if end is None or start is None else end - start
                for start, end in zip(starts, ends, strict=True)
            ],
            "status": [_status(span.status.code) for span in spans],
            "attributes": [_text(span.attributes) for span in spans],
            "events": [_text(span.events) for span in spans],
            "links": [_text(span.links) for span in spans],
        },
        "ns",
    )


def _hex(text: str, size: int) -> str:
    """The id as hex: some exporters write protobuf's base64, whose length tells it apart."""
    if len(text) != -(-size // 3) * 4:
        return text
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        return text
    return found.hex() if len(found) == size else text


def _nanos(value: int | str) -> int | None:
    """The number; None for what is none, or what no column holds."""
    try:
        found = int(value)
    except ValueError:
        return None
    return found if abs(found) < 1 << 63 else None


def _kind(value: int | str) -> str | None:
    if isinstance(value, str):
        return value.removeprefix("SPAN_KIND_").lower() or None
    return _KINDS[value] if 0 <= value < len(_KINDS) else None


def _status(value: int | str) -> str:
    if isinstance(value, str):
        return value.removeprefix("STATUS_CODE_").lower() or "unset"
    return _CODES[value] if 0 <= value < len(_CODES) else "unset"


def _text(raw: Raw) -> str | None:
    text = bytes(raw)
    return None if len(text) <= 2 or text == b"null" else text.decode()


def _tags(raw: Raw) -> dict[str, Any]:
    text = bytes(raw)
    if len(text) <= 2:
        return {}
    try:
        found = msgspec.json.decode(text, type=list[Attribute])
    except msgspec.DecodeError:
        return {}
    return {one.key: _plain(one.value) for one in found}


def _plain(value: Value) -> Any:
    values = (value.string_value, value.int_value, value.bool_value, value.double_value)
    return next((one for one in values if one is not None), None)


_DECODERS = {"resourceSpans": decode, "resourceLogs": otlp_logs.decode}
