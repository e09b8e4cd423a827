"""Logs into `raw_logs`, one row per physical line: a Kubernetes node's `pods/` tree (docker-JSON
or CRI form), or JSON lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from ingest.batch import Batch, Place
from lake import UserError

_POD = re.compile(r"^(?P<namespace>[^_]+)_(?P<pod>[^_]+)_(?P<uid>[^_]+)$")
_REPLICA = re.compile(r"^(.+?)(-[a-z0-9]{6,10})?-[a-z0-9]{5}$|^(.+)-\d+$")
_CRI = r"^(?<ts>\d{4}-\S+) (?<stream>stdout|stderr) (?<tag>[PF])(?:[:\w]*) ?(?<body>.*)$"
_TRACE = r"""(?i)trace[_.-]?id["']?\s*[:=]\s*["']?([0-9a-zA-Z+/=-]{8,40})"""
_SPAN = r"""(?i)span[_.-]?id["']?\s*[:=]\s*["']?([0-9a-zA-Z+/=-]{8,40})"""
_PARENT = r"\b00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\b"
_WORD = r"\b(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|FATAL|CRITICAL|PANIC)\b"
_FIELD = r"""(?i)(?:level|severity|lvl)["']?\s*[:=]\s*["']?([a-z]+)"""
_LEVELS = {
    "NOTICE": "INFO",
    "WARNING": "WARN",
    "ERR": "ERROR",
    "SEVERE": "ERROR",
    "CRITICAL": "FATAL",
    "PANIC": "FATAL",
}
_COLUMNS = ("ts", "service", "severity", "body", "trace_id", "span_id", "attributes")
_OTHERS = ("pod", "node", "cluster", "namespace", "environment")
_ROWS = pl.Schema({**dict.fromkeys((*_COLUMNS, *_OTHERS), pl.String)})


class DockerLine(msgspec.Struct):
    log: str
    time: str
    stream: str | None = None


class Pod(NamedTuple):
    """Whose log a file in a `pods/` tree is."""

    namespace: str
    pod: str
    uid: str
    container: str


def pod_of(path: Path) -> Pod | None:
    """The pod a path tells of, None outside a `pods/` tree."""
    found = _POD.match(path.parent.parent.name)
    if not found:
        return None
    return Pod(found["namespace"], found["pod"], found["uid"], path.parent.name)


def service_of(pod: str) -> str:
    """A pod's name without what its ReplicaSet, DaemonSet or StatefulSet appended."""
    found = _REPLICA.match(pod)
    return (found[1] or found[3]) if found else pod


def decode_container(text: str, pod: Pod, place: Place, file: str) -> Batch:
    """The lines of one container's log, each docker's JSON or CRI."""
    lines = _lines(text)
    docker = pl.col("line").str.starts_with("{")
    read = pl.concat([_docker(lines.filter(docker)), _cri(lines.filter(~docker))]).sort("arrival")
    good = pl.col("ts").is_not_null()
    rows = read.filter(good).with_columns(
        pl.lit(service_of(pod.pod)).alias("service"),
        pl.lit(pod.pod).alias("pod"),
        pl.lit(None, pl.String).alias("node"),
        pl.lit(pod.namespace).alias("namespace"),
        pl.lit(place.cluster, pl.String).alias("cluster"),
        pl.lit(place.environment, pl.String).alias("environment"),
        _pairs(
            container=pl.lit(pod.container),
            pod_uid=pl.lit(pod.uid),
            stream=pl.col("stream"),
            file=pl.lit(file),
        ).alias("attributes"),
        *read_body(),
    )
    other = pl.lit("not a CRI line")
    reason = pl.when(pl.col("line").str.starts_with("{")).then(
        pl.lit("not a line of docker's JSON")
    )
    rejected = read.filter(~good).select(reason.otherwise(other).alias("reason"), raw_row="line")
    return Batch(rows.drop("stream", "line"), lines.height, rejected)


def _lines(text: str) -> pl.DataFrame:
    lines = pl.DataFrame({"line": [text.removesuffix("\n")]})
    lines = lines.select(pl.col("line").str.split("\n").explode())
    return (
        lines.with_row_index("arrival")
        .with_columns(pl.col("arrival").cast(pl.Int64))
        .filter(pl.col("line").str.strip_chars() != "")
    )


def _docker(lines: pl.DataFrame) -> pl.DataFrame:
    """log, stream and time of each line; a line that is no such object has no time."""
    decoder = msgspec.json.Decoder(DockerLine)
    texts = lines["line"].to_list()
    try:
        found: list[DockerLine | None] = list(decoder.decode_lines("\n".join(texts)))
    except (ValueError, RecursionError):
        found = [_tried(decoder, text) for text in texts]
    body = pl.Series("body", [one.log if one else None for one in found], pl.String)
    time = pl.Series("time", [one.time if one else None for one in found], pl.String)
    stream = pl.Series("stream", [one.stream if one else None for one in found], pl.String)
    return lines.with_columns(body, time, stream).select(
        "arrival",
        "line",
        "stream",
        _moment("time").alias("ts"),
        pl.col("body").str.strip_suffix("\n").alias("body"),
        (~pl.col("body").str.ends_with("\n")).fill_null(value=False).alias("partial"),
    )


def _tried(decoder: msgspec.json.Decoder[DockerLine], text: str) -> DockerLine | None:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError):
        return None


def _cri(lines: pl.DataFrame) -> pl.DataFrame:
    parts = lines.with_columns(pl.col("line").str.extract_groups(_CRI).alias("part")).unnest("part")
    return parts.select(
        "arrival",
        "line",
        "stream",
        _moment("ts").alias("ts"),
        "body",
        (pl.col("tag") == "P").fill_null(value=False).alias("partial"),
    )


def _moment(column: str) -> pl.Expr:
    """An RFC 3339 time, cut to microseconds."""
    return pl.col(column).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)


def read_body() -> list[pl.Expr]:
    """Severity, trace id and span id as a line's own text gives them; null where it does not."""
    head = pl.col("body").str.slice(0, 400)
    word = pl.coalesce(head.str.extract(_FIELD), head.str.slice(0, 120).str.extract(_WORD))
    return [
        severity(word).alias("severity"),
        pl.coalesce(
            pl.col("body").str.extract(_TRACE), pl.col("body").str.extract(_PARENT, 1)
        ).alias("trace_id"),
        pl.coalesce(
            pl.col("body").str.extract(_SPAN), pl.col("body").str.extract(_PARENT, 2)
        ).alias("span_id"),
    ]


def severity(word: pl.Expr) -> pl.Expr:
    """OpenTelemetry's short names; anything else in upper case."""
    return word.str.to_uppercase().replace(_LEVELS)


def _pairs(**values: pl.Expr) -> pl.Expr:
    """A map of the given attributes."""
    pairs = [
        pl.struct(key=pl.lit(key), value=value.cast(pl.String)) for key, value in values.items()
    ]
    return pl.concat_list(pairs).cast(pl.Map(pl.String, pl.String))


def decode_lines(text: str, mapping: Mapping[str, str], place: Place, origin: str | None) -> Batch:
    """JSON lines with ts, service, severity, body, …; `mapping` names other fields for them.

    Fields that fill no column are kept as attributes. A line that is no object, or whose time
    cannot be read, is refused. Raises UserError when no line of `origin` is an object with a time;
    with None for it, they are all refused.
    """
    lines = _lines(text)
    wanted = {column: mapping.get(column, column) for column in (*_COLUMNS, *_OTHERS)}
    read = [_object(line, wanted) for line in lines["line"].to_list()]
    rows = pl.DataFrame([row or {} for row in read], schema={**_ROWS, "attributes": pl.List(_PAIR)})
    rows = pl.concat([lines, rows], how="horizontal").with_columns(_any_moment())
    good = pl.col("ts").is_not_null()
    if origin and lines.height and not rows.filter(good).height:
        raise UserError(
            f"{origin} holds no JSON line with a time in {wanted['ts']!r};"
            " name the field with --map ts=FIELD."
        )
    found = {one.meta.output_name(): one for one in read_body()}
    kept = rows.filter(good).with_columns(
        pl.coalesce(severity(pl.col("severity")), found["severity"]).alias("severity"),
        pl.coalesce("trace_id", found["trace_id"]).alias("trace_id"),
        pl.coalesce("span_id", found["span_id"]).alias("span_id"),
        pl.col("cluster").fill_null(pl.lit(place.cluster, pl.String)),
        pl.col("namespace").fill_null(pl.lit(place.namespace, pl.String)),
        pl.col("environment").fill_null(pl.lit(place.environment, pl.String)),
        pl.col("attributes").cast(pl.Map(pl.String, pl.String)),
        pl.lit(value=False).alias("partial"),
    )
    rejected = rows.filter(~good).select(
        pl.lit("no JSON object with a time").alias("reason"), raw_row="line"
    )
    return Batch(kept.drop("line"), lines.height, rejected.cast(pl.String))


_PAIR = pl.Struct({"key": pl.String, "value": pl.String})


def _object(line: str, wanted: Mapping[str, str]) -> dict[str, Any] | None:
    """One line's fields as text, what fills no column gathered in `attributes`."""
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    extra = found.pop(wanted["attributes"], None)
    pairs = dict(extra) if isinstance(extra, dict) else {} if extra is None else {"value": extra}
    row: dict[str, Any] = {
        column: _plain(found.pop(field))
        for column, field in wanted.items()
        if field in found and column != "attributes"
    }
    pairs.update(found)
    row["attributes"] = [{"key": key, "value": _plain(value)} for key, value in pairs.items()]
    return row


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _any_moment() -> pl.Expr:
    """A time as RFC 3339, or as a number of seconds, ms, µs or ns since 1970, cut to
    microseconds."""
    whole = pl.col("ts").cast(pl.Int64, strict=False)
    number = pl.col("ts").cast(pl.Float64, strict=False)
    size = number.abs()
    counted = (
        pl.when(size < 1e11)
        .then(_scaled(whole, number, 1_000_000))
        .when(size < 1e14)
        .then(_scaled(whole, number, 1000))
        .when(size < 1e17)
        .then(_scaled(whole, number, 1))
        .otherwise(whole.floordiv(1000))
    )
    return pl.coalesce(_moment("ts"), counted.cast(pl.Datetime("us", "UTC"))).alias("ts")


def _scaled(whole: pl.Expr, number: pl.Expr, factor: int) -> pl.Expr:
    """A number in microseconds: exactly where it is whole."""
    return pl.coalesce(whole * factor, (number * factor).round().cast(pl.Int64, strict=False))


def whole_lines(content: bytes) -> int:
    """Up to which byte a file that may still be written to holds finished lines."""
    end = len(content)
    while end:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        if _finished(content[begin:end]):
            return end
        end = begin
    return 0


def _finished(line: bytes) -> bool:
    """Whether a last line is finished: it ends with a line break, or is a whole JSON object; and
    the container's runtime did not cut it."""
    text = line.rstrip(b"\r\n")
    if text.startswith(b"{"):
        if not line.endswith(b"\n") and not _is_json(text):
            return False
        return b'"log":"' not in text or b'\\n"' in text
    return line.endswith(b"\n") and text.split(b" ", 3)[2:3] != [b"P"]


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True
