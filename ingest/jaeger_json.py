"""Jaeger's query-API JSON into `raw_spans`, as received.

Tags, logs and process tags stay the JSON text they came as, which is what makes decoding fast;
`quality` reads them. Big replies go through `ingest.jaeger_scan` where numba is installed, the
others, and what that leaves, through msgspec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec
import polars as pl

from ingest import jaeger_scan
from ingest.batch import REJECTED, Batch, Place
from ingest.chunks import Part
from ingest.jaeger_scan import EDGE
from ingest.spans import Origin, frame, origin_of, owned
from lake import UserError

Raw = msgspec.Raw
Long = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_EMPTY = Raw(b"")
TRACE = re.compile(rb'\{\s*"traceID"\s*:\s*"[^"]*"\s*,\s*"spans"\s*:')


class Reference(msgspec.Struct, rename={"kind": "refType", "trace": "traceID", "span": "spanID"}):
    kind: str = ""
    trace: str = ""
    span: str = ""


class Span(
    msgspec.Struct,
    rename={
        "trace": "traceID",
        "span": "spanID",
        "operation": "operationName",
        "start": "startTime",
        "process": "processID",
        "parent": "parentSpanID",
    },
):
    trace: str = ""
    span: str = ""
    operation: str = ""
    references: list[Reference] | None = None
    start: Long | None = None
    duration: Long | None = None
    tags: Raw = _EMPTY
    logs: Raw = _EMPTY
    process: str = ""
    parent: str | None = None


class Process(msgspec.Struct, rename={"service": "serviceName"}):
    service: str = ""
    tags: Raw = _EMPTY


class Trace(msgspec.Struct):
    spans: list[Span]
    processes: dict[str, Process]


class Reply(msgspec.Struct):
    data: list[Trace]
    errors: Any = None


class _RawTrace(msgspec.Struct):
    spans: list[Raw]
    processes: dict[str, Raw] = {}


class _RawReply(msgspec.Struct):
    data: list[Raw]
    errors: Any = None


class _Found(NamedTuple):
    """How many traces a reply held, and the errors it told of."""

    traces: int
    errors: Any


def whole(part: Part, *, first: bool, origin: str) -> None:
    """Raises UserError where the last part of a reply is cut."""
    try:
        msgspec.json.decode(_reply_of(part, first=first, last=True)[1:-1], type=dict[str, Raw])
    except msgspec.ValidationError:
        return  # of another kind: who decodes it says so
    except ValueError as error:
        raise UserError(f"{_named(part, origin)} is cut or not JSON: {error}.") from error


def decode_part(part: Part, *, first: bool, last: bool, place: Place, origin: str) -> Batch:
    """The spans of a part of a reply; parts begin where a trace does."""
    return _decoded(_reply_of(part, first=first, last=last), place, _named(part, origin))[0]


def _named(part: Part, origin: str) -> str:
    """Where a part comes from, for errors that count bytes from its start."""
    return f"{origin} from byte {part.start:,} on" if part.start else origin


def _reply_of(part: Part, *, first: bool, last: bool) -> memoryview:
    """A reply of the traces of a part, between two `EDGE`."""
    head = EDGE + (b"" if first else b'{"data":[')
    tail = (b"" if last else b"]}") + EDGE
    return part.between(head, tail, b", \r\n\t")


def decode(content: bytes | memoryview, place: Place, origin: str) -> Batch:
    """The spans of one reply.

    A span that is no span (a field of the wrong type) is refused whole, the others stay; so is a
    trace that is none.
    Raises UserError for what is not Jaeger's JSON, or is cut.
    """
    return _decoded(b"".join([EDGE, content, EDGE]), place, origin)[0]


def decode_counted(content: bytes, place: Place, origin: str) -> tuple[Batch, int]:
    """The spans of one reply, and how many traces it held, sound or not.

    Raises UserError also for a reply that tells of errors: it is not whole.
    """
    batch, found = _decoded(b"".join([EDGE, content, EDGE]), place, origin)
    if found.errors:
        raise UserError(f"{origin} tells of errors: {str(found.errors)[:200]}.")
    return batch, found.traces


def _decoded(edged: bytes | memoryview, place: Place, origin: str) -> tuple[Batch, _Found]:
    """The spans of a reply between two `EDGE`."""
    scan = jaeger_scan.read(edged)
    if scan is not None:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            rows = _scanned(scan, place)
            errors = msgspec.json.decode(scan.errors or b"null")
            return Batch(rows, rows.height), _Found(scan.traces, errors)
    content = memoryview(edged)[1:-1]
    refused: list[tuple[str, str]] = []
    try:
        reply = msgspec.json.Decoder(Reply).decode(content)
        rows, traces = _frame(reply.data, place), len(reply.data)
        errors = reply.errors
    except (msgspec.ValidationError, UnicodeDecodeError):
        reply, refused, traces = _one_by_one(bytes(content), origin)
        errors = reply.errors
        rows = _frame(reply.data, place)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is cut or not JSON: {error}.") from error
    rejected = pl.DataFrame(refused, schema=REJECTED, orient="row")
    return Batch(rows, rows.height + rejected.height, rejected), _Found(traces, errors)


def _one_by_one(content: bytes, origin: str) -> tuple[Reply, list[tuple[str, str]], int]:
    """The slow way: for a reply in which something has a field of the wrong type, and for a
    single trace without a reply around it."""
    alone = content.lstrip()[:200].find(b'"data"') < 0 and b'"spans"' in content
    try:
        if alone:
            found = _RawReply([Raw(content)])
            msgspec.json.decode(content, type=_RawTrace)
        else:
            found = msgspec.json.decode(content, type=_RawReply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{origin} is not a reply of Jaeger's query API ({error});"
            ' rootlake reads {"data": [trace, …]} and OTLP JSON.'
        ) from error
    traces: list[Trace] = []
    refused: list[tuple[str, str]] = []
    for raw in found.data:
        try:
            traces.append(_trace(msgspec.json.decode(raw, type=_RawTrace), refused))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append((f"not a trace: {error}", _shown(raw)))
    return Reply(traces, found.errors), refused, len(found.data)


def _trace(found: _RawTrace, refused: list[tuple[str, str]]) -> Trace:
    """The sound spans of a trace; the others are added to `refused`."""
    processes, spans = {}, []
    for name, raw in found.processes.items():
        try:
            processes[name] = msgspec.json.decode(bytes(raw).decode(), type=Process)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # its spans are refused
    for raw in found.spans:
        try:
            span = msgspec.json.decode(bytes(raw).decode(), type=Span)
            if span.process in found.processes and span.process not in processes:
                raise msgspec.ValidationError("its process cannot be read")
            spans.append(span)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append((str(error), _shown(raw)))
    return Trace(spans, processes)


def _shown(raw: Raw) -> str:
    return bytes(raw).decode(errors="backslashreplace")


def _scanned(scan: jaeger_scan.Scan, place: Place) -> pl.DataFrame:
    """The rows of what the compiled loop found."""
    known = [
        _owner(Process(msgspec.json.decode(service or b'""'), Raw(tags)), place)
        for service, tags in scan.origins
    ]
    owners = owned([_owner(None, place), *known])[scan.codes + 1]
    columns = dict(scan.columns)
    rows = [row for row, _ in scan.odd]
    spans = [msgspec.json.decode(text, type=Span) for _, text in scan.odd]
    columns["links"] = pl.repeat(None, owners.height, dtype=pl.String, eager=True)
    for name, values in _references_and_names(spans).items():
        columns[name] = columns[name].scatter(rows, pl.Series(values, dtype=pl.String))
    columns |= {name: _texts(columns[name]) for name in ("attributes", "events")}
    return frame(owners, {**columns, "kind": None, "status": None}, "us")


def _references_and_names(spans: Sequence[Span]) -> Mapping[str, Sequence[str | None]]:
    parents, links = zip(*map(_parent, spans), strict=True) if spans else ((), ())
    return {
        "trace_id": [span.trace for span in spans],
        "span_id": [span.span for span in spans],
        "parent_span_id": parents,
        "operation": [span.operation for span in spans],
        "links": links,
    }


def _frame(traces: Sequence[Trace], place: Place) -> pl.DataFrame:
    spans = [span for trace in traces for span in trace.spans]
    known: dict[tuple[str, bytes], Origin] = {}

    def owner(process: Process | None) -> Origin:
        if process is None:
            return _owner(None, place)
        key = (process.service, bytes(process.tags))
        if key not in known:
            known[key] = _owner(process, place)
        return known[key]

    owners = [
        origin
        for trace in traces
        for by_id in [{key: owner(process) for key, process in trace.processes.items()}]
        for origin in [by_id.get(span.process) or owner(None) for span in trace.spans]
    ]
    return frame(
        owned(owners),
        {
            **_references_and_names(spans),
            "kind": None,
            "start": [span.start for span in spans],
            "duration": [span.duration for span in spans],
            "status": None,
            "attributes": _texts(
                pl.Series([str(span.tags, "utf-8") for span in spans], dtype=pl.String)
            ),
            "events": _texts(
                pl.Series([str(span.logs, "utf-8") for span in spans], dtype=pl.String)
            ),
        },
        "us",
    )


def _owner(process: Process | None, place: Place) -> Origin:
    if process is None:
        return Origin(None, None, place.cluster, place.namespace, place.environment, None)
    return origin_of(process.service, _tags(process.tags), _text(process.tags), place)


def _parent(span: Span) -> tuple[str | None, str | None]:
    """The parent's id and, as JSON text, the references that are not the parent."""
    references = span.references
    if not references:
        return span.parent or None, None
    if len(references) == 1 and references[0].trace == span.trace:
        return references[0].span, None
    return _choose(span, references)


def _choose(span: Span, references: Sequence[Reference]) -> tuple[str | None, str | None]:
    """CHILD_OF in the same trace first, then any CHILD_OF, then FOLLOWS_FROM in the trace."""

    def rank(reference: Reference) -> int:
        same, child = reference.trace == span.trace, reference.kind == "CHILD_OF"
        return 0 if same and child else 1 if child else 2 if same else 3

    order = sorted(references, key=rank)
    parent = order[0] if rank(order[0]) < 3 else None
    rest = [reference for reference in references if reference is not parent]
    links = msgspec.json.encode(rest).decode() if rest else None
    return (parent.span if parent else None), links


def _texts(column: pl.Series) -> pl.Series:
    """JSON texts, null where one is of an empty or null value, as `_text` has it."""
    return column.set((column.str.len_bytes() <= 2) | (column == "null"), None)


def _text(raw: Raw) -> str | None:
    """The JSON text, or nothing for an empty or null value."""
    text = str(raw, "utf-8")
    return None if len(text) <= 2 or text == "null" else text


def _tags(raw: Raw) -> dict[str, Any]:
    text = bytes(raw)
    if not text:
        return {}
    try:
        return {
            tag.key: tag.value for tag in msgspec.json.decode(text, type=list[_Tag] | None) or []
        }
    except msgspec.DecodeError:
        return {}


class _Tag(msgspec.Struct):
    key: str = ""
    value: Any = None
